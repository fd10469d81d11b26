"""Point labels drawn from segments (paper, Table A), for data sets that have segments but no points."""

import csv
import io
from collections.abc import Iterable
from typing import Literal

import numpy as np

from hrpro_pipeline.data.annotations import Point, VideoAnnotation

Distribution = Literal["uniform", "center", "gaussian"]
# Standard deviation of a Gaussian point, in lengths of its instance; the published "Gaussian" points of THUMOS14
# scatter by 0.035 about the middle.
GAUSSIAN_DEVIATION = 0.035


def draw_points(videos: Iterable[VideoAnnotation], distribution: Distribution, seed: int) -> list[Point]:
    """One point inside each segment, in the order of videos and time.

    Each video has random numbers of its own, so that its points do not depend on which others there are.

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
                place = float(np.clip(rng.normal(0.5, GAUSSIAN_DEVIATION), 0, 1))
            seconds = segment.start_seconds + place * (segment.end_seconds - segment.start_seconds)
            points.append(Point(video.video_id, segment.label, seconds, None, len(points) + 2))
    return points


def points_csv(points: Iterable[Point]) -> str:
    """Points in seconds as the CSV that `read_points` reads."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["video_id", "class", "time"])
    rows.writerows([point.video_id, point.label, f"{point.seconds:.3f}"] for point in points)
    return out.getvalue()
