"""TV-L1 on a GPU: by which kernel, which a small pair decides, and as many pairs at once as its memory holds."""

import logging
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.extract.flow import tvl1_torch
from hrpro_pipeline.extract.flow.tvl1_torch import MIN_SIDE, Variant
from hrpro_pipeline.models.device import Portions, current

log = logging.getLogger(__name__)

# Pairs that iterate together on a device: enough to fill a GPU with frames of a few hundred pixels a side.
_PAIRS_AT_ONCE = 64
# Pixels by which the small pair's flow may differ from the reference on average.
_TOLERANCE = 0.02


def flow_on(frames: Tensor, variant: Variant) -> Tensor:
    """Flow from each frame to the next, float32 [N, H, W] on a device -> [N - 1, 2, H, W] there, N at least 2.

    Raises:
        HrproError: no kernel of ours runs on the device.
        RuntimeError: the device has no memory for a single pair, or fails.
    """
    kernel = device_kernel(frames.device)
    with torch.no_grad(), current(frames.device):
        return _portions(frames.device).compute(
            len(frames) - 1,
            lambda start, stop: kernel.tvl1_frames(frames[start : stop + 1], variant),
            cost=frames.shape[1] * frames.shape[2],
        )


@cache
def device_kernel(device: torch.device) -> ModuleType:
    """Triton's kernels on CUDA where they run and are right, else plain PyTorch; said once, and tried once.

    Triton compiles a module in C on the machine where it runs, into the user's home: much is missing on some machines.

    Raises:
        HrproError: plain PyTorch does not run on the device, either.
    """
    if device.type == "cuda":
        problem = kernel_problem("hrpro_pipeline.extract.flow.tvl1_cuda", device)
        if problem is None:
            return import_module("hrpro_pipeline.extract.flow.tvl1_cuda")
        log.warning(
            "TV-L1 in Triton does not work on %s (%s): plain PyTorch computes the flow, many times slower; it needs "
            "torch 2.7 or later, gcc, Python's headers and a home that can be written; or take `flow=opencv`",
            *(device, problem),
        )
        if (problem := kernel_problem(tvl1_torch.__name__, device)) is not None:
            raise HrproError(f"device {device}: it computes no flow ({problem}); use `flow=opencv` or `device=cpu`")
    return tvl1_torch


def kernel_problem(name: str, device: torch.device) -> str | None:
    """What is wrong with a kernel's flow of a small pair on a device; None if nothing is.

    Args:
        name: of its module.
    """
    y, x = torch.meshgrid(torch.arange(MIN_SIDE + 1.0), torch.arange(MIN_SIDE + 1.0), indexing="ij")
    waves = 127 + 60 * torch.sin(0.7 * x + 0.3 * y) + 60 * torch.cos(0.5 * y)
    frames = torch.stack([waves[:-1, 1:], waves[:-1, :-1]])  # moves to the right by a pixel
    try:
        with torch.no_grad(), current(device):
            found = import_module(name).tvl1_frames(frames.to(device), "opencv").cpu()
    except Exception as error:  # noqa: BLE001  compilers and drivers raise many types
        return f"{type(error).__name__}: {one_line(error)}"
    apart = torch.linalg.vector_norm(found - tvl1_torch.tvl1_frames(frames), dim=1).mean().item()
    return None if apart <= _TOLERANCE else f"wrong by {apart:.3g} pixels"


@cache
def _portions(device: torch.device) -> Portions:
    return Portions(_PAIRS_AT_ONCE, "pairs of frames")
