"""ActivityNet-style mean average precision, vectorized."""

from collections.abc import Collection, Mapping, Sequence
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
        num_videos, num_segments, num_detections: what was compared.
        num_missing: videos of the ground truth without detections: all their segments count as missed.
        num_left_out: detections of videos outside the ground truth, or of labels that it does not have.
        models: what the detection files say of the models that made them.

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
        at = dict(zip(np.round(self.tiou, 6), self.mean_average_precision, strict=True))
        found = {}
        for low, high in AVERAGES:
            wanted = np.round(np.arange(low, high + 0.05, 0.1), 6)
            if all(threshold in at for threshold in wanted):
                found[f"{low:g}:{high:g}"] = float(np.mean([at[threshold] for threshold in wanted]))
        return found

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
        >>> found = {"a": [Detection("pour", 0.9, 2.0, 5.0), Detection("pour", 0.4, 14.0, 15.0)]}
        >>> evaluate(found, truth, tiou=[0.5, 0.7, 0.8]).classes  # the first has a tIoU of 0.75
        {'pour': [0.5, 0.5, 0.0]}
    """
    names = [video_id for video_id in truth if video_id not in set(exclude)]
    number = {video_id: index for index, video_id in enumerate(names)}
    segments: dict[str, list[tuple[int, float, float]]] = {}
    for video_id in names:
        for segment in truth[video_id].segments:
            row = (number[video_id], segment.start_seconds, segment.end_seconds)
            segments.setdefault(segment.label, []).append(row)
    if not segments:
        raise ValueError("the ground truth has no segments to evaluate against")
    found: dict[str, list[tuple[int, float, float, float]]] = {label: [] for label in segments}
    left_out = 0
    for video_id, listed in detections.items():
        for item in listed:
            if video_id in number and item.label in found:
                found[item.label].append((number[video_id], item.start_seconds, item.end_seconds, item.score))
            elif video_id not in exclude:
                left_out += 1
    classes = {
        label: average_precision(np.array(found[label]).reshape(-1, 4), np.array(rows), np.asarray(tiou)).tolist()
        for label, rows in segments.items()
    }
    return Evaluation(
        tiou=tuple(float(threshold) for threshold in tiou),
        classes=classes,
        num_videos=len(names),
        num_segments=sum(map(len, segments.values())),
        num_detections=sum(map(len, found.values())),
        num_missing=sum(video_id not in detections for video_id in names),
        num_left_out=left_out,
    )


def drop_ambiguous(
    detections: Mapping[str, Sequence[Detection]], ambiguous: Mapping[str, Sequence[tuple[float, float]]]
) -> dict[str, Sequence[Detection]]:
    """Leave out detections that overlap an ambiguous segment of their video (THUMOS14's protocol)."""
    kept: dict[str, Sequence[Detection]] = dict(detections)
    for video_id in detections.keys() & ambiguous.keys():
        listed = detections[video_id]
        bounds = np.array([(item.start_seconds, item.end_seconds, row, 0) for row, item in enumerate(listed)]).reshape(
            -1, 4
        )
        rows = outside_ambiguous(bounds, ambiguous[video_id])[:, 2]
        kept[video_id] = [listed[int(row)] for row in rows]
    return kept


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
    hits = np.zeros((len(tiou), len(ranked)), np.bool_)
    _match(ranked, ordered, first, last, tiou, hits)
    return _interpolated(hits, len(segments))


@compiled()
def _match(
    detections: np.ndarray,
    segments: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    tiou: np.ndarray,
    hits: np.ndarray,
) -> None:
    """Mark which detections are right in `hits` [K, M]: each takes the free segment of its video with the best tIoU.

    Args:
        detections: best first. segments: by video; those of detection m's video are first[m] to last[m].
    """
    free = np.ones((len(tiou), len(segments)), np.bool_)
    for row in range(len(detections)):
        start, end = detections[row, 1], detections[row, 2]
        for level in range(len(tiou)):
            best, best_overlap = -1, 0.0
            for place in range(first[row], last[row]):
                if free[level, place]:
                    own_start, own_end = segments[place, 1], segments[place, 2]
                    shared = max(0.0, min(end, own_end) - max(start, own_start))
                    # Reversed bounds, which a file may have, could make the union 0.
                    overlap = shared / max((own_end - own_start) + (end - start) - shared, 1e-12)
                    if overlap >= tiou[level] and overlap > best_overlap:
                        best, best_overlap = place, overlap
            if best >= 0:
                free[level, best] = False
                hits[level, row] = True


def point_average_precision(detections: np.ndarray, points: np.ndarray, labels: np.ndarray, label: int) -> float:
    """AP of one class against points alone, for videos that have no segments.

    A detection is right if it contains a point of its class, stays strictly between the points before and after (as
    reliable proposals do; points of the same time are one), and is the first to have this point. That cannot tell how
    well its bounds are placed, only that it neither misses a point nor runs into the next.

    Args:
        detections: [M, 4] rows of video, start, end, score, of this class.
        points: [P, 2] rows of video, time, of all classes; labels: [P].

    Returns:
        AP; 0 without detections.
    """
    ranked = detections[np.argsort(-detections[:, 3], kind="stable")]
    places = np.unique(points, axis=0)  # by video and time
    own = np.unique(points[labels == label], axis=0)
    # One axis for all videos, so that the points inside a detection are a range of it.
    span = max(places[:, 1].max(), ranked[:, 2].max(initial=0)) + 1
    axis = places[:, 0] * span + places[:, 1]
    first = np.searchsorted(axis, ranked[:, 0] * span + np.maximum(ranked[:, 1], 0), "left")
    last = np.searchsorted(axis, ranked[:, 0] * span + ranked[:, 2], "right")
    is_own = np.isin(axis, own[:, 0] * span + own[:, 1])
    right = np.flatnonzero((last - first == 1) & is_own[first.clip(max=len(axis) - 1)])
    _, earliest = np.unique(first[right], return_index=True)
    hits = np.zeros((1, len(ranked)), bool)
    hits[0, right[earliest]] = True
    return float(_interpolated(hits, len(own))[0])


def _interpolated(hits: np.ndarray, num_truth: int) -> np.ndarray:
    """AP [K] from which detections, best first, are right, [K, M]."""
    true = np.cumsum(hits, axis=1)
    precision = true / np.arange(1, hits.shape[1] + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (np.diff(true / num_truth, axis=1, prepend=0) * envelope).sum(axis=1)
