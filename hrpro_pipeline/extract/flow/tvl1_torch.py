"""Dual TV-L1 optical flow, batched over pairs, in plain PyTorch: the reference for the faster kernels beside it.

Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007, with the warps, the
median filter and the stopping rule of `cv2.optflow.DualTVL1OpticalFlow`, whose default parameters these are.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

TAU = 0.25
LAMBDA = 0.15
THETA = 0.3
SCALES = 5
SCALE_STEP = 0.8
WARPS = 5
EPSILON = 0.01
INNER_ITERATIONS = 30
OUTER_ITERATIONS = 10
MEDIAN = 5
MIN_SIDE = 16

TINY_GRADIENT = 1.1920929e-07  # float32 epsilon: below it no motion can be told

Variant = Literal["opencv", "opencv_cuda"]


def tvl1_pairs(first: Tensor, second: Tensor, variant: Variant = "opencv") -> Tensor:
    """Flow from `first` to `second`.

    Args:
        first, second: gray images [B, H, W], 0..255, on any device; sides of at least 16.
        variant: `opencv`, its CPU version; `opencv_cuda`, its CUDA version: 300 iterations a warp without a median,
            Catmull-Rom interpolation that repeats the edge, a pyramid without the shift of half a pixel. (Its check for
            convergence, made less often, is not repeated: a pair stops when it has converged.)

    Returns:
        float32 [B, 2, H, W] in pixels, channel 0 horizontal. A pair's flow does not depend on the other pairs: each
        stops iterating when it has converged.

    Raises:
        ValueError: shapes that differ, are not [B, H, W], or are too small.
    """
    if first.ndim != 3 or first.shape != second.shape:
        raise ValueError(f"images of shapes {list(first.shape)} and {list(second.shape)}; expected twice [B, H, W]")
    if min(first.shape[1:]) < MIN_SIDE:
        raise ValueError(f"images of {first.shape[2]} x {first.shape[1]}; both sides must be at least {MIN_SIDE}")
    if len(first) == 0:
        return torch.zeros(0, 2, *first.shape[1:], dtype=torch.float32, device=first.device)
    return _coarse_to_fine(pyramid(first.float(), variant), pyramid(second.float(), variant), variant)


def tvl1_frames(frames: Tensor, variant: Variant = "opencv") -> Tensor:
    """Flow from each frame to the next, [N, H, W] -> [N - 1, 2, H, W]: `tvl1_pairs`, but each pyramid is built once."""
    levels = pyramid(frames.float(), variant)
    return _coarse_to_fine([level[:-1] for level in levels], [level[1:] for level in levels], variant)


def _coarse_to_fine(first: Sequence[Tensor], second: Sequence[Tensor], variant: Variant) -> Tensor:
    """Pyramids of B images each, the largest first -> flow [B, 2, H, W]."""
    flow = torch.zeros_like(first[-1])[:, None].repeat(1, 2, 1, 1)  # [B, 2, h, w]
    for level in reversed(range(len(first))):
        _refine(first[level], second[level], flow, variant)
        if level > 0:
            flow = enlarge(flow, first[level - 1].shape[1:], variant) / SCALE_STEP
    return flow


def pyramid(images: Tensor, variant: Variant) -> list[Tensor]:
    """Images [B, H, W] at each scale, the largest first."""
    levels = [images]
    while len(levels) < SCALES:
        height, width = (round(side * SCALE_STEP) for side in levels[-1].shape[1:])
        if min(height, width) < MIN_SIDE:
            break
        levels.append(_resize(levels[-1], (height, width), (1 / SCALE_STEP, 1 / SCALE_STEP), variant))
    return levels


def enlarge(flow: Tensor, size: Sequence[int], variant: Variant) -> Tensor:
    """Resize a flow [B, 2, h, w] to `size`, values as they are."""
    height, width = size
    return _resize(flow, (height, width), (flow.shape[2] / height, flow.shape[3] / width), variant)


def _resize(images: Tensor, size: tuple[int, int], scales: tuple[float, float], variant: Variant) -> Tensor:
    """Bilinear on the last two axes; `scales` are input pixels per output pixel. The CUDA version shifts nothing."""
    shift = 0.5 if variant == "opencv" else 0.0
    # Gathers, not matrix products: those round differently for other batch sizes.
    for axis, target, scale in ((-1, size[1], scales[1]), (-2, size[0], scales[0])):
        source = images.shape[axis]
        low, high, share = _neighbors(source, target, scale, shift, images.device)
        if axis == -2:
            share = share[:, None]
        images = images.index_select(axis, low) * (1 - share) + images.index_select(axis, high) * share
    return images


@lru_cache(maxsize=256)
def _neighbors(
    source: int, target: int, scale: float, shift: float, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each of `target` pixels its two neighbors among `source`, int64, and the share of the second, float32.

    Kept on the device: to copy them there, the host would wait for all that is queued.
    """
    with torch.inference_mode(False):
        position = ((torch.arange(target, dtype=torch.float64) + shift) * scale - shift).clamp(0, source - 1)
        low = position.floor().long()
        high = (low + 1).clamp(max=source - 1)
        return low.to(device), high.to(device), (position - low).float().to(device)


def _refine(first: Tensor, second: Tensor, flow: Tensor, variant: Variant) -> None:
    """All warps of one scale: improves `flow` [B, 2, H, W] in place from images [B, H, W]."""
    images = torch.cat([second[:, None], centered_gradient(second)], dim=1)  # [B, 3, H, W]
    dual = flow.new_zeros(flow.shape[0], 2, *flow.shape[1:])  # p, [B, direction x or y, component, H, W]
    for _ in range(WARPS):
        warped = _warp(images, flow) if variant == "opencv" else _warp_catmull_rom(images, flow)
        gradient = warped[:, 1:]  # [B, 2, H, W]
        constant = warped[:, :1] - (gradient * flow).sum(1, keepdim=True) - first[:, None]  # rho without its u term
        _iterate(gradient, constant, flow, dual, smooths=variant == "opencv")


def centered_gradient(image: Tensor) -> Tensor:
    """[B, H, W] -> [B, 2, H, W], edges clamped."""
    padded = F.pad(image[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    return 0.5 * torch.stack(
        [padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]], dim=1
    )


def _warp(images: Tensor, flow: Tensor) -> Tensor:
    """Images [B, 3, H, W] at x + u: bicubic with A = -0.75, zero outside.

    At the exact position, as in OpenCV 5; OpenCV 4 rounds positions to 1/32 px first.
    """
    height, width = images.shape[2:]
    x = torch.arange(width, dtype=torch.float32, device=flow.device) + flow[:, 0]
    y = torch.arange(height, dtype=torch.float32, device=flow.device)[:, None] + flow[:, 1]
    # In double: where flow is 0 the sample must be the pixel itself, or noise becomes flow in flat regions.
    grid = torch.stack([x.double() * (2 / (width - 1)) - 1, y.double() * (2 / (height - 1)) - 1], dim=-1)
    sampled = F.grid_sample(images.double(), grid, mode="bicubic", padding_mode="zeros", align_corners=True)
    return sampled.float()


def _warp_catmull_rom(images: Tensor, flow: Tensor) -> Tensor:
    """Images [B, 3, H, W] at x + u: bicubic with A = -0.5, edges repeated."""
    height, width = images.shape[2:]
    x = torch.arange(width, dtype=torch.float32, device=flow.device) + flow[:, 0]
    y = torch.arange(height, dtype=torch.float32, device=flow.device)[:, None] + flow[:, 1]
    left, top = x.floor(), y.floor()
    warped = torch.zeros_like(images)
    for i in range(-1, 3):
        for j in range(-1, 3):
            weight = _catmull_rom(y - (top + i)) * _catmull_rom(x - (left + j))
            rows, columns = (top + i).clamp(0, height - 1).long(), (left + j).clamp(0, width - 1).long()
            at = (rows * width + columns).flatten(1)[:, None].expand(-1, images.shape[1], -1)
            warped += weight[:, None] * images.flatten(2).gather(2, at).view_as(images)
    return warped


def _catmull_rom(distance: Tensor) -> Tensor:
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0))


def _iterate(gradient: Tensor, constant: Tensor, flow: Tensor, dual: Tensor, smooths: bool) -> None:
    """The iterations of one warp: updates `flow` and `dual` in place, each pair until it has converged."""
    limit = EPSILON**2 * flow.shape[2] * flow.shape[3]
    pairs = torch.arange(len(flow), device=flow.device)  # those that still iterate
    inverse = -1 / gradient.square().sum(1, keepdim=True).clamp(min=TINY_GRADIENT)
    u, p = flow, dual
    for _ in range(OUTER_ITERATIONS):
        if smooths:
            u = _median(u)
        for _ in range(INNER_ITERATIONS):
            before, u = u, _primal_step(gradient, constant, inverse, u, p)
            p = _dual_step(u, p)
            # Row by row in double, so that the sum does not depend on the batch.
            change = (u - before).square().sum(dim=3, dtype=torch.float64).sum(dim=(1, 2))
            going = change > limit
            if going.all():
                continue
            flow[pairs[~going]], dual[pairs[~going]] = u[~going], p[~going]
            if not going.any():
                return
            pairs, u, p = pairs[going], u[going], p[going]
            gradient, constant, inverse = gradient[going], constant[going], inverse[going]
    flow[pairs], dual[pairs] = u, p


def _primal_step(gradient: Tensor, constant: Tensor, inverse: Tensor, u: Tensor, p: Tensor) -> Tensor:
    """Thresholding step to v, then u = v + theta div p."""
    rho = torch.addcmul(constant, gradient[:, :1], u[:, :1]).addcmul_(gradient[:, 1:], u[:, 1:])
    step = rho.mul_(inverse).clamp_(-LAMBDA * THETA, LAMBDA * THETA)  # [B, 1, H, W]
    divergence = p[:, 0] + p[:, 1]  # [B, component, H, W]; the first row and column take the value itself
    divergence[..., 1:] -= p[:, 0, ..., :-1]
    divergence[..., 1:, :] -= p[:, 1, ..., :-1, :]
    return torch.addcmul(u, step, gradient).add_(divergence, alpha=THETA)


def _dual_step(u: Tensor, p: Tensor) -> Tensor:
    slope = torch.zeros_like(p)  # forward differences, 0 in the last column and row
    torch.sub(u[..., 1:], u[..., :-1], out=slope[:, 0, ..., :-1])
    torch.sub(u[..., 1:, :], u[..., :-1, :], out=slope[:, 1, ..., :-1, :])
    length = slope.square().sum(1, keepdim=True).sqrt_()
    return slope.mul_(TAU / THETA).add_(p).div_(length.mul_(TAU / THETA).add_(1))


def _median(flow: Tensor) -> Tensor:
    """Median over 5 x 5 pixels of each component, edges repeated.

    Made of whole-image minima and maxima: many times faster than sorting 25 values for each pixel.
    """
    height, width = flow.shape[2:]
    padded = F.pad(flow, (2, 2, 2, 2), mode="replicate")
    # Columns of five are sorted once and shared by the five windows that they lie in.
    columns = _sort([padded[:, :, i : i + height] for i in range(MEDIAN)])
    rows = [_sort([column[..., j : j + width] for j in range(MEDIAN)]) for column in columns]
    # With rows and columns sorted, cell (i, j) has at least (i+1)(j+1)-1 values below it and (5-i)(5-j)-1 above; more
    # than 12 on one side rule it out. Six fall out on each side, so the median of the other 13 is the same.
    cells = [(i, j) for i in range(5) for j in range(5) if (i + 1) * (j + 1) <= 13 and (5 - i) * (5 - j) <= 13]
    return _median_of([rows[i][j] for i, j in cells])


def _sort(values: list[Tensor]) -> list[Tensor]:
    """Sorted pixel by pixel, by exchanging neighbors."""
    values = list(values)
    for end in range(len(values) - 1, 0, -1):
        for i in range(end):
            values[i], values[i + 1] = torch.minimum(values[i], values[i + 1]), torch.maximum(values[i], values[i + 1])
    return values


def _median_of(values: list[Tensor]) -> Tensor:
    """Median of an odd number of images: of any half plus two, the least and the greatest cannot be the median."""
    candidates, waiting = values[: len(values) // 2 + 2], values[len(values) // 2 + 2 :]
    while True:
        candidates = _ends_outward(candidates)[1:-1]
        if not waiting:
            return candidates[0]
        candidates.append(waiting.pop())


def _ends_outward(values: list[Tensor]) -> list[Tensor]:
    """The same values pixel by pixel, the least first and the greatest last."""
    values = list(values)
    last = len(values) - 1
    for i in range(last):
        values[i], values[last] = torch.minimum(values[i], values[last]), torch.maximum(values[i], values[last])
    for i in range(1, last):
        values[0], values[i] = torch.minimum(values[0], values[i]), torch.maximum(values[0], values[i])
    return values
