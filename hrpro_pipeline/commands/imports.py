"""`hrpro import`: published features and checkpoints."""

from collections.abc import Sequence
from pathlib import Path

from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.configs.presets import DEFAULT_PRESET
from hrpro_pipeline.data.archive import import_archive
from hrpro_pipeline.data.files import read_text
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.models import published
from hrpro_pipeline.models.checkpoint import FILE_NAME, TrainedModel, save_model


def import_features(
    archive: str | Path, out: str | Path, *, preset: str = DEFAULT_PRESET, overrides: Sequence[str] = ()
) -> list[str]:
    """Convert a published feature archive, `features/{train,test}/VIDEO.npy` beside `gt_full.json` -> the video ids.

    Args:
        archive: folder of the archive.
        out: FEATURES folder to write.
        preset, overrides: give the clock that the features were made with; the arrays do not say.

    Raises:
        HrproError: every file that is unusable, or a clock that does not fit the durations; nothing is written then.
    """
    settings = load_settings(preset, overrides).extract
    clock = SnippetClock(settings.fps, settings.snippet_frames, settings.stride)
    return import_archive(Path(archive), Path(out), clock)


def import_checkpoint(
    stage1: str | Path,
    stage2: str | Path | None,
    out: str | Path,
    *,
    classes: str | Path,
    preset: str = DEFAULT_PRESET,
    overrides: Sequence[str] = (),
) -> TrainedModel:
    """Convert state dicts that the published HR-Pro code saved, and write the model.

    Args:
        stage1, stage2: state dicts of the two stages; `stage2` may be None.
        out: folder for `model.pt`, or a file ending in .pt.
        classes: file of the class names in the model's order, one a line.
        preset, overrides: settings of post-processing and extraction.

    Raises:
        HrproError: a file that cannot be read, another number of classes, or tensors that do not fit.
    """
    lines = map(class_name, read_text(Path(classes), "class names, one a line").splitlines())
    names = [line for line in lines if line]
    second = None if stage2 is None else Path(stage2)
    model = published.import_checkpoint(Path(stage1), second, names, load_settings(preset, overrides))
    save_model(model_file(Path(out)), model)
    return model


def model_file(out: Path) -> Path:
    """Where a model is written to: the file itself, or `model.pt` in a folder."""
    return out if out.suffix == ".pt" else out / FILE_NAME
