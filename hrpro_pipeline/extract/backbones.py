"""The network of each stream with its preprocessing: I3D, or one of pytorchvideo's for RGB."""

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.errors import HrproError, ProblemsError, one_line
from hrpro_pipeline.extract.i3d import FEATURE_DIM, fold_batch_norm, load_i3d, random_i3d
from hrpro_pipeline.extract.preprocess import scaled
from hrpro_pipeline.extract.weights import RANDOM_SEED, Weights, load_weights
from hrpro_pipeline.models.device import is_out_of_memory
from hrpro_pipeline.models.precision import resolve_precision

log = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

# Cosine of features in bf16 with those in float32: 0.9999 where both are right.
_ALIKE = 0.999

# Feature widths of pytorchvideo's networks without their heads.
_WIDTHS = {"i3d_r50": 2048, "slow_r50": 2048, "x3d_m": 192}


@dataclass(frozen=True)
class Backbone:
    """A network in eval mode with the scaling of its input.

    Attributes:
        module: clips [B, channels, t, H, W], scaled -> features [B, D] or [B, t', D].
        mean, std: input is (levels / 255 - mean) / std.
        width: D.
        digest: of the weights, as stored in feature files.
        dtype: of weights and input; features are float32 whatever it is.
    """

    module: nn.Module
    mean: float
    std: float
    width: int
    digest: str
    dtype: torch.dtype = torch.float32

    def features(self, levels: Tensor) -> Tensor:
        """uint8 clips [B, channels, t, H, W] on the module's device -> float32 [B, D]; more steps are averaged."""
        clips = scaled(levels, self.mean, self.std).to(self.dtype, memory_format=torch.channels_last_3d)
        output = self.module(clips).float()
        return output.mean(dim=1) if output.ndim == 3 else output


class PooledTrunk(nn.Module):
    """A pytorchvideo network without its head: the last stage averaged over time and space, [B, D]."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, clips: Tensor) -> Tensor:
        x = clips
        for block in list(self.blocks)[:-1]:  # the last one is the classifier
            x = block(x)
        return x.mean(dim=(2, 3, 4))


def load_backbone(
    stream: str, backbone: str, weights: str, device: torch.device, dtype: torch.dtype = torch.float32
) -> Backbone:
    """The network of one stream.

    Args:
        backbone: of the RGB stream, as in the settings; the flow network is always I3D.
        weights: "kinetics", "random" or a folder.
        dtype: in which I3D computes; pytorchvideo's networks compute in float32.

    Raises:
        HrproError: weights that cannot be had or do not fit the network.
    """
    loaded = load_weights(weights, stream, backbone)
    try:
        if stream == "flow" or backbone == "i3d":
            module = random_i3d(stream, RANDOM_SEED) if loaded.state is None else load_i3d(loaded.state, stream)
            # Convolutions over the channels of a pixel at a time are about twice as fast on a CPU.
            folded = fold_batch_norm(module).to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            network = Backbone(folded, 0.5, 0.5, FEATURE_DIM, loaded.digest)
            return network if dtype == torch.float32 else in_dtype(network, dtype, device)
        trunk = _pytorchvideo_trunk(backbone, loaded)
    except ValueError as error:
        raise HrproError(f"weights {weights}: {error}") from None
    return Backbone(trunk.to(device), 0.45, 0.225, _WIDTHS[backbone], loaded.digest)


def in_dtype(network: Backbone, dtype: torch.dtype, device: torch.device) -> Backbone:
    """A float32 network with weights and input of `dtype`; as it is where the device computes something else in it.

    Some versions of cuDNN do so without an error. On the CPU it is not tried, which would take its time.
    """
    fast = replace(network, module=deepcopy(network.module).to(dtype), dtype=dtype)
    if device.type == "cuda" and (problem := dtype_problem(network, fast, device)) is not None:
        name = str(dtype).removeprefix("torch.")
        log.warning("%s: convolutions in %s do not work (%s): float32 computes the features", device, name, problem)
        return network
    return fast


def dtype_problem(exact: Backbone, fast: Backbone, device: torch.device, side: int = 224) -> str | None:
    """What is wrong with the features of `fast`, by those of `exact`; None if nothing is.

    Args:
        side: of the clip that is tried, in pixels.
    """
    channels = next(exact.module.parameters()).shape[1]
    levels = torch.randint(0, 256, (1, channels, 16, side, side), generator=torch.Generator().manual_seed(0))
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


def load_backbones(settings: ExtractSettings, weights: str, device: torch.device) -> dict[str, Backbone]:
    """The networks of the streams in the settings. Raises ProblemsError that names all weights that are amiss."""
    dtype = torch.bfloat16 if resolve_precision(settings.precision, device) == "bf16" else torch.float32
    return _by_stream(settings, lambda stream: load_backbone(stream, settings.backbone, weights, device, dtype))


def weight_digests(settings: ExtractSettings, weights: str) -> dict[str, str]:
    """Digest of the weights of each stream, without building a network. Raises as `load_backbones`."""
    return _by_stream(settings, lambda stream: load_weights(weights, stream, settings.backbone).digest)


def _by_stream(settings: ExtractSettings, load: Callable[[str], Loaded]) -> dict[str, Loaded]:
    loaded: dict[str, Loaded] = {}
    problems: list[str] = []
    for stream in settings.streams:
        try:
            loaded[stream] = load(stream)
        except HrproError as error:
            problems.append(str(error))
    if problems:
        raise ProblemsError("weights of the feature networks", list(dict.fromkeys(problems)))
    return loaded


def _pytorchvideo_trunk(backbone: str, weights: Weights) -> PooledTrunk:
    from pytorchvideo.models import hub  # slow to import

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = getattr(hub, backbone)(pretrained=False)
    if weights.state is not None:
        given, expected = set(weights.state), set(network.state_dict())
        if given != expected:
            missing, unexpected = sorted(expected - given)[:3], sorted(given - expected)[:3]
            raise ValueError(f"not weights of {backbone}: missing {missing}, unexpected {unexpected}")
        try:
            network.load_state_dict(weights.state)
        except RuntimeError as error:
            raise ValueError(f"not weights of {backbone}: {' '.join(str(error).split())[:200]}") from None
    return PooledTrunk(network.blocks).eval()
