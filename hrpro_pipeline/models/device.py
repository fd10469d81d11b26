"""The device to compute on."""

import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.errors import HrproError, UsageError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# What CUDA's libraries say where the allocator of PyTorch would raise its own error.
_NO_MEMORY = re.compile(r"out of memory|ALLOC_FAILED|ALLOCATION_FAILED")


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


def current(device: torch.device) -> AbstractContextManager[object]:
    """A GPU as the current one of this thread, for kernels that go to the current one wherever their arrays are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left: by PyTorch's error, or by that of cuBLAS, cuDNN or the driver."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


class Portions:
    """Work on many items, as many at once as fit into the memory of a device; what did not fit is not tried again.

    Args:
        most: items at once.
        unit: what they are, for the log.

    Examples:
        >>> portions = Portions(64, "pairs")
        >>> portions.compute(100, lambda start, stop: torch.full((1,), stop - start)).tolist()
        [64, 36]
    """

    def __init__(self, most: int, unit: str) -> None:
        self._most, self._unit = most, unit
        self._room = float("inf")

    def compute(self, count: int, work: Callable[[int, int], Tensor], cost: float = 1.0) -> Tensor:
        """`work(start, stop)` for portions of items 0 to `count` - 1, joined on the first axis.

        Args:
            cost: of an item, in any unit: the memory that was missing for costly items is there for cheap ones.

        Raises:
            RuntimeError: there is no memory for a single item (torch.OutOfMemoryError or what CUDA's libraries raise).
        """
        results: list[Tensor] = []
        start = 0
        while start < count:
            stop = min(start + max(1, min(self._most, int(min(self._room / cost, count)))), count)
            try:
                results.append(work(start, stop))
                start = stop
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error) or stop - start == 1:
                    raise
            # Outside of `except`: the error holds on to what was computed.
            half = (stop - start) // 2
            log.warning("out of GPU memory with %d %s at once: %d from here on", stop - start, self._unit, half)
            self._room = half * cost
            torch.cuda.empty_cache()
        return torch.cat(results)


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
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    log.warning("%s: out of GPU memory: this video is computed on the CPU", name)
    torch.cuda.empty_cache()
    networks.to(torch.device("cpu"))
    try:
        return compute(features.cpu())
    finally:
        networks.to(device)
