"""TV-L1 flow of gray frames, by our kernels or by OpenCV."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.flow.on_device import flow_on
from hrpro_pipeline.extract.flow.tvl1_torch import MIN_SIDE, Variant
from hrpro_pipeline.extract.options import FLOW_BACKENDS

Result = TypeVar("Result")


def tvl1(
    frames: np.ndarray | Tensor,
    backend: str = "torch",
    device: str | torch.device = "cpu",
    variant: Variant = "opencv",
) -> Tensor:
    """Flow from each gray frame to the next.

    Args:
        frames: [N, H, W], 0..255, integer or floating point; sides of at least 16.
        backend: "torch", our kernels, which run on `device`: compiled by numba on the CPU, Triton on CUDA, plain
            PyTorch elsewhere; or "opencv", which runs on the CPU.
        device: where the "torch" backend computes and its result lies.
        variant: "opencv", what OpenCV's CPU version answers, or "opencv_cuda", what its CUDA version does.

    Returns:
        float32 [N - 1, 2, H, W] in pixels, channel 0 horizontal; no rows for a single frame.

    Raises:
        HrproError: wrong rank, type or size, values that are not finite or outside 0..255, an unknown backend or
            variant, one that the backend does not have; a device that computes no flow.

    Examples:
        A texture that moves two pixels to the right a frame:

        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> texture = cv2.GaussianBlur(rng.integers(0, 256, (48, 72)).astype(np.float32), (0, 0), 2)
        >>> frames = np.stack([texture[:, 8 - 2 * k : 72 - 2 * k - 8] for k in range(3)])
        >>> flow = tvl1(frames)
        >>> list(flow.shape), flow.dtype
        ([2, 2, 48, 56], torch.float32)
        >>> inner = flow[:, :, 8:-8, 8:-8].mean(dim=(0, 2, 3))
        >>> [round(value, 1) + 0.0 for value in inner.tolist()]
        [2.0, 0.0]
    """
    if backend not in BACKENDS:
        raise HrproError(f"flow backend {backend!r}; expected {' or '.join(BACKENDS)}")
    if variant not in get_args(Variant):
        raise HrproError(f"flow variant {variant!r}; expected {' or '.join(get_args(Variant))}")
    if backend == "opencv" and variant != "opencv":
        raise HrproError(f"flow backend opencv computes its CPU version; for variant {variant} take backend torch")
    tensor = _checked(frames)
    if len(tensor) < 2:
        return torch.zeros(0, 2, *tensor.shape[1:])
    return BACKENDS[backend](tensor, torch.device(device), variant)


def resolve_backend(backend: str) -> str:
    """The backend that "auto" stands for: our kernels, which are faster everywhere; another known name as it is.

    Raises:
        HrproError: an unknown backend.
    """
    if backend not in FLOW_BACKENDS:
        raise HrproError(f"flow backend {backend!r}; expected auto, {' or '.join(BACKENDS)}")
    return "torch" if backend == "auto" else backend


def _torch_flow(frames: Tensor, device: torch.device, variant: Variant) -> Tensor:
    frames = frames.to(device, torch.float32).contiguous()
    if device.type == "cpu":
        return torch.from_numpy(_cpu_flow(frames.numpy(), variant))
    return flow_on(frames, variant)


def _cpu_flow(frames: np.ndarray, variant: Variant) -> np.ndarray:
    from hrpro_pipeline.extract.flow.tvl1_cpu import pyramid, tvl1_pyramids

    pyramids = _in_threads(lambda i: pyramid(frames[i], variant), len(frames))

    def pair(i: int) -> np.ndarray:
        return tvl1_pyramids(pyramids[i], pyramids[i + 1], variant)

    return np.stack(_in_threads(pair, len(frames) - 1))


def _opencv_flow(frames: Tensor, device: torch.device, variant: Variant) -> Tensor:
    # OpenCV takes 8-bit values as they are, and floats from 0..1.
    images = (frames if frames.dtype is torch.uint8 else frames.float() / 255).cpu().numpy()

    def pair(i: int) -> np.ndarray:
        # A new object for each pair: OpenCV keeps buffers on it, and for good the fewer scales of a small frame.
        algorithm = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]  # a contrib module, no stubs
        return algorithm.calc(images[i], images[i + 1], None)

    flows = np.stack(_in_threads(pair, len(images) - 1))
    return torch.from_numpy(flows.transpose(0, 3, 1, 2).astype(np.float32))


def _in_threads(work: Callable[[int], Result], count: int) -> list[Result]:
    """`work` of 0 to count - 1: images in parallel, and not the rows of each, which would mostly wait."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return list(pool.map(work, range(count)))
    finally:
        cv2.setNumThreads(threads)


BACKENDS: dict[str, Callable[[Tensor, torch.device, Variant], Tensor]] = {"torch": _torch_flow, "opencv": _opencv_flow}


def _checked(frames: np.ndarray | Tensor) -> Tensor:
    """Gray frames as a tensor that computes. Raises HrproError for wrong rank, type, size or values."""
    if not isinstance(frames, np.ndarray | Tensor):
        raise HrproError(f"frames of type {type(frames).__name__}; expected a NumPy array or a tensor [N, H, W]")
    if frames.ndim != 3:
        raise HrproError(f"frames of shape {list(frames.shape)}; expected gray frames [N, H, W]")
    tensor = _from_numpy(frames) if isinstance(frames, np.ndarray) else frames
    if tensor.dtype is torch.bool or tensor.is_complex():
        raise HrproError(f"frames of type {tensor.dtype}; expected integers or floats, 0..255")
    if len(tensor) == 0:
        raise HrproError("no frames; expected at least one gray frame [N, H, W]")
    if min(tensor.shape[1:]) < MIN_SIDE:
        raise HrproError(f"frames of {tensor.shape[2]} x {tensor.shape[1]}; both sides must be at least {MIN_SIDE}")
    if tensor.dtype is not torch.uint8:
        _check_values(tensor)
    return tensor


def _from_numpy(frames: np.ndarray) -> Tensor:
    if frames.dtype.kind not in "uif":
        raise HrproError(f"frames of type {frames.dtype}; expected integers or floats, 0..255")
    # uint16 and the like have no tensor type that computes; every gray value fits a float.
    return torch.from_numpy(frames if frames.dtype == np.uint8 else frames.astype(np.float32))


def _check_values(frames: Tensor) -> None:
    if not bool(torch.isfinite(frames).all()):
        raise HrproError("frames with NaN or infinite values; expected gray values 0..255")
    # Half a level of tolerance: interpolated frames overshoot a little.
    if bool((frames < -0.5).any()) or bool((frames > 255.5).any()):
        raise HrproError("frames with values outside 0..255; expected gray values 0..255")
