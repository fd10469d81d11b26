"""Made videos for benchmarks: a textured ground that drifts, so that flow has something to do."""

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
