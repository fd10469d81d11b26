"""The network of each stream, with its weights and its preprocessing, on the device."""

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from hrpro_pipeline.configs.schema import ExtractSettings, is_own_network
from hrpro_pipeline.errors import HrproError, ProblemsError, one_line
from hrpro_pipeline.extract.i3d import FEATURE_DIM, fold_batch_norm, load_i3d, random_i3d
from hrpro_pipeline.extract.networks.network import Network
from hrpro_pipeline.extract.networks.of_pytorchvideo import pytorchvideo_network
from hrpro_pipeline.extract.networks.of_torchvision import TORCHVISION, torchvision_network
from hrpro_pipeline.extract.networks.of_transformers import VIDEOMAE, VJEPA2, videomae_network, vjepa2_network
from hrpro_pipeline.extract.networks.own import own_network
from hrpro_pipeline.extract.preprocess import scaled
from hrpro_pipeline.extract.weights import RANDOM_SEED, Weights, load_weights
from hrpro_pipeline.models.device import is_out_of_memory
from hrpro_pipeline.models.precision import resolve_precision

log = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

# How networks are built from their weights, by name.
_BUILDERS: dict[str, Callable[[str, Weights], Network]] = {
    **dict.fromkeys(("i3d_r50", "slow_r50", "x3d_m"), pytorchvideo_network),
    **dict.fromkeys(TORCHVISION, torchvision_network),
    **dict.fromkeys(VIDEOMAE, videomae_network),
    **dict.fromkeys(VJEPA2, vjepa2_network),
}

# Cosine of features in bf16 with those in float32: 0.9999 where both are right.
_ALIKE = 0.999


@dataclass(frozen=True)
class Backbone:
    """A network in eval mode on its device.

    Attributes:
        network: with the scaling of its input and the length of its clips.
        digest: of the weights, as stored in feature files.
        dtype: of weights and input; features are float32 whatever it is.
    """

    network: Network
    digest: str
    dtype: torch.dtype = torch.float32

    @property
    def module(self) -> nn.Module:
        """Clips [B, channels, t, H, W], scaled -> features [B, D] or [B, t', D]."""
        return self.network.module

    @property
    def width(self) -> int:
        """D."""
        return self.network.width

    def features(self, levels: Tensor) -> Tensor:
        """uint8 clips [B, channels, t, H, W] on the module's device -> float32 [B, D]; more steps are averaged.

        Raises:
            ValueError: the network gives anything else.
        """
        network = self.network
        clips = scaled(levels, network.mean, network.std, network.side)
        output = network.module(clips.to(self.dtype, memory_format=torch.channels_last_3d)).float()
        averaged: Tensor = output.mean(dim=1) if output.ndim == 3 else output
        if averaged.shape != (len(levels), network.width):
            raise ValueError(
                f"the network gave features {list(output.shape)}, expected [{len(levels)}, {network.width}]"
            )
        return averaged


def load_backbone(
    stream: str,
    backbone: str,
    weights: str,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    own: Sequence[str] = (),
) -> Backbone:
    """The network of one stream.

    Args:
        stream: as in the feature files.
        backbone: as in the settings; the flow network is always I3D.
        weights: "kinetics", "random" or a folder.
        dtype: in which it computes, unless it takes float32 alone.
        own: the user's own networks that may be run, PATH.py:FUNCTION.

    Raises:
        HrproError: weights that cannot be had or do not fit the network.
    """
    if is_own_network(backbone):
        network, digest = own_network(backbone, own)
    else:
        loaded = load_weights(weights, stream, backbone)
        digest = loaded.digest
        try:
            network = _i3d(stream, loaded) if backbone == "i3d" else _BUILDERS[backbone](backbone, loaded)
        except ValueError as error:
            raise HrproError(f"weights {weights}: {error}") from None
    network.module.eval().to(device)
    exact = Backbone(network, digest)
    return in_dtype(exact, dtype, device) if network.bf16 and dtype != torch.float32 else exact


def in_dtype(backbone: Backbone, dtype: torch.dtype, device: torch.device) -> Backbone:
    """A float32 network with weights and input of `dtype`; as it is where the device computes something else in it.

    Some versions of cuDNN do so without an error. On the CPU it is not tried, which would take its time.
    """
    module = deepcopy(backbone.module).to(dtype)
    fast = replace(backbone, network=replace(backbone.network, module=module), dtype=dtype)
    if device.type == "cuda" and (problem := dtype_problem(backbone, fast, device)) is not None:
        name = str(dtype).removeprefix("torch.")
        log.warning("%s: convolutions in %s do not work (%s): float32 computes the features", device, name, problem)
        return backbone
    return fast


def dtype_problem(exact: Backbone, fast: Backbone, device: torch.device, side: int = 224) -> str | None:
    """What is wrong with the features of `fast`, by those of `exact`; None if nothing is.

    Args:
        side: of the clip that is tried, in pixels.
    """
    channels = 2 if next(exact.module.parameters()).shape[1:2] == (2,) else 3  # flow or RGB
    frames = exact.network.frames or 16
    levels = torch.randint(0, 256, (1, channels, frames, side, side), generator=torch.Generator().manual_seed(0))
    clip = levels.to(device, torch.uint8)
    plain = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    try:
        with torch.inference_mode(), plain:
            cosine = torch.cosine_similarity(exact.features(clip), fast.features(clip)).item()
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None  # the networks say so, and take smaller batches
        return f"{type(error).__name__}: {one_line(error)}"
    return None if cosine >= _ALIKE else f"cosine {cosine:.4f} with features in float32, expected {_ALIKE}"


def load_backbones(
    settings: ExtractSettings, weights: str, device: torch.device, own: Sequence[str] = ()
) -> dict[str, Backbone]:
    """The network of each stream. Raises ProblemsError that names all weights that are amiss."""
    dtype = torch.bfloat16 if resolve_precision(settings.precision, device) == "bf16" else torch.float32
    load = partial(load_backbone, weights=weights, device=device, dtype=dtype, own=own)
    return _by_stream(settings, load)


def weight_digests(settings: ExtractSettings, weights: str, own: Sequence[str] = ()) -> dict[str, str]:
    """Digest of the weights of each stream; of networks, only the user's own are built. Raises as `load_backbones`."""

    def digest(stream: str, backbone: str) -> str:
        if is_own_network(backbone):
            return own_network(backbone, own)[1]
        return load_weights(weights, stream, backbone).digest

    return _by_stream(settings, digest)


def _i3d(stream: str, weights: Weights) -> Network:
    kind = "flow" if stream == "flow" else "rgb"
    module = random_i3d(kind, RANDOM_SEED) if weights.state is None else load_i3d(weights.state, kind)
    # Convolutions over the channels of a pixel at a time are about twice as fast on a CPU.
    folded = fold_batch_norm(module).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Network(folded, FEATURE_DIM, mean=0.5, std=0.5)


def _by_stream(settings: ExtractSettings, load: Callable[[str, str], Loaded]) -> dict[str, Loaded]:
    loaded: dict[str, Loaded] = {}
    problems: list[str] = []
    for stream, backbone in settings.networks().items():
        try:
            loaded[stream] = load(stream, backbone)
        except HrproError as error:
            problems.append(str(error))
    if problems:
        raise ProblemsError("weights of the feature networks", list(dict.fromkeys(problems)))
    return loaded
