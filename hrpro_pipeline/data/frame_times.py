"""Times of frames: those of a variable rate in few numbers, as runs of equal steps; and rates that contradict."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

# Rates that differ by this share are the same one, rounded by a container.
_RATE_TOLERANCE = 5e-4

# (frames, seconds from each of them to the next one), run after run; the first frame is at 0.
Steps = list[tuple[int, float]]

# A feature file keeps so many; where it takes more, times are kept less exactly.
_MOST_RUNS = 2000
_FINEST_SECONDS = 1e-3


def frame_steps(timestamps: np.ndarray, fps: float) -> Steps:
    """Runs of frames; empty where each frame is within half an interval of its place at a constant rate.

    Args:
        timestamps: seconds, float64 [N], ascending from 0.
        fps: frames a second on average.
    """
    if np.abs(timestamps - np.arange(len(timestamps)) / fps).max() <= 0.5 / fps:
        return []
    tolerance = _FINEST_SECONDS
    while (steps := _runs(timestamps, tolerance)) is None:
        tolerance *= 2
    return steps


def _runs(timestamps: np.ndarray, tolerance: float) -> Steps | None:
    """Runs whose frames are within a tolerance of their times; None for too many of them."""
    steps: Steps = []
    first, seconds = 0, 0.0
    while first < len(timestamps) - 1:
        if len(steps) == _MOST_RUNS:
            return None
        count, step = _run(timestamps[first + 1 :], seconds, tolerance)
        steps.append((count, round(step, 9)))
        first, seconds = first + count, seconds + count * steps[-1][1]
    return steps


def _run(timestamps: np.ndarray, start: float, tolerance: float) -> tuple[int, float]:
    """The longest run from a time on -> (how many of the next frames are in it, the step between them)."""
    size, count, lowest, highest = 64, 0, 0.0, np.inf
    while count < len(timestamps):
        part = timestamps[count : count + size]
        numbers = np.arange(count + 1, count + 1 + len(part))
        lows = np.maximum(np.maximum.accumulate((part - tolerance - start) / numbers), lowest)
        highs = np.minimum(np.minimum.accumulate((part + tolerance - start) / numbers), highest)
        fitting = int(np.argmin(lows <= highs)) if (lows > highs).any() else len(part)
        if fitting:
            count, lowest, highest = count + fitting, float(lows[fitting - 1]), float(highs[fitting - 1])
        if fitting < len(part):
            break
        size *= 2
    return max(1, count), (lowest + highest) / 2


def seconds_at(steps: Any, frame: float) -> float:
    """The time of a frame, counted from 0, by the steps; frames beyond the last one follow at its step.

    Examples:
        >>> seconds_at([(300, 1 / 30), (60, 0.5)], 150), seconds_at([(300, 1 / 30), (60, 0.5)], 330)
        (5.0, 25.0)
    """
    frames = np.cumsum([0, *(count for count, _ in steps)])
    seconds = np.cumsum([0.0, *(count * step for count, step in steps)])
    beyond = max(0.0, frame - float(frames[-1])) * steps[-1][1]
    return float(np.interp(frame, frames, seconds)) + beyond


def contradict(annotated: float, own: float) -> bool:
    """Whether two rates differ in earnest; 29.97 and 30 do: by a second in 17 minutes."""
    return abs(annotated / own - 1) > _RATE_TOLERANCE


def warn_of_rates(name: str, rates: Mapping[str, tuple[float, float]]) -> None:
    """One line on videos whose points are in frames, in a file of this name: their annotated rate and their own."""
    if not rates:
        return
    video_id, (annotated, own) = next(iter(rates.items()))
    log.warning(
        "%s: points in frames are taken at the video's own rate, not at the fps of the annotations: "
        "%d %s (%s: %.4g annotated, %.4g its own%s)",
        *(name, len(rates), "videos" if len(rates) > 1 else "video", video_id, annotated, own),
        "; ..." if len(rates) > 1 else "",
    )


def checked_steps(steps: Any) -> Steps:
    """Steps as a file has them. Raises ValueError for anything else."""
    if not isinstance(steps, Sequence) or not all(
        isinstance(run, Sequence) and len(run) == 2 and all(isinstance(number, int | float) for number in run)
        for run in steps
    ):
        raise ValueError("frame_steps: expected pairs of numbers")
    if not all(0 < count < 1e9 and 0 <= step < 1e9 for count, step in steps):
        raise ValueError("frame_steps: expected frames and seconds, none below 0")
    return [(int(count), float(step)) for count, step in steps]
