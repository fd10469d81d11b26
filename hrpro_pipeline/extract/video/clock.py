"""One constant-rate clock over a video's timestamps, whatever the decoder."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.info import VideoInfo

MAX_CLOCK_FPS = 1000

Image = TypeVar("Image")


def clock_ticks(seconds: np.ndarray, fps: float, tolerance_seconds: float) -> np.ndarray:
    """The first frame of the clock at or after each time: int64, the smallest k with k / fps >= time - tolerance."""
    return np.ceil((np.asarray(seconds, np.float64) - tolerance_seconds) * fps - 1e-9).clip(min=0).astype(np.int64)


def num_clock_frames(info: VideoInfo, fps: float) -> int:
    """Frames of a video on the clock: every k with k / fps < its duration, at least one."""
    if not 0 < fps <= MAX_CLOCK_FPS:
        raise HrproError(f"a clock of {fps:g} frames a second; expected more than 0 and at most {MAX_CLOCK_FPS}")
    return max(1, int(clock_ticks(np.array([info.duration_seconds]), fps, info.tolerance_seconds)[0]))


def cut_at(info: VideoInfo, seconds: float) -> VideoInfo:
    """The part of a video up to the end of the frame that is shown at a time: until the next one, or its own end."""
    count = max(1, int(np.searchsorted(info.timestamps, seconds, side="right")))
    if count == info.num_packets:
        return info
    last_frame_seconds = float(info.timestamps[count] - info.timestamps[count - 1])
    return replace(info, timestamps=info.timestamps[:count], last_frame_seconds=last_frame_seconds)


def resample(
    frames: Iterable[tuple[float, Image]],
    info: VideoInfo,
    fps: float,
    stopped_early: Callable[[], bool] = lambda: False,
) -> Iterator[Image]:
    """The frame shown at k / fps seconds, for every k: `num_clock_frames` of them.

    A frame that is shown for several ticks is the same object each time. Where a frame is missing, the one before it
    stays; at the start, the first one serves, and at the end, the last one.

    Args:
        frames: (seconds, frame), in order.
        stopped_early: asked after the last frame. If so, that frame is not repeated beyond its own end: the result
            is the first `num_clock_frames(cut_at(info, seconds of the last frame), fps)` frames of the clock.
    """
    total = num_clock_frames(info, fps)
    current: Image | None = None
    seconds = 0.0
    num_given = 0
    for seconds, frame in frames:
        tick = int(clock_ticks(np.array([seconds]), fps, info.tolerance_seconds)[0])
        while num_given < min(tick, total):
            yield frame if current is None else current
            num_given += 1
        current = frame
    if current is None:
        raise HrproError(f"{info.path.name}: no frame can be decoded; re-encode or remove it")
    if stopped_early():
        total = num_clock_frames(cut_at(info, seconds), fps)
    while num_given < total:
        yield current
        num_given += 1
