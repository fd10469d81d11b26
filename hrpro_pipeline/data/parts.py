"""Long training videos in parts: what is trained on together has to fit into memory, however long a recording is."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo


def in_parts(data: TrainingSet, longest: int) -> TrainingSet:
    """Cut the videos of more than `longest` snippets into parts, which are videos of their own; 0 leaves all whole.

    A cut is where points are farthest, and leaves half of `longest` on both sides at least. A part without points is
    background from end to end, as such a stretch of a whole video is.
    """
    if num_parts(data, longest) == len(data.videos):
        return data
    return replace(data, videos=tuple(part for video in data.videos for part in _parts(video, longest)))


def num_parts(data: TrainingSet, longest: int) -> int:
    """How many videos `in_parts` makes of these."""
    return sum(len(cuts(len(video.features), video.positions, longest)) - 1 for video in data.videos)


def cuts(num_snippets: int, positions: np.ndarray, longest: int) -> list[int]:
    """Where parts begin and end, from 0 to `num_snippets`; without a cut if `longest` is 0.

    Args:
        positions: of the points on the snippet axis, [K].

    Examples:
        >>> cuts(100, np.array([10.0, 20.0, 70.0]), 60)
        [0, 45, 100]
        >>> cuts(100, np.array([10.0]), 100)
        [0, 100]
    """
    bounds = [0]
    while longest and num_snippets - bounds[-1] > longest:
        first, last = bounds[-1] + longest // 2, min(bounds[-1] + longest, num_snippets - longest // 2)
        places = np.arange(last, first - 1, -1)  # of places that are equally far, the one with the longer part
        distances = np.abs(places[:, None] - positions).min(axis=1, initial=longest)
        bounds.append(int(places[distances.argmax()]))
    return [*bounds, num_snippets]


def _parts(video: TrainingVideo, longest: int) -> Iterator[TrainingVideo]:
    bounds = cuts(len(video.features), video.positions, longest)
    if len(bounds) == 2:
        yield video
        return
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        inside = (video.snippets >= start) & (video.snippets < stop)
        background = video.background[(video.background >= start) & (video.background < stop)] - start
        yield replace(
            video,
            video_id=f"{video.video_id} [{start}:{stop}]",
            features=video.features[start:stop],
            positions=video.positions[inside] - start,
            labels=video.labels[inside],
            snippets=video.snippets[inside] - start,
            background=background if inside.any() else np.arange(stop - start) + 0.5,
        )
