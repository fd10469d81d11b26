"""Point labels drawn from segments (paper, Table A), for data sets that have segments but no points."""

from collections.abc import Iterable

import numpy as np

from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.distributions import Distribution
from hrpro_pipeline.data.points import Point

# Standard deviation of a Gaussian point, in lengths of its instance; the published "Gaussian" points of THUMOS14
# scatter by 0.035 about the middle.
GAUSSIAN_STD = 0.035


def draw_points(videos: Iterable[VideoAnnotation], distribution: Distribution, seed: int) -> list[Point]:
    """One point inside each segment, in the order of videos and time.

    Each video has its own random numbers, so that its points do not depend on the other videos.

    Args:
        distribution: `uniform` over the instance, its `center`, or `gaussian` about the center.
    """
    points: list[Point] = []
    for video in videos:
        rng = np.random.default_rng([seed, *video.video_id.encode()])
        for segment in sorted(video.segments, key=lambda item: (item.start_seconds, item.end_seconds, item.label)):
            place = 0.5
            if distribution == "uniform":
                place = rng.random()
            elif distribution == "gaussian":
                place = float(np.clip(rng.normal(0.5, GAUSSIAN_STD), 0, 1))
            seconds = segment.start_seconds + place * (segment.end_seconds - segment.start_seconds)
            points.append(Point(video.video_id, segment.label, seconds, None, len(points) + 2))
    return points
