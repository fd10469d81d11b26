"""Frames to another size: NumPy arrays by OpenCV, tensors on their device."""

from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# An array, or a tensor: torch is not imported where frames are decoded on the CPU.
Image = TypeVar("Image", np.ndarray, "Tensor")


def resized_size(width: int, height: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) after resizing: to a short side with the aspect kept, or to [width, height] as given."""
    if not isinstance(resize, int):
        return resize
    short = min(width, height)
    return round(width * resize / short), round(height * resize / short)


def resize_frame(frame: Image, size: tuple[int, int]) -> Image:
    """uint8 [H, W, 3] -> [height, width, 3] for a size of (width, height), bilinear.

    Tensors stay on their device; they come within a level of what OpenCV gives for arrays.
    """
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    if isinstance(frame, np.ndarray):
        return cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    return _resize_tensor(frame, size)


def _resize_tensor(frame: Any, size: tuple[int, int]) -> Any:
    import torch
    from torch.nn import functional as F

    planes = frame.permute(2, 0, 1)[None].float()
    resized = F.interpolate(planes, (size[1], size[0]), mode="bilinear", align_corners=False)
    return resized[0].round_().to(torch.uint8).permute(1, 2, 0).contiguous()
