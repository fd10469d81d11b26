"""A trained model as one file: both stages, settings, classes, and what its features must be."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrpro_pipeline.configs.load import check_settings
from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.data.files import holds_videos, replacing
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.instance import InstanceModel
from hrpro_pipeline.models.snippet import SnippetModel

SCHEMA = "hrpro.model/1"
FILE_NAME = "model.pt"


@dataclass
class TrainedModel:
    """Networks and everything needed to use them.

    Attributes:
        instance: None where stage 2 was not trained.
        widths: feature channels by stream.
        extraction: settings in the feature files it was trained on; weights: their network digests by stream.
        notes: how it came to be (seed, videos, which checkpoint was kept, imported from).
    """

    snippet: SnippetModel
    instance: InstanceModel | None
    classes: tuple[str, ...]
    settings: Settings
    clock: SnippetClock
    widths: dict[str, int]
    extraction: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device) -> "TrainedModel":
        """Move the networks, and set them to eval mode."""
        self.snippet.to(device).eval()
        if self.instance is not None:
            self.instance.to(device).eval()
        return self


def build_snippet(settings: Settings, feature_dim: int, num_classes: int) -> SnippetModel:
    """A fresh stage 1 network. Raises HrproError where the heads do not divide the width."""
    snippet = settings.snippet
    try:
        return SnippetModel(
            feature_dim,
            num_classes,
            attention_layers=snippet.attention_layers,
            heads=snippet.heads,
            feedforward=snippet.feedforward,
            dropout=snippet.dropout,
            attention_dropout=snippet.attention_dropout,
            classifier_dropout=snippet.classifier_dropout,
            scrambled_prototypes=snippet.scrambled_prototypes,
        )
    except ValueError as error:
        raise HrproError(f"{error}; set snippet.heads to a divisor") from None


def build_instance(settings: Settings, feature_dim: int) -> InstanceModel:
    """A fresh stage 2 network."""
    return InstanceModel(feature_dim, dropout=settings.instance.dropout)


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
        "widths": model.widths,
        "extraction": model.extraction,
        "weights": model.weights,
        "notes": model.notes,
        "snippet": _on_cpu(model.snippet.state_dict()),
        "instance": None if model.instance is None else _on_cpu(model.instance.state_dict()),
    }
    save_torch(path, content)


def load_model(path: Path) -> TrainedModel:
    """Read a model from a RUN folder or a `model.pt`, on the CPU and in eval mode.

    Raises:
        HrproError: missing, not a model of this tool, or damaged.
    """
    if path.is_dir() and not (path / FILE_NAME).exists():
        raise HrproError(f"{path}: no {FILE_NAME} in this folder; {_instead(path)}")
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
        model = TrainedModel(
            snippet=snippet,
            instance=instance,
            classes=classes,
            settings=settings,
            clock=SnippetClock(**content["clock"]),
            widths=content["widths"],
            extraction=content["extraction"],
            weights=content["weights"],
            notes=content["notes"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise HrproError(f"{file}: damaged model ({str(error).splitlines()[0]}); train or import it again") from None
    return model.to(torch.device("cpu"))


def _instead(folder: Path) -> str:
    """What to do with a folder without a model."""
    held = "videos" if holds_videos(folder) else "features" if any(folder.glob("*.h5")) else None
    if held is not None:
        return f"it holds {held}: a run of `hrpro train` comes first, as in hrpro detect RUN PATH..."
    if (folder / "checkpoints").is_dir():
        return "its training is not done: go on with `hrpro train ... --resume`"
    return "expected a run made by `hrpro train` or `hrpro import checkpoint`"


def save_torch(path: Path, content: Any) -> None:
    """`torch.save`, atomically. Raises OSError for a disk that is full, which `torch.save` itself does not name."""
    content_bytes = io.BytesIO()
    torch.save(content, content_bytes)
    with replacing(path) as temporary:
        temporary.write_bytes(content_bytes.getbuffer())


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


# Parameter names of the published code and ours, in order of application.
_SNIPPET_NAMES = (
    (r"^memory\.proto_vectors$", "prototypes"),
    (r"^encoder\.RAB\.(\d+)\.", r"layers.\1."),
    (r"\.conv_query\.", ".query."),
    (r"\.conv_key\.", ".key."),
    (r"\.self_atten\.", ".attention."),
    (r"\.linear1\.", ".expand."),
    (r"\.linear2\.", ".contract."),
    (r"\.norm1\.", ".norm_attention."),
    (r"\.norm2\.", ".norm_feedforward."),
    (r"^encoder\.feature_embedding\.0\.", "embed."),
    (r"^classifier\.1\.", "classify."),
)
_INSTANCE_NAMES = (
    (r"^bcr\.start_reg_conv\.", "start_offset."),
    (r"^bcr\.end_reg_conv\.", "end_offset."),
    (r"^bcr\.prop_fusion\.", "fuse."),
    (r"^bcr\.prop_completeness\.", "completeness."),
)


def rename_snippet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A stage 1 state dict under the published names -> under ours."""
    renamed = {}
    for name, value in state.items():
        if ".conv_value." in name:  # in the published state dict, but never used
            continue
        ours = _rename(name, _SNIPPET_NAMES)
        if ours == "prototypes":
            value = value.squeeze(1)
        elif value.ndim == 3 and ours != "embed.weight":  # a 1x1 convolution
            value = value.squeeze(2)
        renamed[ours] = value
    return renamed


def rename_instance(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A stage 2 state dict under the published names -> under ours."""
    return {
        _rename(name, _INSTANCE_NAMES): value.squeeze(2) if value.ndim == 3 else value for name, value in state.items()
    }


def import_checkpoint(stage1: Path, stage2: Path | None, classes: Sequence[str], settings: Settings) -> TrainedModel:
    """Load state dicts that the published code saved.

    Args:
        classes: class names in the order that the checkpoint was trained with.
        settings: its post-processing and extraction settings; the network's shape is read from the tensors.

    Raises:
        HrproError: wrong number of classes, or tensors that do not fit.
    """
    state = rename_snippet(_state_dict(stage1, "memory.proto_vectors"))
    known, feature_dim = state["prototypes"].shape
    if known != len(classes):
        raise HrproError(
            f"{stage1}: made for {known} classes, but {len(classes)} class names were given; "
            f"--classes takes {known} names, one a line, in the order of its training"
        )
    if len(set(classes)) != len(classes):
        raise HrproError("the class names have duplicates")
    layers = {name.split(".")[1] for name in state if name.startswith("layers.")}
    snippet_settings = settings.snippet.model_copy(
        update={
            "attention_layers": len(layers),
            "feedforward": len(state["layers.0.expand.bias"]) if layers else settings.snippet.feedforward,
        }
    )
    settings = settings.model_copy(update={"snippet": snippet_settings})
    snippet = build_snippet(settings, feature_dim, len(classes))
    _fill(snippet, state, stage1)
    instance = None
    if stage2 is not None:
        instance = build_instance(settings, feature_dim)
        _fill(instance, rename_instance(_state_dict(stage2, "bcr.prop_fusion.0.weight")), stage2)
    extract = settings.extract
    return TrainedModel(
        snippet=snippet,
        instance=instance,
        classes=tuple(classes),
        settings=settings,
        clock=SnippetClock(extract.fps, extract.snippet_frames, extract.stride),
        widths={"rgb": feature_dim // 2, "flow": feature_dim - feature_dim // 2},
        notes={"imported": [file.name for file in (stage1, stage2) if file is not None]},
    )


def _state_dict(file: Path, landmark: str) -> dict[str, Tensor]:
    content = load_torch(file, "a state dict saved by the published code")
    if not isinstance(content, dict) or landmark not in content:
        raise HrproError(f"{file}: no tensor {landmark}; expected a state dict saved by the published code")
    return content


def _fill(module: torch.nn.Module, state: dict[str, Tensor], file: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise HrproError(f"{file}: tensors do not fit: {' '.join(str(error).split())}") from None


def _rename(name: str, table: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in state.items()}
