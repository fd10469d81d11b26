"""Small made videos for tests: a bright square that moves over a textured ground."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def moving_square(count: int, width: int = 64, height: int = 48, step: int = 2, seed: int = 0) -> np.ndarray:
    """RGB frames [count, height, width, 3], uint8; the square moves `step` pixels right a frame."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(30, 130, (height // 4 + 1, width // 4 + 1, 3)), np.ones((4, 4, 1)))
    frames = np.repeat(ground[None, :height, :width].astype(np.uint8), count, axis=0)
    for k in range(count):
        left = (4 + step * k) % (width - 16)
        frames[k, height // 3 : height // 3 + 14, left : left + 14] = (230, 220, 60)
    return frames


def write_video(
    path: Path, frames: np.ndarray, fps: int = 25, milliseconds: Sequence[int] | None = None, codec: str = "mpeg4"
) -> Path:
    """Write frames at a constant rate, or each at its own time (`milliseconds`)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuv420p"
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = k if milliseconds is None else milliseconds[k]
            frame.time_base = Fraction(1, fps) if milliseconds is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
