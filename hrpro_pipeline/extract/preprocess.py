"""Frames to network input: resize, gray, crop, windows, scale. Pure functions on arrays."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

Item = TypeVar("Item")


def resized_size(width: int, height: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) after resizing: to a short side with the aspect kept, or to [width, height] as given."""
    if not isinstance(resize, int):
        return resize
    short = min(width, height)
    return round(width * resize / short), round(height * resize / short)


def resize_frame(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> [height, width, 3] for a size of (width, height), bilinear."""
    if frame.shape[1::-1] == size:
        return frame
    return cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)


def gray(frame: np.ndarray) -> np.ndarray:
    """RGB uint8 [H, W, 3] -> uint8 [H, W]."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def centre_crop(image: Tensor, side: int) -> Tensor:
    """The middle of the last two axes: [..., H, W] -> [..., side, side]."""
    top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
    return image[..., top : top + side, left : left + side]


def windows(items: Iterable[Item], length: int, stride: int) -> Iterator[list[Item]]:
    """All whole windows of `length` items, every `stride` items; fewer items than one window repeat the last one.

    Holds one window at a time; no items give no window.
    """
    held: deque[Item] = deque()
    skip = 0  # items between windows, when the stride is longer than a window
    complete = False
    for item in items:
        if skip:
            skip -= 1
            continue
        held.append(item)
        if len(held) == length:
            complete = True
            yield list(held)
            skip = max(0, stride - length)
            for _ in range(min(stride, length)):
                held.popleft()
    if not complete and held:
        yield list(held) + [held[-1]] * (length - len(held))


def clips(window_batch: Sequence[Sequence[Tensor]]) -> Tensor:
    """Windows of uint8 frames [channels, H, W] -> uint8 [B, channels, t, H, W]."""
    return torch.stack([torch.stack(list(window), dim=1) for window in window_batch])


def scaled(levels: Tensor, mean: float, deviation: float) -> Tensor:
    """uint8 levels of any shape -> float32 (x / 255 - mean) / deviation; mean and deviation 0.5 give [-1, 1]."""
    return (levels.float() / 255 - mean) / deviation
