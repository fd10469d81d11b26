"""ActivityNet-style mean average precision, vectorised."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    """

    tiou: tuple[float, ...]
    classes: dict[str, list[float]]
    num_videos: int
    num_segments: int
    num_detections: int
    num_missing: int
    num_left_out: int

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
                found[item.label].append((number[video_id], item.start, item.end, item.score))
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
        bounds = np.array([(item.start, item.end, row, 0) for row, item in enumerate(listed)]).reshape(-1, 4)
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
    if not len(detections):
        return np.zeros(len(tiou))
    detections = detections[np.argsort(-detections[:, 3], kind="stable")]
    hits = _match(detections, segments, tiou)  # [K, M]
    true = np.cumsum(hits, axis=1)
    recall = true / len(segments)
    precision = true / np.arange(1, len(detections) + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (np.diff(recall, axis=1, prepend=0) * envelope).sum(axis=1)


def _match(detections: np.ndarray, segments: np.ndarray, tiou: np.ndarray) -> np.ndarray:
    """Which detections are right, [K, M]: each takes the free segment of its video with the highest tIoU.

    Videos do not touch each other, so the first detections of all videos are matched at once, then the second ones,
    and so on: as many rounds as the video with the most detections has.
    """
    order = np.argsort(segments[:, 0], kind="stable")
    videos, first, count = np.unique(segments[order, 0], return_index=True, return_counts=True)
    bounds = np.full((len(videos), count.max(), 2), np.nan)  # [V, G, 2]
    row = np.repeat(np.arange(len(videos)), count)
    bounds[row, np.arange(len(segments)) - first[row]] = segments[order, 1:]

    hits = np.zeros((len(tiou), len(detections)), bool)
    place = np.searchsorted(videos, detections[:, 0]).clip(max=len(videos) - 1)
    has_truth = np.flatnonzero(videos[place] == detections[:, 0])
    by_video = has_truth[np.argsort(place[has_truth], kind="stable")]
    _, begins, sizes = np.unique(place[by_video], return_index=True, return_counts=True)
    free = np.ones((len(tiou), *bounds.shape[:2]), bool)  # [K, V, G]
    for turn in range(sizes.max(initial=0)):
        rows = by_video[begins[sizes > turn] + turn]  # one detection a video
        own = place[rows]
        start, end = detections[rows, 1:2], detections[rows, 2:3]
        shared = np.clip(np.minimum(end, bounds[own, :, 1]) - np.maximum(start, bounds[own, :, 0]), 0, None)
        overlap = shared / ((bounds[own, :, 1] - bounds[own, :, 0]) + (end - start) - shared)  # [R, G]
        open_to = free[:, own] & (overlap >= tiou[:, None, None])  # NaN, where a video has fewer segments: False
        best = np.where(open_to, overlap, -1).argmax(axis=2)  # [K, R]
        level, column = np.nonzero(open_to.any(axis=2))
        hits[level, rows[column]] = True
        free[level, own[column], best[level, column]] = False
    return hits
