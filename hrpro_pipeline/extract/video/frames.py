"""Decoded frames to chunks of resized frames, each once, with how long the clock shows it."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from hrpro_pipeline.errors import HrproError

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


def resized_size(width: int, height: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) after resizing: to a short side with the aspect kept, or to [width, height] as given."""
    if not isinstance(resize, int):
        return resize
    short = min(width, height)
    return round(width * resize / short), round(height * resize / short)


def resize_frame(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> [height, width, 3] for a size of (width, height), bilinear. Tensors stay on their device."""
    if not isinstance(frame, np.ndarray):
        from hrpro_pipeline.extract.preprocess import resize_on_device  # torch: not for those who decode on the CPU

        return cast(np.ndarray, resize_on_device(frame, size))
    if frame.shape[1::-1] == size:
        return frame
    return cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)


def frame_chunks(
    shown: Iterable[np.ndarray], resize: int | tuple[int, int], chunk_frames: int = CHUNK_FRAMES
) -> Iterator[FrameChunk]:
    """Chunks of the frames of the clock; a frame that is shown for several ticks (the same object) is in them once."""
    source: np.ndarray | None = None
    size: tuple[int, int] | None = None
    held: list[np.ndarray] = []
    ticks: list[int] = []
    since = time.monotonic()
    for frame in shown:
        if frame is source:
            ticks[-1] += 1
            continue
        if held and (
            len(held) >= min(chunk_frames, max(1, _CHUNK_BYTES // held[0].nbytes))
            or time.monotonic() - since > _CHUNK_SECONDS
        ):
            yield FrameChunk(_stacked(held), ticks)
            held, ticks, since = [], [], time.monotonic()
        source = frame
        # The first frame's size holds for all: a stream may change its size on the way.
        size = size or _checked(resized_size(frame.shape[1], frame.shape[0], resize))
        held.append(resize_frame(frame, size))
        ticks.append(1)
    if held:
        yield FrameChunk(_stacked(held), ticks)


def _checked(size: tuple[int, int]) -> tuple[int, int]:
    if size[0] * size[1] > MAX_RESIZED_PIXELS:
        raise HrproError(f"frames would be of {size[0]} x {size[1]} pixels after resizing; cut the video's sides")
    return size


def _stacked(frames: list[np.ndarray]) -> np.ndarray:
    if isinstance(frames[0], np.ndarray):
        return np.stack(frames)
    import torch

    return cast(np.ndarray, torch.stack(cast(list[torch.Tensor], frames)))
