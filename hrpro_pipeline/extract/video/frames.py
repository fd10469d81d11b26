"""Decoded frames to chunks of resized frames, each once, with how long the clock shows it."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.resize import resize_frame, resized_size

# A chunk: enough pairs to fill a GPU with flow, a few megabytes.
CHUNK_FRAMES = 64
_CHUNK_BYTES = 32 << 20
# A slow decoder hands over what it has, as a sign of life.
_CHUNK_SECONDS = 5.0
# A frame that is a thousand times as wide as high grows when its short side is made longer.
MAX_RESIZED_PIXELS = 2**24


@dataclass(frozen=True)
class FrameChunk:
    """Neighboring frames of a video, resized.

    Attributes:
        frames: RGB uint8 [n, H, W, 3], NumPy; or a tensor where frames were decoded on a GPU.
        ticks: for how many ticks of the clock each is shown, n positive numbers.
    """

    frames: np.ndarray
    ticks: list[int]


def frame_chunks(
    clock_frames: Iterable[np.ndarray], resize: int | tuple[int, int], chunk_frames: int = CHUNK_FRAMES
) -> Iterator[FrameChunk]:
    """Chunks of the frames of the clock, resized; a frame of several ticks (the same object) is in them once."""
    source: np.ndarray | None = None
    size: tuple[int, int] | None = None
    frames: list[np.ndarray] = []
    ticks: list[int] = []
    since = time.monotonic()
    for frame in clock_frames:
        if frame is source:
            ticks[-1] += 1
            continue
        if frames and (
            len(frames) >= min(chunk_frames, max(1, _CHUNK_BYTES // frames[0].nbytes))
            or time.monotonic() - since > _CHUNK_SECONDS
        ):
            yield FrameChunk(_stacked(frames), ticks)
            frames, ticks, since = [], [], time.monotonic()
        source = frame
        # The first frame's size holds for all: a stream may change its size on the way.
        size = size or _checked_size(resized_size(frame.shape[1], frame.shape[0], resize))
        frames.append(resize_frame(frame, size))
        ticks.append(1)
    if frames:
        yield FrameChunk(_stacked(frames), ticks)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    if size[0] * size[1] > MAX_RESIZED_PIXELS:
        raise HrproError(f"frames would be of {size[0]} x {size[1]} pixels after resizing; cut the video's sides")
    return size


def _stacked(frames: list[np.ndarray]) -> np.ndarray:
    if isinstance(frames[0], np.ndarray):
        return np.stack(frames)
    import torch

    return cast(np.ndarray, torch.stack(cast(list[torch.Tensor], frames)))
