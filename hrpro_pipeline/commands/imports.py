"""`hrpro import`: features of other programs, and published checkpoints."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from hrpro_pipeline.base.functions import function_of
from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.configs.presets import DEFAULT_PRESET
from hrpro_pipeline.data.feature_files.choices import ClockChoice, Crops, Orientation, ReadAs
from hrpro_pipeline.data.feature_files.importing import import_files
from hrpro_pipeline.data.files import read_text
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.models import published
from hrpro_pipeline.models.checkpoint import FILE_NAME, TrainedModel, save_model


@dataclass(frozen=True)
class ImportingFeatures:
    """Convert feature files of other programs to the feature store -> the video ids.

    What a folder holds is told from its names and shapes; the log says what was recognized. Where two readings are
    possible, the error names the parameter that decides.

    Args:
        archive: folder of .npy, .npz, .mat, .h5, .pt, .safetensors or .csv files, or one such file; or a published
            archive, `features/{train,test}/VIDEO.npy` beside `gt_full.json`.
        out: FEATURES folder to write.
        preset, overrides: give the clock of a published archive, and the common clock.
        streams: names of the streams: to choose, to name the only one, or to cut arrays into so many equal parts.
        layout: `TD` if a row is a snippet, `DT` if a column is.
        crops: `mean` averages crops, `stacked` puts them side by side.
        prefix, suffix: of the names of files, not part of a video's id.
        key: of the array to take from each file of several.
        fps: frames a second, or `native` for each video's own as annotated.
        stride: frames from one row to the next.
        snippet_frames: frames that a row was computed from.
        rescaled: each video was rescaled to a fixed number of rows; its duration is annotated.
        annotations: ActivityNet-style JSON, or a CSV with columns video_id, duration, fps.
        resample: put all features on the clock of the preset.

    Raises:
        HrproError: every file that is unusable, two possible readings, or a clock that does not fit the durations;
            nothing is written then.
    """

    archive: str | Path
    out: str | Path
    _: KW_ONLY
    preset: str = DEFAULT_PRESET
    overrides: Sequence[str] = ()
    streams: Sequence[str] = ()
    layout: Orientation | None = None
    crops: Crops | None = None
    prefix: str = ""
    suffix: str = ""
    key: str | None = None
    fps: float | Literal["native"] | None = None
    stride: int | None = None
    snippet_frames: int | None = None
    rescaled: bool = False
    annotations: str | Path | None = None
    resample: bool = False

    def run(self) -> list[str]:
        settings = load_settings(self.preset, self.overrides).extract
        clock = SnippetClock(settings.fps, settings.snippet_frames, settings.stride)
        read_as = ReadAs(tuple(self.streams), self.layout, self.crops, self.prefix, self.suffix, self.key)
        annotations = None if self.annotations is None else Path(self.annotations)
        choice = ClockChoice(self.fps, self.stride, self.snippet_frames, self.rescaled, annotations)
        return import_files(Path(self.archive), Path(self.out), read_as, choice, clock, self.resample)


import_features = function_of(ImportingFeatures, "import_features")


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
