"""Made videos for benchmarks: a textured ground that drifts, so that flow has something to do; and plain ones."""

from pathlib import Path

import av
import numpy as np


def write_drifting(path: Path, frames: int, width: int = 340, height: int = 256, seed: int = 0) -> Path:
    """Write a video at 25 fps, a frame at a time."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(0, 255, (height // 8 + 8, width // 8 + 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "50"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for k in range(frames):
            down, right = (int(16 + 15 * np.sin(k / 20 + phase)) for phase in (0, seed + 1))
            image = ground[down : down + height, right : right + width]
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_level(path: Path, level: int, frames: int = 16, side: int = 32) -> Path:
    """Write a video at 25 fps of one gray, exactly."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = side
        stream.pix_fmt = "bgr0"
        image = np.full((side, side, 3), level, np.uint8)
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
