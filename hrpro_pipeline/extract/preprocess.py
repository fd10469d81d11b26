"""Frames to network input: gray, crops, windows, scale. Pure functions on tensors."""

from collections import deque
from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Crops = Literal["center", "five", "ten"]

# OpenCV's weights of red, green and blue in gray, in 1 / 2**15.
_GRAY = (9798, 19235, 3735)


def gray(frames: Tensor) -> Tensor:
    """RGB uint8 [N, H, W, 3] -> uint8 [N, H, W], OpenCV's integer arithmetic on any device."""
    red, green, blue = (weight * frames[..., i].int() for i, weight in enumerate(_GRAY))
    return red.add_(green).add_(blue).add_(1 << 14).bitwise_right_shift_(15).to(torch.uint8)


def crop_views(images: Tensor, side: int, crops: Crops) -> list[Tensor]:
    """Crops of the last two axes, views [..., side, side]: the center; or the four corners and the center.

    For "ten", those five and then those five of the image mirrored left to right.
    """
    height, width = images.shape[-2:]
    middle = (height - side) // 2, (width - side) // 2
    if crops == "center":
        return [_cut(images, *middle, side)]
    corners = [(top, left) for top in (0, height - side) for left in (0, width - side)]
    views = [_cut(images, top, left, side) for top, left in (*corners, middle)]
    return views + [view.flip(-1) for view in crop_views(images, side, "five")] if crops == "ten" else views


def _cut(images: Tensor, top: int, left: int, side: int) -> Tensor:
    return images[..., top : top + side, left : left + side]


class Windows(Generic[Item]):
    """Windows of `length` items, one every `stride` items, as the items come; holds one window at a time."""

    def __init__(self, length: int, stride: int) -> None:
        self._length, self._stride = length, stride
        self._items: deque[Item] = deque()
        self._skip = 0  # items between windows, when the stride is longer than a window
        self._has_window = False

    def push(self, item: Item) -> list[Item] | None:
        """Take an item -> the window that it completes, if any."""
        if self._skip:
            self._skip -= 1
            return None
        self._items.append(item)
        if len(self._items) < self._length:
            return None
        self._has_window = True
        window = list(self._items)
        self._skip = max(0, self._stride - self._length)
        for _ in range(min(self._stride, self._length)):
            self._items.popleft()
        return window

    def final(self) -> list[Item] | None:
        """At the end: fewer items than one window repeat the last one; no items give no window."""
        if self._has_window or not self._items:
            return None
        items = list(self._items)
        return items + [items[-1]] * (self._length - len(items))


def clip(window: Sequence[Tensor]) -> Tensor:
    """A window of uint8 frames [crops, channels, H, W] -> uint8 [crops, channels, t, H, W]."""
    return torch.stack(list(window), dim=2)


def scaled(levels: Tensor, mean: float, std: float) -> Tensor:
    """uint8 levels of any shape -> float32 (x / 255 - mean) / std; mean and std 0.5 give [-1, 1]."""
    return (levels.float() / 255 - mean) / std
