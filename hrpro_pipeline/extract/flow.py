"""TV-L1 flow of gray frames, by our PyTorch kernel or by OpenCV, and its quantisation to 8 bit."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.tvl1 import MIN_SIDE, tvl1_pairs

# How the 8-bit levels of a flow are made: rounded, as denseflow does (0 becomes 128).
QUANTISATION = "rounded"

# Pairs that iterate together: enough to fill a GPU, few enough for a CPU's caches.
_PAIRS_AT_ONCE = {"cpu": 2, "cuda": 32}


def tvl1(frames: np.ndarray | Tensor, backend: str = "torch", device: str | torch.device = "cpu") -> Tensor:
    """Flow from each gray frame to the next.

    Args:
        frames: [N, H, W], 0..255, integer or floating point; sides of at least 16.
        backend: "torch", which runs on `device`, or "opencv", which runs on the CPU.
        device: where the "torch" backend computes and its result lies.

    Returns:
        float32 [N - 1, 2, H, W] in pixels, channel 0 horizontal; no rows for a single frame.

    Raises:
        HrproError: wrong rank, type or size, values that are not finite or outside 0..255, an unknown backend.
    """
    if backend not in _BACKENDS:
        raise HrproError(f"flow backend {backend!r}; expected {' or '.join(_BACKENDS)}")
    tensor = _checked(frames)
    if len(tensor) < 2:
        return torch.zeros(0, 2, *tensor.shape[1:])
    return _BACKENDS[backend](tensor, torch.device(device))


def resolve_backend(backend: str, device: torch.device) -> str:
    """The backend that "auto" stands for: the kernel on a GPU, OpenCV on the CPU. Other names are checked only."""
    if backend == "auto":
        return "torch" if device.type == "cuda" else "opencv"
    if backend not in _BACKENDS:
        raise HrproError(f"flow backend {backend!r}; expected auto, {' or '.join(_BACKENDS)}")
    return backend


def flow_levels(flow: Tensor, clamp: float) -> Tensor:
    """Flow in pixels (any shape) -> uint8 levels: -clamp is 0, +clamp is 255, rounded to the nearest (half to even)."""
    return (255 * (flow.clamp(-clamp, clamp) + clamp) / (2 * clamp)).round().to(torch.uint8)


def quantise_flow(flow: Tensor, clamp: float = 20.0) -> Tensor:
    """Flow in pixels (any shape) -> what published features saw: clamped, 8-bit levels, scaled to [-1, 1]."""
    return flow_levels(flow, clamp).float() / 255 * 2 - 1


def _torch_flow(frames: Tensor, device: torch.device) -> Tensor:
    frames = frames.to(device, torch.float32)
    step = _PAIRS_AT_ONCE.get(device.type, 1)

    def batch(start: int) -> Tensor:
        with torch.no_grad():
            stop = min(start + step, len(frames) - 1)
            return tvl1_pairs(frames[start:stop], frames[start + 1 : stop + 1])

    starts = range(0, len(frames) - 1, step)
    if device.type != "cpu":
        return torch.cat([batch(start) for start in starts])
    # On the CPU, batches in parallel and not the small operations inside of them: those would mostly wait.
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return torch.cat(list(pool.map(batch, starts)))
    finally:
        torch.set_num_threads(threads)


def _opencv_flow(frames: Tensor, device: torch.device) -> Tensor:
    # OpenCV takes 8-bit values as they are, and floats from 0..1.
    images = (frames if frames.dtype is torch.uint8 else frames.float() / 255).cpu().numpy()

    def pair(i: int) -> np.ndarray:
        # A new object for each pair: OpenCV keeps buffers on it, and for good the fewer scales of a small frame.
        return _dual_tvl1().calc(images[i], images[i + 1], None)

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # pairs in parallel, not rows: less waiting
    try:
        with ThreadPoolExecutor(_cores()) as pool:
            flows = list(pool.map(pair, range(len(images) - 1)))
    finally:
        cv2.setNumThreads(threads)
    return torch.from_numpy(np.stack(flows).transpose(0, 3, 1, 2).astype(np.float32))


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_BACKENDS: dict[str, Callable[[Tensor, torch.device], Tensor]] = {"torch": _torch_flow, "opencv": _opencv_flow}


def _dual_tvl1() -> Any:
    return cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]  # a contrib module without stubs


def _checked(frames: np.ndarray | Tensor) -> Tensor:
    if not isinstance(frames, np.ndarray | Tensor):
        raise HrproError(f"frames of type {type(frames).__name__}; expected a NumPy array or a tensor [N, H, W]")
    if frames.ndim != 3:
        raise HrproError(f"frames of shape {list(frames.shape)}; expected gray frames [N, H, W]")
    if isinstance(frames, np.ndarray):
        if frames.dtype.kind not in "uif":
            raise HrproError(f"frames of type {frames.dtype}; expected integers or floats, 0..255")
        # uint16 and the like have no tensor type that computes; every gray value fits a float.
        tensor = torch.from_numpy(frames if frames.dtype == np.uint8 else frames.astype(np.float32))
    else:
        tensor = frames
        if tensor.dtype is torch.bool or tensor.is_complex():
            raise HrproError(f"frames of type {tensor.dtype}; expected integers or floats, 0..255")
    if len(tensor) == 0:
        raise HrproError("no frames; expected at least one gray frame [N, H, W]")
    if min(tensor.shape[1:]) < MIN_SIDE:
        raise HrproError(f"frames of {tensor.shape[2]} x {tensor.shape[1]}; both sides must be at least {MIN_SIDE}")
    if tensor.dtype is not torch.uint8:
        if not bool(torch.isfinite(tensor).all()):
            raise HrproError("frames with NaN or infinite values; expected gray values 0..255")
        # Half a level of tolerance: interpolated frames overshoot a little.
        if bool((tensor < -0.5).any()) or bool((tensor > 255.5).any()):
            raise HrproError("frames with values outside 0..255; expected gray values 0..255")
    return tensor
