"""Checkpoints of the published HR-Pro code: its parameter names, and importing its state dicts."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.checkpoint import Notes, TrainedModel, build_instance, build_snippet, load_torch

# Published parameter names and ours, in order of application.
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
    for published, value in state.items():
        if ".conv_value." in published:  # in the published state dict, but never used
            continue
        name = _rename(published, _SNIPPET_NAMES)
        if name == "prototypes":
            value = value.squeeze(1)
        elif value.ndim == 3 and name != "embed.weight":  # a 1x1 convolution
            value = value.squeeze(2)
        renamed[name] = value
    return renamed


def rename_instance(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A stage 2 state dict under the published names -> under ours."""
    return {
        _rename(name, _INSTANCE_NAMES): value.squeeze(2) if value.ndim == 3 else value for name, value in state.items()
    }


def _rename(name: str, replacements: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in replacements:
        name = re.sub(pattern, replacement, name)
    return name


def import_checkpoint(stage1: Path, stage2: Path | None, classes: Sequence[str], settings: Settings) -> TrainedModel:
    """Load state dicts that the published code saved.

    Args:
        classes: class names in the order that the checkpoint was trained with.
        settings: its post-processing and extraction settings; the network's shape is read from the tensors.

    Raises:
        HrproError: wrong number of classes, or tensors that do not fit.
    """
    state = rename_snippet(_read_state(stage1, "memory.proto_vectors"))
    num_classes, feature_dim = state["prototypes"].shape
    if num_classes != len(classes):
        raise HrproError(
            f"{stage1}: made for {num_classes} classes, but {len(classes)} class names were given; "
            f"`classes` takes {num_classes} names, one a line, in the order of its training"
        )
    if len(set(classes)) != len(classes):
        raise HrproError("the class names have duplicates")
    settings = _with_shape_of(settings, state)
    snippet = build_snippet(settings, feature_dim, num_classes)
    _load_state(snippet, state, stage1)
    instance = None
    if stage2 is not None:
        instance = build_instance(settings, feature_dim)
        _load_state(instance, rename_instance(_read_state(stage2, "bcr.prop_fusion.0.weight")), stage2)
    extract = settings.extract
    return TrainedModel(
        snippet=snippet,
        instance=instance,
        classes=tuple(classes),
        settings=settings,
        clock=SnippetClock(extract.fps, extract.snippet_frames, extract.stride),
        widths={"rgb": feature_dim // 2, "flow": feature_dim - feature_dim // 2},
        notes=Notes(imported=[file.name for file in (stage1, stage2) if file is not None]),
    )


def _with_shape_of(settings: Settings, state: Mapping[str, Tensor]) -> Settings:
    """Settings with the layers and the feed-forward width of a stage 1 state dict under our names."""
    layers = {name.split(".")[1] for name in state if name.startswith("layers.")}
    feedforward = len(state["layers.0.expand.bias"]) if layers else settings.snippet.feedforward
    shape = {"attention_layers": len(layers), "feedforward": feedforward}
    return settings.model_copy(update={"snippet": settings.snippet.model_copy(update=shape)})


def _read_state(file: Path, landmark: str) -> dict[str, Tensor]:
    """A published state dict, recognized by the tensor `landmark`."""
    content = load_torch(file, "a state dict saved by the published code")
    if not isinstance(content, dict) or landmark not in content:
        raise HrproError(f"{file}: no tensor {landmark}; expected a state dict saved by the published code")
    return content


def _load_state(module: torch.nn.Module, state: dict[str, Tensor], file: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise HrproError(f"{file}: tensors do not fit: {' '.join(str(error).split())}") from None
