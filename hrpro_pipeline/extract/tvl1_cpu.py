"""Dual TV-L1 optical flow on the CPU: the iterations compiled from Python, OpenCV's primitives for the rest.

Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007, as OpenCV computes it.
What `cv2.optflow.DualTVL1OpticalFlow` calls once a warp (resize, remap, median) is called here, too; what it does
hundreds of times a warp is one pass over the rows, in which every inner loop is vectorised.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from hrpro_pipeline.compiled import compiled
from hrpro_pipeline.extract.tvl1 import (
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
_HALF = np.float32(0.5)
_ONE = np.float32(1)


def tvl1_pair(first: np.ndarray, second: np.ndarray, variant: Variant = "opencv") -> np.ndarray:
    """Flow from `first` to `second`.

    Args:
        first, second: gray float32 images [H, W], 0..255; sides of at least 16.
        variant: as for `tvl1.tvl1_pairs`.

    Returns:
        float32 [2, H, W] in pixels, horizontal first.
    """
    levels = list(zip(_pyramid(first, variant), _pyramid(second, variant), strict=True))
    flow = np.zeros((2, *levels[-1][0].shape), np.float32)
    for level in reversed(range(len(levels))):
        _refine(*levels[level], flow, variant)
        if level > 0:
            finer = levels[level - 1][0].shape
            flow = np.stack([_enlarge(component, finer, variant) for component in flow]) / np.float32(SCALE_STEP)
    return flow


def _pyramid(image: np.ndarray, variant: Variant) -> Iterator[np.ndarray]:
    yield image
    for _ in range(SCALES - 1):
        height, width = (round(side * SCALE_STEP) for side in image.shape)
        if min(height, width) < MIN_SIDE:
            return
        if variant == "opencv":
            image = cv2.resize(image, None, fx=SCALE_STEP, fy=SCALE_STEP, interpolation=cv2.INTER_LINEAR)
        else:
            image = _resize_unshifted(image, (height, width), (1 / SCALE_STEP, 1 / SCALE_STEP))
        yield image


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
    images = np.dstack([second, *_centred_gradient(second)])  # [H, W, 3]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    dual = np.zeros((2, 2, height, width), np.float32)  # [component, direction x or y, H, W]
    limit = EPSILON**2 * height * width
    for _ in range(WARPS):
        if variant == "opencv":
            warped = cv2.remap(images, columns + flow[0], rows + flow[1], cv2.INTER_CUBIC)
        else:
            warped = _catmull_rom(images, flow)
        gradient = np.ascontiguousarray(warped[..., 1:].transpose(2, 0, 1))  # [2, H, W]
        # rho without its u term, and -1 / |gradient|^2
        constant = warped[..., 0] - (gradient * flow).sum(axis=0) - first
        inverse = -_ONE / np.maximum(np.square(gradient).sum(axis=0), np.float32(TINY_GRADIENT))
        for _ in range(OUTER_ITERATIONS):
            if variant == "opencv":
                for component in flow:
                    component[:] = cv2.medianBlur(component, MEDIAN)
            if _iterate(constant, gradient, inverse, flow, dual, limit, INNER_ITERATIONS):
                break


def _centred_gradient(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred differences in x and y, edges clamped."""
    padded = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    return _HALF * (padded[1:-1, 2:] - padded[1:-1, :-2]), _HALF * (padded[2:, 1:-1] - padded[:-2, 1:-1])


# `error_model="numpy"`: the check for division by zero would keep loops from being vectorised. Each loop takes few
# arrays for the same reason: the compiler must tell that they do not overlap.
_kernel = compiled(fastmath=True, nogil=True, error_model="numpy")


@_kernel
def _iterate(
    constant: np.ndarray,
    gradient: np.ndarray,
    inverse: np.ndarray,
    flow: np.ndarray,
    dual: np.ndarray,
    limit: float,
    count: int,
) -> bool:
    """At most `count` iterations in place -> whether the flow has converged: its squared change is within `limit`."""
    step = np.empty(constant.shape[1], np.float32)
    for _ in range(count):  # noqa: SIM110  numba compiles no generators
        if _iteration(constant, gradient, inverse, flow, dual, step) <= limit:
            return True
    return False


@_kernel
def _iteration(
    constant: np.ndarray,
    gradient: np.ndarray,
    inverse: np.ndarray,
    flow: np.ndarray,
    dual: np.ndarray,
    step: np.ndarray,
) -> float:
    """One primal and one dual step in place -> the sum of squared changes of the flow.

    In one pass: the dual row above is done as soon as both of its flow rows are new and nobody needs its old values.
    """
    height = len(constant)
    change = 0.0
    for y in range(height):
        _threshold_row(constant[y], gradient[0, y], gradient[1, y], inverse[y], flow[0, y], flow[1, y], step)
        for k in range(2):
            if y == 0:
                change += _primal_first_row(step, gradient[k, 0], dual[k, 0, 0], dual[k, 1, 0], flow[k, 0])
            else:
                change += _primal_row(step, gradient[k, y], dual[k, 0, y], dual[k, 1, y], dual[k, 1, y - 1], flow[k, y])
                _dual_row(flow[k, y - 1], flow[k, y], dual[k, 0, y - 1], dual[k, 1, y - 1])
    for k in range(2):  # below the last row there is no slope
        _dual_row(flow[k, height - 1], flow[k, height - 1], dual[k, 0, height - 1], dual[k, 1, height - 1])
    return change


@_kernel
def _threshold_row(
    constant: np.ndarray,
    gradient_x: np.ndarray,
    gradient_y: np.ndarray,
    inverse: np.ndarray,
    flow_x: np.ndarray,
    flow_y: np.ndarray,
    step: np.ndarray,
) -> None:
    """How far along the gradient the data term moves each pixel of a row."""
    for x in range(len(step)):
        rho = constant[x] + gradient_x[x] * flow_x[x] + gradient_y[x] * flow_y[x]
        step[x] = min(max(rho * inverse[x], -_THRESHOLD), _THRESHOLD)


@_kernel
def _primal_row(
    step: np.ndarray, gradient: np.ndarray, across: np.ndarray, down: np.ndarray, above: np.ndarray, flow: np.ndarray
) -> float:
    """u = v + theta div p of a component's row in place -> the sum of squared changes; `above` is `down` a row up."""
    moved = step[0] * gradient[0] + _THETA * (across[0] + down[0] - above[0])
    flow[0] += moved
    total = moved * moved
    for x in range(1, len(flow)):
        moved = step[x] * gradient[x] + _THETA * (across[x] - across[x - 1] + down[x] - above[x])
        flow[x] += moved
        total += moved * moved
    return total


@_kernel
def _primal_first_row(
    step: np.ndarray, gradient: np.ndarray, across: np.ndarray, down: np.ndarray, flow: np.ndarray
) -> float:
    """`_primal_row` where there is no row above."""
    moved = step[0] * gradient[0] + _THETA * (across[0] + down[0])
    flow[0] += moved
    total = moved * moved
    for x in range(1, len(flow)):
        moved = step[x] * gradient[x] + _THETA * (across[x] - across[x - 1] + down[x])
        flow[x] += moved
        total += moved * moved
    return total


@_kernel
def _dual_row(flow: np.ndarray, below: np.ndarray, across: np.ndarray, down: np.ndarray) -> None:
    """p = (p + tau/theta grad u) / (1 + tau/theta |grad u|) of a row in place; `below` is `flow` a row further down."""
    last = len(flow) - 1
    for x in range(last):
        slope_x, slope_y = flow[x + 1] - flow[x], below[x] - flow[x]
        shrink = _ONE / (_ONE + _STEP * np.sqrt(slope_x * slope_x + slope_y * slope_y))
        across[x] = (across[x] + _STEP * slope_x) * shrink
        down[x] = (down[x] + _STEP * slope_y) * shrink
    slope_y = below[last] - flow[last]
    shrink = _ONE / (_ONE + _STEP * abs(slope_y))
    across[last] = across[last] * shrink
    down[last] = (down[last] + _STEP * slope_y) * shrink


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
