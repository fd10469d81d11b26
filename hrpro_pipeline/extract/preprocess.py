"""Frames to network input: gray, crops, windows, scale. Pure functions on tensors."""

from collections import deque
from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hrpro_pipeline.extract.networks.network import Levels

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
    """Windows of `length` items, one every `stride` items, as the items come; holds one window at a time.

    Args:
        before, after: items around each window that come with it. At the ends, the first and the last are repeated.
    """

    def __init__(self, length: int, stride: int, before: int = 0, after: int = 0) -> None:
        self._length, self._stride = before + length + after, stride
        self._before, self._after = before, after
        self._last: Item | None = None
        self._items: deque[Item] = deque()
        self._skip = 0  # items between windows, when the stride is longer than a window
        self._has_window = False

    def push(self, item: Item) -> list[Item] | None:
        """Take an item -> the window that it completes, if any: `before`, `length` and `after` items."""
        if self._last is None:
            for _ in range(self._before):
                self._take(item)
        self._last = item
        return self._take(item)

    def final(self) -> list[list[Item]]:
        """The windows at the end. Fewer items than one window repeat the last one; no items give no window."""
        if self._last is None:
            return []
        windows = [window for _ in range(self._after) if (window := self._take(self._last))]
        if self._has_window:
            return windows
        items = list(self._items)
        return [items + [items[-1]] * (self._length - len(items))]

    def _take(self, item: Item) -> list[Item] | None:
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


def clip(window: Sequence[Tensor]) -> Tensor:
    """A window of uint8 frames [crops, channels, H, W] -> uint8 [crops, channels, t, H, W]."""
    return torch.stack(list(window), dim=2)


def scaled(levels: Tensor, mean: Levels, std: Levels, side: int | None = None) -> Tensor:
    """uint8 levels -> float32 (x / 255 - mean) / std; mean and std 0.5 give [-1, 1].

    Args:
        levels: of any shape; [B, channels, t, H, W] for what follows.
        mean, std: of all channels, or of each.
        side: frames of another size are resized to this one, bilinear.
    """
    scaled = (levels.float() / 255 - _per_channel(mean, levels)) / _per_channel(std, levels)
    if side is None or scaled.shape[-2:] == (side, side):
        return scaled
    frames = scaled.transpose(1, 2).flatten(0, 1)  # [B t, channels, H, W]
    resized = F.interpolate(frames, (side, side), mode="bilinear", align_corners=False, antialias=True)
    return resized.unflatten(0, (len(scaled), -1)).transpose(1, 2)


def _per_channel(value: Levels, levels: Tensor) -> float | Tensor:
    if isinstance(value, int | float):
        return value
    return torch.tensor(value, dtype=torch.float32, device=levels.device).view(-1, 1, 1, 1)
