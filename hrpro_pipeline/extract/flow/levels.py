"""Flow in pixels to 8-bit levels, as published features saw it."""

from typing import Literal

import torch
from torch import Tensor

Rounding = Literal["rounded", "floored"]


def flow_levels(flow: Tensor, clamp: float, rounding: Rounding = "rounded") -> Tensor:
    """Flow in pixels (any shape) -> uint8 levels: -clamp is 0, +clamp is 255.

    Args:
        rounding: "rounded" to the nearest (half to even), as denseflow does: 0 becomes 128; "floored", as in the recipe
            of the I3D authors: 0 becomes 127.
    """
    levels = 255 * (flow.clamp(-clamp, clamp) + clamp) / (2 * clamp)
    return (levels.round() if rounding == "rounded" else levels.floor()).to(torch.uint8)


def quantize_flow(flow: Tensor, clamp: float = 20.0, rounding: Rounding = "rounded") -> Tensor:
    """Flow in pixels (any shape) -> flow as published features saw it: clamped, 8-bit levels, scaled to [-1, 1]."""
    return flow_levels(flow, clamp, rounding).float() / 255 * 2 - 1
