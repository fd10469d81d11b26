"""Point labels drawn from segments (paper, Table A), for data sets that have segments but no points."""

import logging
from collections.abc import Iterable

import numpy as np

from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.distributions import Distribution
from hrpro_pipeline.data.points import Point

log = logging.getLogger(__name__)

# Standard deviation of a Gaussian point, in lengths of its instance; the published "Gaussian" points of THUMOS14
# scatter by 0.035 about the middle.
GAUSSIAN_STD = 0.035

# Four annotators of SF-Net on THUMOS14, against the segments: where in an action each sets points (beta distributions),
# which share lies outside of every action, and which actions they overlook, short ones more often.
_HUMAN_BETAS = ((1.3, 3.0), (2.8, 2.1), (3.3, 2.2), (1.4, 2.7))
_HUMAN_OUTSIDE = 0.03
_SHORT_SECONDS = 2.0
_HUMAN_FORGOTTEN_SHORT, _HUMAN_FORGOTTEN = 0.075, 0.04
# How far a point outside lies from its action, on average; tries to find such a moment outside of all actions.
_OUTSIDE_SECONDS = 0.5
_TRIES = 8


def draw_points(videos: Iterable[VideoAnnotation], distribution: Distribution, seed: int) -> list[Point]:
    """One point inside each segment and its video, in the order of videos and time.

    Of a segment that reaches past the stated duration, only what lies in the video counts; one that begins there has no
    point, and a warning counts them.

    Each video has its own random numbers, so that its points do not depend on the other videos.

    Args:
        distribution: `uniform` over the instance, its `center`, `gaussian` about the center, or as a `human` sets
            points: the person, whose points lean to one side, depends on the seed; some points lie outside of the
            action, and some actions have none.
    """
    points: list[Point] = []
    outside = []
    for video in videos:
        rng = np.random.default_rng([seed, *video.video_id.encode()])
        for segment in sorted(video.segments, key=lambda item: (item.start_seconds, item.end_seconds, item.label)):
            start, end = segment.start_seconds, segment.end_seconds
            if video.duration_seconds is not None:
                end = min(end, video.duration_seconds)
            if start >= end:
                outside.append(f"{video.video_id} [{segment.start_seconds:g}, {segment.end_seconds:g}]")
                continue
            if distribution == "human":
                seconds = _human_point(video, start, end, seed, rng)
                if seconds is None:
                    continue
            else:
                seconds = start + _place(distribution, rng) * (end - start)
            points.append(Point(video.video_id, segment.label, seconds, None, len(points) + 2))
    if outside:
        log.warning("segments after the end of their video, without a point: %d, first %s", len(outside), outside[0])
    return points


def _place(distribution: Distribution, rng: np.random.Generator) -> float:
    """Where in a segment a point is, 0 to 1."""
    if distribution == "uniform":
        return rng.random()
    if distribution == "gaussian":
        return float(np.clip(rng.normal(0.5, GAUSSIAN_STD), 0, 1))
    return 0.5


def _human_point(video: VideoAnnotation, start: float, end: float, seed: int, rng: np.random.Generator) -> float | None:
    """The moment in seconds that a person sets for an action; None for an action that is forgotten."""
    forgotten = _HUMAN_FORGOTTEN_SHORT if end - start < _SHORT_SECONDS else _HUMAN_FORGOTTEN
    if rng.random() < forgotten:
        return None
    inside = start + float(rng.beta(*_HUMAN_BETAS[seed % len(_HUMAN_BETAS)])) * (end - start)
    if rng.random() >= _HUMAN_OUTSIDE:
        return inside
    last = np.inf if video.duration_seconds is None else video.duration_seconds
    for _ in range(_TRIES):
        distance = rng.exponential(_OUTSIDE_SECONDS)
        moment = float(start - distance if rng.random() < 0.5 else end + distance)
        in_an_action = any(item.start_seconds <= moment <= item.end_seconds for item in video.segments)
        if 0 <= moment < last and not in_an_action:
            return moment
    return inside
