"""The device to compute on."""

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.errors import HrproError, UsageError

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def send(array: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to a device through pinned memory, so that nothing waits for the copy."""
    tensor = torch.from_numpy(array)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def resolve_device(name: str) -> torch.device:
    """The device for `auto` (CUDA if there is a GPU), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UsageError: another name.
        HrproError: a GPU that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r}: expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise HrproError(f"device {name}: this machine has {torch.cuda.device_count()} CUDA GPUs; use `device=cpu`")
    return device


class Movable(Protocol):
    """Networks that move to a device in place."""

    def to(self, device: torch.device) -> Any:
        """Move to a device."""


def or_on_cpu(
    compute: Callable[[Tensor], Result], networks: Movable, features: Tensor, device: torch.device, name: str
) -> Result:
    """`compute(features)` on `device`, or on the CPU if the GPU runs out of memory; the log says so.

    Args:
        networks: the networks that `compute` uses; they are on `device` before and after.
        name: of the video, for the log.
    """
    try:
        return compute(features.to(device))
    except torch.OutOfMemoryError:
        pass
    log.warning("%s: out of GPU memory: this video is computed on the CPU", name)
    torch.cuda.empty_cache()
    networks.to(torch.device("cpu"))
    try:
        return compute(features.cpu())
    finally:
        networks.to(device)
