"""Dual TV-L1 optical flow on the CPU: the iterations compiled from Python, OpenCV's primitives for the rest.

Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007, as OpenCV computes it.
What `cv2.optflow.DualTVL1OpticalFlow` calls once a warp (resize, remap, median) is called here, too; what it does
hundreds of times a warp is one pass over the rows, in which every inner loop is vectorized. Each value is computed by
the same float32 operations in the same order: where images are flat or noisy, warps multiply a rounding error by
hundreds, so that only this keeps to OpenCV's answer.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hrpro_pipeline.base.compiled import compiled
from hrpro_pipeline.extract.flow.tvl1_torch import (
    EPSILON,
    INNER_ITERATIONS,
    LAMBDA,
    MEDIAN,
    MIN_SIDE,
    OUTER_ITERATIONS,
    SCALE_STEP,
    SCALES,
    TAU,
    THETA,
    TINY_GRADIENT,
    WARPS,
    Variant,
)

_THRESHOLD = np.float32(LAMBDA * THETA)
_STEP = np.float32(TAU / THETA)
_THETA = np.float32(THETA)
_TINY = np.float32(TINY_GRADIENT)
_HALF = np.float32(0.5)
_ZERO = np.float32(0)
_ONE = np.float32(1)
# Sums of squared changes this near to the limit, as a share of it, are added up again in OpenCV's order.
_NEAR = 2e-3


def tvl1_pair(first: np.ndarray, second: np.ndarray, variant: Variant = "opencv") -> np.ndarray:
    """Flow from `first` to `second`.

    Args:
        first, second: gray float32 images [H, W], 0..255; sides of at least 16.
        variant: as for `tvl1_torch.tvl1_pairs`.

    Returns:
        float32 [2, H, W] in pixels, horizontal first.
    """
    return tvl1_pyramids(pyramid(first, variant), pyramid(second, variant), variant)


def tvl1_pyramids(first: Sequence[np.ndarray], second: Sequence[np.ndarray], variant: Variant) -> np.ndarray:
    """`tvl1_pair` of two pyramids."""
    flow = np.zeros((2, *first[-1].shape), np.float32)
    for level in reversed(range(len(first))):
        _refine(first[level], second[level], flow, variant)
        if level > 0:
            finer = first[level - 1].shape
            flow = np.stack([_enlarge(component, finer, variant) for component in flow]) * np.float32(1 / SCALE_STEP)
    return flow


def pyramid(image: np.ndarray, variant: Variant) -> list[np.ndarray]:
    """A float32 image [H, W] at each scale, the largest first."""
    levels = [image]
    while len(levels) < SCALES:
        height, width = (round(side * SCALE_STEP) for side in image.shape)
        if min(height, width) < MIN_SIDE:
            break
        if variant == "opencv":
            image = cv2.resize(image, None, fx=SCALE_STEP, fy=SCALE_STEP, interpolation=cv2.INTER_LINEAR)
        else:
            image = _resize_unshifted(image, (height, width), (1 / SCALE_STEP, 1 / SCALE_STEP))
        levels.append(image)
    return levels


def _enlarge(image: np.ndarray, shape: tuple[int, int], variant: Variant) -> np.ndarray:
    if variant == "opencv":
        return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return _resize_unshifted(image, shape, (image.shape[0] / shape[0], image.shape[1] / shape[1]))


def _resize_unshifted(image: np.ndarray, shape: tuple[int, int], scales: tuple[float, float]) -> np.ndarray:
    """Bilinear, output pixel i at input position i * scale, as OpenCV's CUDA resize has it."""
    for axis in (0, 1):
        position = np.arange(shape[axis], dtype=np.float32) * np.float32(scales[axis])
        low = np.minimum(position.astype(np.int64), image.shape[axis] - 1)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        share = np.expand_dims(position - low.astype(np.float32), 1 - axis)
        image = np.take(image, low, axis) * (_ONE - share) + np.take(image, high, axis) * share
    return image


def _refine(first: np.ndarray, second: np.ndarray, flow: np.ndarray, variant: Variant) -> None:
    """All warps of one scale: improves `flow` [2, H, W] in place from images [H, W]."""
    height, width = first.shape
    images = np.dstack([second, *_centered_gradient(second)])  # [H, W, 3]
    coefficients = np.empty((3, height, width), np.float32)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    dual = np.zeros((2, 2, height, width), np.float32)  # [component, direction x or y, H, W]
    limit = np.float32(EPSILON**2 * height * width)
    for _ in range(WARPS):
        if not flow.any():
            warped = images  # either interpolation has a pixel itself at its own place
        elif variant == "opencv":
            warped = cv2.remap(images, columns + flow[0], rows + flow[1], cv2.INTER_CUBIC)
        else:
            warped = _catmull_rom(images, flow)
        _prepare(warped, first, flow, coefficients)
        for _ in range(OUTER_ITERATIONS):
            if variant == "opencv":
                for component in flow:
                    component[:] = cv2.medianBlur(component, MEDIAN)
            if _iterate(coefficients, flow, dual, limit, INNER_ITERATIONS):
                break


def _centered_gradient(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centered differences in x and y, edges clamped."""
    padded = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    return _HALF * (padded[1:-1, 2:] - padded[1:-1, :-2]), _HALF * (padded[2:, 1:-1] - padded[:-2, 1:-1])


# `error_model="numpy"`: the check for division by zero would keep loops from being vectorized. Each loop takes few
# arrays for the same reason: the compiler must tell that they do not overlap.
_kernel = compiled(nogil=True, error_model="numpy")


@_kernel
def _prepare(warped: np.ndarray, first: np.ndarray, flow: np.ndarray, coefficients: np.ndarray) -> None:
    """From warped image and gradient [H, W, 3] what iterations need, [3, H, W]: rho without its u term, gradient."""
    for y in range(len(first)):
        for x in range(len(first[y])):
            image, across, down = warped[y, x, 0], warped[y, x, 1], warped[y, x, 2]
            coefficients[0, y, x] = image - across * flow[0, y, x] - down * flow[1, y, x] - first[y, x]
            coefficients[1, y, x] = across
            coefficients[2, y, x] = down


@_kernel
def _iterate(coefficients: np.ndarray, flow: np.ndarray, dual: np.ndarray, limit: float, count: int) -> bool:
    """At most `count` iterations in place -> whether the flow has converged: its squared change is within `limit`.

    Args:
        coefficients: [3, H, W]: rho without its u term, and the gradient.
    """
    height, width = flow.shape[1:]
    rows = np.empty((2, width), np.float32)
    squares = np.empty((height, width), np.float32)
    for _ in range(count):
        change = _iteration(coefficients, flow, dual, rows, squares)
        if abs(change - limit) < _NEAR * limit:
            change = _sum_in_order(squares)
        if change <= limit:
            return True
    return False


@_kernel
def _iteration(
    coefficients: np.ndarray, flow: np.ndarray, dual: np.ndarray, rows: np.ndarray, squares: np.ndarray
) -> float:
    """One primal and one dual step in place -> the sum of squared changes of the flow; `squares` has them by pixel.

    In one pass: the dual row above is done as soon as both of its flow rows are new and nobody needs its old values.
    """
    height = flow.shape[1]
    change = 0.0
    for y in range(height):
        across, down = coefficients[1, y], coefficients[2, y]
        _threshold_row(coefficients[0, y], across, down, flow[0, y], flow[1, y], rows[0], rows[1])
        for k in range(2):
            if y == 0:
                _divergence_first_row(dual[k, 0, 0], dual[k, 1, 0], rows[k])
            else:
                _divergence_row(dual[k, 0, y], dual[k, 1, y], dual[k, 1, y - 1], rows[k])
        change += _move_row(flow[0, y], flow[1, y], rows[0], rows[1], squares[y])
        if y > 0:
            for k in range(2):
                _dual_row(flow[k, y - 1], flow[k, y], dual[k, 0, y - 1], dual[k, 1, y - 1])
    for k in range(2):  # below the last row there is no slope
        _dual_row(flow[k, height - 1], flow[k, height - 1], dual[k, 0, height - 1], dual[k, 1, height - 1])
    return change


@_kernel
def _threshold_row(
    constant: np.ndarray,
    across: np.ndarray,
    down: np.ndarray,
    flow_x: np.ndarray,
    flow_y: np.ndarray,
    moved_x: np.ndarray,
    moved_y: np.ndarray,
) -> None:
    """v of a row: where the data term moves each pixel to."""
    for x in range(len(constant)):
        squared = across[x] * across[x] + down[x] * down[x]
        rho = constant[x] + (across[x] * flow_x[x] + down[x] * flow_y[x])
        far = _THRESHOLD * squared
        step = -rho / squared if squared > _TINY else _ZERO
        step = _THRESHOLD if rho < -far else (-_THRESHOLD if rho > far else step)
        moved_x[x] = step * across[x]
        moved_y[x] = step * down[x]
    for x in range(len(constant)):
        moved_x[x] = flow_x[x] + moved_x[x]
        moved_y[x] = flow_y[x] + moved_y[x]


@_kernel
def _divergence_row(across: np.ndarray, down: np.ndarray, above: np.ndarray, moved: np.ndarray) -> None:
    """u = v + theta div p of a component's row, in place of v; `above` is `down` a row up."""
    moved[0] = moved[0] + _THETA * (across[0] + down[0] - above[0])
    for x in range(1, len(moved)):
        moved[x] = moved[x] + _THETA * ((across[x] - across[x - 1]) + (down[x] - above[x]))


@_kernel
def _divergence_first_row(across: np.ndarray, down: np.ndarray, moved: np.ndarray) -> None:
    """`_divergence_row` where there is no row above."""
    moved[0] = moved[0] + _THETA * (across[0] + down[0])
    for x in range(1, len(moved)):
        moved[x] = moved[x] + _THETA * (across[x] - across[x - 1] + down[x])


@_kernel
def _move_row(
    flow_x: np.ndarray, flow_y: np.ndarray, moved_x: np.ndarray, moved_y: np.ndarray, squares: np.ndarray
) -> float:
    """Take over a row of the flow -> the sum of its squared changes, whose order does not matter here."""
    for x in range(len(squares)):
        change_x, change_y = moved_x[x] - flow_x[x], moved_y[x] - flow_y[x]
        squares[x] = change_x * change_x + change_y * change_y
    flow_x[:] = moved_x
    flow_y[:] = moved_y
    return _sum_row(squares)


@compiled(nogil=True, fastmath=True)
def _sum_row(values: np.ndarray) -> np.float32:
    total = _ZERO
    for x in range(len(values)):
        total += values[x]
    return total


@_kernel
def _sum_in_order(values: np.ndarray) -> np.float32:
    """The sum in float32, one after the other."""
    total = _ZERO
    for y in range(len(values)):
        for x in range(len(values[y])):
            total = total + values[y, x]
    return total


@_kernel
def _dual_row(flow: np.ndarray, below: np.ndarray, across: np.ndarray, down: np.ndarray) -> None:
    """p = (p + tau/theta grad u) / (1 + tau/theta |grad u|) of a row in place; `below` is `flow` a row further down."""
    last = len(flow) - 1
    for x in range(last):
        slope_x, slope_y = flow[x + 1] - flow[x], below[x] - flow[x]
        wide_x, wide_y = np.float64(slope_x), np.float64(slope_y)  # OpenCV's hypot is that of doubles
        grown = _ONE + _STEP * np.float32(np.sqrt(wide_x * wide_x + wide_y * wide_y))
        across[x] = (across[x] + _STEP * slope_x) / grown
        down[x] = (down[x] + _STEP * slope_y) / grown
    slope_y = below[last] - flow[last]
    grown = _ONE + _STEP * abs(slope_y)
    across[last] = across[last] / grown
    down[last] = (down[last] + _STEP * slope_y) / grown


@_kernel
def _catmull_rom(images: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Images [H, W, 3] at x + u: Catmull-Rom over 4 x 4 pixels, edges repeated."""
    height, width, channels = images.shape
    warped = np.zeros(images.shape, np.float32)
    weights = np.empty((2, 4), np.float32)
    for y in range(height):
        for x in range(width):
            at_x, at_y = np.float32(x) + flow[0, y, x], np.float32(y) + flow[1, y, x]
            left, top = int(np.floor(at_x)), int(np.floor(at_y))
            for axis, share in enumerate((at_x - np.float32(left), at_y - np.float32(top))):
                weights[axis, 0] = share * (share * (2 - share) - 1) / 2
                weights[axis, 1] = (share * share * (3 * share - 5) + 2) / 2
                weights[axis, 2] = share * (share * (4 - 3 * share) + 1) / 2
                weights[axis, 3] = share * share * (share - 1) / 2
            for i in range(4):
                row = min(max(top - 1 + i, 0), height - 1)
                for j in range(4):
                    column = min(max(left - 1 + j, 0), width - 1)
                    weight = weights[1, i] * weights[0, j]
                    for channel in range(channels):
                        warped[y, x, channel] += weight * images[row, column, channel]
    return warped
