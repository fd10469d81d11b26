"""ActivityNet-style mean average precision, vectorized."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrpro_pipeline.base.compiled import compiled
from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.detections import Detection
from hrpro_pipeline.infer.postprocess import outside_ambiguous

AVERAGES = ((0.1, 0.5), (0.3, 0.7), (0.1, 0.7))


@dataclass(frozen=True)
class Evaluation:
    """mAP over classes at each tIoU, and AP of each class.

    Attributes:
        tiou: thresholds [K].
        classes: AP at each threshold by label, for the classes that have ground truth.
        num_videos, num_segments, num_detections: how many were compared.
        num_missing: videos of the ground truth without detections: all their segments count as missed.
        num_left_out: detections of videos outside the ground truth, or of labels that it does not have.
        models: names of the models that made the detections, from their files.

    Examples:
        >>> result = Evaluation((0.3, 0.5), {"pour": [1.0, 0.5], "stir": [0.5, 0.0]}, 1, 4, 9, 0, 0)
        >>> result.mean_average_precision, result.average
        ([0.75, 0.25], 0.5)
    """

    tiou: tuple[float, ...]
    classes: dict[str, list[float]]
    num_videos: int
    num_segments: int
    num_detections: int
    num_missing: int
    num_left_out: int
    models: tuple[str, ...] = ()

    @property
    def mean_average_precision(self) -> list[float]:
        """mAP at each threshold."""
        return np.mean(list(self.classes.values()), axis=0).tolist()

    @property
    def average(self) -> float:
        """mAP averaged over the thresholds."""
        return float(np.mean(self.mean_average_precision))

    @property
    def averages(self) -> dict[str, float]:
        """The averages that the field reports, of those whose thresholds were evaluated."""
        by_threshold = dict(zip(np.round(self.tiou, 6), self.mean_average_precision, strict=True))
        averages = {}
        for low, high in AVERAGES:
            thresholds = np.round(np.arange(low, high + 0.05, 0.1), 6)
            if all(threshold in by_threshold for threshold in thresholds):
                averages[f"{low:g}:{high:g}"] = float(np.mean([by_threshold[threshold] for threshold in thresholds]))
        return averages

    def as_json(self) -> dict[str, Any]:
        """The object that `hrpro evaluate --json` prints."""
        return {
            "tiou": list(self.tiou),
            "mAP": self.mean_average_precision,
            "average": self.average,
            "averages": self.averages,
            "classes": self.classes,
            "models": list(self.models),
        }


def evaluate(
    detections: Mapping[str, Sequence[Detection]],
    truth: Mapping[str, VideoAnnotation],
    tiou: Sequence[float],
    exclude: Collection[str] = (),
) -> Evaluation:
    """Compare detections with ground truth as the ActivityNet toolkit does.

    Args:
        detections: by video; videos of `truth` that are not here count as missed, others are left out.
        truth: the videos to evaluate.
        tiou: thresholds.
        exclude: videos left out of both.

    Raises:
        ValueError: the ground truth has no segment.

    Examples:
        >>> from hrpro_pipeline.data.annotations import Segment
        >>> segments = (Segment("pour", 2.0, 6.0), Segment("pour", 9.0, 12.0))
        >>> truth = {"a": VideoAnnotation("a", "test", 20.0, 25.0, segments)}
        >>> detections = {"a": [Detection("pour", 0.9, 2.0, 5.0), Detection("pour", 0.4, 14.0, 15.0)]}
        >>> evaluate(detections, truth, tiou=[0.5, 0.7, 0.8]).classes  # the first has a tIoU of 0.75
        {'pour': [0.5, 0.5, 0.0]}
    """
    evaluated = {video_id: truth[video_id] for video_id in truth if video_id not in exclude}
    number = {video_id: index for index, video_id in enumerate(evaluated)}
    segments = _segment_rows(evaluated, number)
    if not segments:
        raise ValueError("the ground truth has no segments to evaluate against")
    scored = _detection_rows(detections, segments.keys(), number)
    classes = {
        label: average_precision(scored[label], rows, np.asarray(tiou)).tolist() for label, rows in segments.items()
    }
    num_detections = sum(map(len, scored.values()))
    num_given = sum(len(items) for video_id, items in detections.items() if video_id not in exclude)
    return Evaluation(
        tiou=tuple(float(threshold) for threshold in tiou),
        classes=classes,
        num_videos=len(evaluated),
        num_segments=sum(map(len, segments.values())),
        num_detections=num_detections,
        num_missing=sum(video_id not in detections for video_id in evaluated),
        num_left_out=num_given - num_detections,
    )


def _segment_rows(truth: Mapping[str, VideoAnnotation], number: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Segments by label, rows [G, 3] of video, start, end; videos by `number`."""
    rows: dict[str, list[tuple[int, float, float]]] = {}
    for video_id, video in truth.items():
        for segment in video.segments:
            row = (number[video_id], segment.start_seconds, segment.end_seconds)
            rows.setdefault(segment.label, []).append(row)
    return {label: np.array(of_label) for label, of_label in rows.items()}


def _detection_rows(
    detections: Mapping[str, Sequence[Detection]], labels: Iterable[str], number: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Detections by label, rows [M, 4] of video, start, end, score; those of other videos and labels are left out."""
    rows: dict[str, list[tuple[int, float, float, float]]] = {label: [] for label in labels}
    for video_id, items in detections.items():
        if video_id in number:
            for item in items:
                if item.label in rows:
                    rows[item.label].append((number[video_id], item.start_seconds, item.end_seconds, item.score))
    return {label: np.array(of_label).reshape(-1, 4) for label, of_label in rows.items()}


def drop_ambiguous(
    detections: Mapping[str, Sequence[Detection]], ambiguous: Mapping[str, Sequence[tuple[float, float]]]
) -> dict[str, Sequence[Detection]]:
    """Leave out detections that overlap an ambiguous segment of their video (THUMOS14's protocol)."""
    remaining: dict[str, Sequence[Detection]] = dict(detections)
    for video_id in detections.keys() & ambiguous.keys():
        items = detections[video_id]
        rows = [(item.start_seconds, item.end_seconds, position, 0) for position, item in enumerate(items)]
        positions = outside_ambiguous(np.array(rows).reshape(-1, 4), ambiguous[video_id])[:, 2]
        remaining[video_id] = [items[int(position)] for position in positions]
    return remaining


def average_precision(detections: np.ndarray, segments: np.ndarray, tiou: np.ndarray) -> np.ndarray:
    """Interpolated AP of one class.

    Args:
        detections: [M, 4] rows of video, start, end, score.
        segments: [G, 3] rows of video, start, end; G > 0.
        tiou: thresholds [K].

    Returns:
        [K].
    """
    ranked = detections[np.argsort(-detections[:, 3], kind="stable")]
    ordered = segments[np.argsort(segments[:, 0], kind="stable")]
    first, last = (np.searchsorted(ordered[:, 0], ranked[:, 0], side) for side in ("left", "right"))
    return _interpolated(true_positives(ranked, ordered, first, last, tiou), len(segments))


@compiled()
def true_positives(
    detections: np.ndarray, segments: np.ndarray, first: np.ndarray, last: np.ndarray, tiou: np.ndarray
) -> np.ndarray:
    """Which detections are true positives, bool [K, M]: each takes the free segment of its video with the best tIoU.

    Args:
        detections: [M, 4], best first.
        segments: [G, 3] by video; those of detection m's video are first[m] to last[m].
        tiou: thresholds [K].
    """
    is_true = np.zeros((len(tiou), len(detections)), np.bool_)
    free = np.ones((len(tiou), len(segments)), np.bool_)
    for row in range(len(detections)):
        start, end = detections[row, 1], detections[row, 2]
        for level in range(len(tiou)):
            best, best_overlap = -1, 0.0
            for index in range(first[row], last[row]):
                if free[level, index]:
                    true_start, true_end = segments[index, 1], segments[index, 2]
                    shared = max(0.0, min(end, true_end) - max(start, true_start))
                    # Reversed bounds, which a file may have, could make the union 0.
                    overlap = shared / max((true_end - true_start) + (end - start) - shared, 1e-12)
                    if overlap >= tiou[level] and overlap > best_overlap:
                        best, best_overlap = index, overlap
            if best >= 0:
                free[level, best] = False
                is_true[level, row] = True
    return is_true


def point_average_precision(detections: np.ndarray, points: np.ndarray, labels: np.ndarray, label: int) -> float:
    """AP of one class against points alone, for videos that have no segments.

    A detection is a true positive if it contains a point of its class, stays strictly between the points before and
    after (as reliable proposals do; points of the same time are one), and is the first to have this point. That cannot
    tell how well its bounds are placed, only that it neither misses a point nor runs into the next.

    Args:
        detections: [M, 4] rows of video, start, end, score, of this class.
        points: [P, 2] rows of video, time, of all classes; labels: [P].

    Returns:
        AP; 0 without detections.
    """
    ranked = detections[np.argsort(-detections[:, 3], kind="stable")]
    times = np.unique(points, axis=0)  # by video and time
    times_of_class = np.unique(points[labels == label], axis=0)
    # One axis for all videos, so that the points inside a detection are a range of it.
    span = max(times[:, 1].max(), ranked[:, 2].max(initial=0)) + 1
    axis = times[:, 0] * span + times[:, 1]
    first = np.searchsorted(axis, ranked[:, 0] * span + np.maximum(ranked[:, 1], 0), "left")
    last = np.searchsorted(axis, ranked[:, 0] * span + ranked[:, 2], "right")
    is_of_class = np.isin(axis, times_of_class[:, 0] * span + times_of_class[:, 1])
    with_one_point = np.flatnonzero((last - first == 1) & is_of_class[first.clip(max=len(axis) - 1)])
    _, earliest = np.unique(first[with_one_point], return_index=True)
    is_true = np.zeros((1, len(ranked)), bool)
    is_true[0, with_one_point[earliest]] = True
    return float(_interpolated(is_true, len(times_of_class))[0])


def _interpolated(is_true: np.ndarray, num_truth: int) -> np.ndarray:
    """AP [K] from the true positives among detections, best first, bool [K, M]."""
    counts = np.cumsum(is_true, axis=1)
    precision = counts / np.arange(1, is_true.shape[1] + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (np.diff(counts / num_truth, axis=1, prepend=0) * envelope).sum(axis=1)
