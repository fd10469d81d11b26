"""A trained model as one file: both stages, settings, classes, and what its features must be."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrpro_pipeline.configs.load import check_settings
from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.data.files import holds_videos, replacing
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.calibration import Calibration
from hrpro_pipeline.models.instance import InstanceModel
from hrpro_pipeline.models.pyramid import PyramidModel
from hrpro_pipeline.models.snippet import SnippetModel

SCHEMA = "hrpro.model/1"
FILE_NAME = "model.pt"


_ACCUMULATE = ".accumulate"


@dataclass(frozen=True)
class Notes:
    """How a model came to be; None or empty where that is not known, as for imported models.

    Attributes:
        seed: of the training.
        videos: number of training videos.
        precision: of the matrix products in training, `float32` or `bf16`.
        checkpoint: which one became the model: `last`, or such as `best on the points of 2 validation videos`.
        evaluation: `stage` and `step` of that checkpoint, and its scores: `average`, `mAP@0.5`, `point_mAP`, ...
        imported: names of the published files that the model was made of.
        accumulate: parts of a step by stage, where the GPU needed more parts than set.
    """

    seed: int | None = None
    videos: int | None = None
    precision: str = ""
    checkpoint: str = ""
    evaluation: dict[str, Any] = field(default_factory=dict)
    imported: list[str] = field(default_factory=list)
    accumulate: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Notes":
        """From the plain values that `as_json` gives."""
        notes = {item.name: content[item.name] for item in fields(cls) if item.name in content}
        parts = {key.removesuffix(_ACCUMULATE): content[key] for key in content if key.endswith(_ACCUMULATE)}
        return cls(**notes | {"accumulate": parts})

    def as_json(self) -> dict[str, Any]:
        """Plain values for `model.pt`: what is known, with a key `STAGE.accumulate` for each stage cut finer."""
        unknown = Notes()
        notes = {name: value for name, value in vars(self).items() if value != getattr(unknown, name)}
        parts = notes.pop("accumulate", {})
        return notes | {f"{stage}{_ACCUMULATE}": number for stage, number in parts.items()}


@dataclass
class TrainedModel:
    """Networks and everything needed to use them.

    Attributes:
        instance: None where stage 2 was not trained. pyramid: None where stage 3 was not.
        calibration: None where no points were held out to learn it from.
        clock: of the features; where `own_clocks`, each video has its own, and this is that of one of them.
        widths: feature channels by stream.
        extraction: settings in the feature files it was trained on; weights: their network digests by stream.
        notes: how it came to be.
    """

    snippet: SnippetModel
    instance: InstanceModel | None
    classes: tuple[str, ...]
    settings: Settings
    clock: SnippetClock
    widths: dict[str, int]
    extraction: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)
    pyramid: PyramidModel | None = None
    calibration: Calibration | None = None
    own_clocks: bool = False

    def on_clock(self, clock: SnippetClock) -> "TrainedModel":
        """The same networks for a video whose features are on this clock."""
        return replace(self, clock=clock)

    def to(self, device: torch.device) -> "TrainedModel":
        """Move the networks, and set them to eval mode."""
        self.snippet.to(device).eval()
        if self.instance is not None:
            self.instance.to(device).eval()
        if self.pyramid is not None:
            self.pyramid.to(device).eval()
        return self


def build_snippet(settings: Settings, feature_dim: int, num_classes: int) -> SnippetModel:
    """An untrained stage 1 network, with `dividing_heads` where the set heads do not divide the width."""
    snippet = settings.snippet
    return SnippetModel(
        feature_dim,
        num_classes,
        attention_layers=snippet.attention_layers,
        heads=dividing_heads(feature_dim, snippet.heads),
        feedforward=snippet.feedforward,
        dropout=snippet.dropout,
        attention_dropout=snippet.attention_dropout,
        classifier_dropout=snippet.classifier_dropout,
        scrambled_prototypes=snippet.scrambled_prototypes,
    )


def dividing_heads(feature_dim: int, heads: int) -> int:
    """The largest number of heads up to `heads` that divides the width."""
    return max(count for count in range(1, min(heads, feature_dim) + 1) if feature_dim % count == 0)


def build_instance(settings: Settings, feature_dim: int) -> InstanceModel:
    """An untrained stage 2 network."""
    return InstanceModel(feature_dim, dropout=settings.instance.dropout)


def build_pyramid(settings: Settings, feature_dim: int, num_classes: int) -> PyramidModel:
    """An untrained stage 3 network."""
    pyramid = settings.pyramid
    return PyramidModel(
        feature_dim,
        num_classes,
        channels=pyramid.channels,
        levels=pyramid.levels,
        dropout=pyramid.dropout,
        feature_dropout=pyramid.feature_dropout,
    )


def save_model(path: Path, model: TrainedModel) -> None:
    """Write a model atomically; the file loads with `torch.load(weights_only=True)`."""
    content = {
        "schema": SCHEMA,
        "classes": list(model.classes),
        "settings": model.settings.model_dump(mode="json"),
        "clock": {
            "fps": model.clock.fps,
            "snippet_frames": model.clock.snippet_frames,
            "stride": model.clock.stride,
        },
        "own_clocks": model.own_clocks,
        "widths": model.widths,
        "extraction": model.extraction,
        "weights": model.weights,
        "notes": model.notes.as_json(),
        "snippet": _on_cpu(model.snippet.state_dict()),
        "instance": None if model.instance is None else _on_cpu(model.instance.state_dict()),
        "pyramid": None if model.pyramid is None else _on_cpu(model.pyramid.state_dict()),
        "calibration": None if model.calibration is None else asdict(model.calibration),
    }
    save_torch(path, content)


def load_model(path: Path) -> TrainedModel:
    """Read a model from a RUN folder or a `model.pt`, on the CPU and in eval mode.

    Raises:
        HrproError: missing, not a model of this tool, or damaged.
    """
    if path.is_dir() and not (path / FILE_NAME).exists():
        raise HrproError(f"{path}: no {FILE_NAME} in this folder; {_hint_for_folder(path)}")
    file = path / FILE_NAME if path.is_dir() else path
    content = load_torch(file, "a model made by `hrpro train` or `hrpro import checkpoint`")
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise HrproError(
            f"{file}: not a model of this tool (schema {SCHEMA}); "
            "published checkpoints are converted with `hrpro import checkpoint`"
        )
    try:
        settings = check_settings(content["settings"], f"{file}: settings")
        classes = tuple(content["classes"])
        width = sum(content["widths"].values())
        snippet = build_snippet(settings, width, len(classes))
        snippet.load_state_dict(content["snippet"])
        instance = None
        if content["instance"] is not None:
            instance = build_instance(settings, width)
            instance.load_state_dict(content["instance"])
        pyramid = None
        if content.get("pyramid") is not None:  # models of earlier versions have no such key
            pyramid = build_pyramid(settings, width, len(classes))
            pyramid.load_state_dict(content["pyramid"])
        model = TrainedModel(
            snippet=snippet,
            instance=instance,
            classes=classes,
            settings=settings,
            clock=SnippetClock(**content["clock"]),
            widths=content["widths"],
            extraction=content["extraction"],
            weights=content["weights"],
            notes=Notes.from_json(content["notes"]),
            pyramid=pyramid,
            calibration=Calibration(**calibration) if (calibration := content.get("calibration")) else None,
            own_clocks=bool(content.get("own_clocks")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise HrproError(f"{file}: damaged model ({str(error).splitlines()[0]}); train or import it again") from None
    return model.to(torch.device("cpu"))


def _hint_for_folder(folder: Path) -> str:
    """The remedy for a folder without a model."""
    content = "videos" if holds_videos(folder) else "features" if any(folder.glob("*.h5")) else None
    if content is not None:
        return f"it holds {content}: a run of `hrpro train` comes first, as in hrpro detect RUN PATH..."
    if (folder / "checkpoints").is_dir():
        return "its training is not done: go on with `hrpro train ... --resume`"
    return "expected a run made by `hrpro train` or `hrpro import checkpoint`"


def save_torch(path: Path, content: Any) -> None:
    """`torch.save`, atomically. Raises OSError for a full disk, which `torch.save` itself does not name."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_torch(file: Path, expected: str) -> Any:
    """`torch.load` of untrusted files: tensors and plain values only. Raises HrproError naming the file."""
    if not file.is_file():
        raise HrproError(f"{file}: no such file; expected {expected}")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  torch raises many types for damaged and hostile files
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "not tensors and plain values alone" if "weights_only" in text else text
        raise HrproError(f"{file}: cannot be loaded safely ({reason}); expected {expected}") from None


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in state.items()}
