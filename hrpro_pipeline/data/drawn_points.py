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


def draw_points(videos: Iterable[VideoAnnotation], distribution: Distribution, seed: int) -> list[Point]:
    """One point inside each segment and its video, in the order of videos and time.

    Of a segment that reaches past the stated duration, only what lies in the video counts; one that begins there has no
    point, and a warning counts them.

    Each video has its own random numbers, so that its points do not depend on the other videos.

    Args:
        distribution: `uniform` over the instance, its `center`, or `gaussian` about the center.
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
            place = 0.5
            if distribution == "uniform":
                place = rng.random()
            elif distribution == "gaussian":
                place = float(np.clip(rng.normal(0.5, GAUSSIAN_STD), 0, 1))
            seconds = start + place * (end - start)
            points.append(Point(video.video_id, segment.label, seconds, None, len(points) + 2))
    if outside:
        log.warning("segments after the end of their video, without a point: %d, first %s", len(outside), outside[0])
    return points
