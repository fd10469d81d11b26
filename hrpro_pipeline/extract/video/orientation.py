"""How a video's frames are turned and mirrored for display."""

import math
from typing import Any, cast

import av
import numpy as np


def orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """(degrees counter-clockwise, a multiple of 90; whether mirrored) of a frame, by its display matrix.

    A mirrored frame is first mirrored left to right, then turned.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0, False
    a, b, _, c, d = (int(number) for number in np.frombuffer(cast(Any, matrix), np.int32)[:5])
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return round(-math.degrees(math.atan2(b, a)) / 90) * 90 % 360, mirrored


def upright(image: Any, rotation: int, mirrored: bool) -> Any:
    """An array [H, W, ...] as it is displayed, a view of the array; arguments as `orientation` gives them."""
    if mirrored:
        image = image[:, ::-1]
    return np.rot90(image, rotation // 90)
