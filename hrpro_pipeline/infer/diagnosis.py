"""Kinds of errors that detections make, as in DETAD (Alwassel et al., "Diagnosing Error in Temporal Action Detectors",
ECCV 2018). Dataclasses in, dataclasses out; no files.

G is the number of true segments. The profile takes the best 10 G detections of each class; the confusion takes the best
G detections of all, because a class's many weak detections would fill its column.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.detections import Detection

# As the report writes them; a true positive is "right" there.
KINDS = ("right", "double", "wrong label", "localization", "confusion", "background")
TRUE_POSITIVE, DOUBLE, WRONG_LABEL, LOCALIZATION, CONFUSION, BACKGROUND = range(len(KINDS))
# Detections that were not compared: of other videos or classes than those of the ground truth.
LEFT_OUT = -1
MULTIPLES = 10


@dataclass(frozen=True)
class ClassDiagnosis:
    """One class.

    Attributes:
        num_segments: G of this class.
        num_missed: segments without a true positive among the best 10 G detections of the class.
        recall, precision: at each true positive, best first; precision is the interpolated one that AP sums up.
    """

    num_segments: int
    num_missed: int
    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True)
class Diagnosis:
    """Errors by kind, the classes' curves, and which classes are taken for which.

    Attributes:
        tiou: a detection with at least this tIoU is well placed.
        kinds: by video, the kind of each of its detections: an index into KINDS, or LEFT_OUT.
        profile: [10][6] detections by kind among those ranked (g - 1) G to g G within their class, for g = 1..10.
        classes: by label.
        confusion: [C + 1][C + 1], true class by detected class in the order of `classes`; the last row is background
            that was taken for a class, the last column segments that none of the best G detections matches.
        segment_seconds: lengths of the true segments.
    """

    tiou: float
    kinds: dict[str, list[int]]
    profile: list[list[int]]
    classes: dict[str, ClassDiagnosis]
    confusion: list[list[int]]
    segment_seconds: tuple[float, ...]


class _Compared(NamedTuple):
    """Detections [M] and segments [G] of all videos; a detection is compared with the segments of its video.

    Attributes:
        places: of the detections, video and position among the detections of the video.
        labels, scores: of the detections.
        segments: of each detection, indices of its video's segments.
        overlaps: of each detection, tIoU with these segments.
        true_labels: of the segments.
    """

    places: list[tuple[str, int]]
    labels: np.ndarray
    scores: np.ndarray
    segments: list[np.ndarray]
    overlaps: list[np.ndarray]
    true_labels: np.ndarray


def diagnose(
    detections: Mapping[str, Sequence[Detection]],
    truth: Mapping[str, VideoAnnotation],
    exclude: Collection[str] = (),
    tiou: float = 0.5,
    background_tiou: float = 0.1,
) -> Diagnosis:
    """Find the kind of each detection.

    A detection is a true positive if it takes a free segment of its class, as for mAP. The others are judged by the
    segment of any class that they overlap most: with a tIoU of at least `tiou` they are double or have the wrong label,
    with at least `background_tiou` they are badly placed (localization) or that with the wrong label (confusion), and
    below it they are background.

    Args:
        detections: by video, in any order; videos and classes that `truth` does not have are left out, as for mAP.
        truth: the videos to evaluate.
        exclude: videos left out of both.

    Raises:
        ValueError: the ground truth has no segment.
    """
    evaluated = {video_id: truth[video_id] for video_id in truth if video_id not in exclude}
    segments = [segment for video in evaluated.values() for segment in video.segments]
    if not segments:
        raise ValueError("the ground truth has no segments to compare with")
    labels = sorted({segment.label for segment in segments})
    compared = _compare(detections, evaluated, {label: index for index, label in enumerate(labels)})
    kinds = _kinds(compared, tiou, background_tiou)
    ranked_kinds = [kinds[_ranked_rows(compared, index)] for index in range(len(labels))]
    totals = np.bincount(compared.true_labels, minlength=len(labels)).tolist()
    profiles = [_profile(ranked, total) for ranked, total in zip(ranked_kinds, totals, strict=True)]
    return Diagnosis(
        tiou=tiou,
        kinds=_by_video(detections, compared.places, kinds),
        profile=np.sum(profiles, axis=0).tolist(),
        classes={label: _of_class(*pair) for label, *pair in zip(labels, ranked_kinds, totals, strict=True)},
        confusion=_confusion(compared, len(labels), tiou).tolist(),
        segment_seconds=tuple(segment.end_seconds - segment.start_seconds for segment in segments),
    )


def overlaps(bounds: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """tIoU of each of [M, 2] with each of [G, 2] -> [M, G]."""
    shared = np.minimum(bounds[:, None, 1], segments[None, :, 1]) - np.maximum(bounds[:, None, 0], segments[None, :, 0])
    shared = np.maximum(shared, 0)
    lengths, segment_lengths = bounds[:, 1] - bounds[:, 0], segments[:, 1] - segments[:, 0]
    # Reversed bounds, which a file may have, could make the union 0.
    return shared / np.maximum(lengths[:, None] + segment_lengths[None] - shared, 1e-12)


def _compare(
    detections: Mapping[str, Sequence[Detection]], truth: Mapping[str, VideoAnnotation], number: Mapping[str, int]
) -> _Compared:
    """Overlaps of all detections of the classes in `number`, video by video in the order of `detections`."""
    rows = [
        (video_id, position, item)
        for video_id, items in detections.items()
        for position, item in enumerate(items)
        if video_id in truth and item.label in number
    ]
    bounds = np.array([(item.start_seconds, item.end_seconds) for _, _, item in rows], np.float64).reshape(-1, 2)
    segments = [segment for video in truth.values() for segment in video.segments]
    segment_bounds = np.array([(item.start_seconds, item.end_seconds) for item in segments], np.float64).reshape(-1, 2)
    rows_of_video = _ranges(Counter(video_id for video_id, _, _ in rows))
    segments_of_video = _ranges({video_id: len(video.segments) for video_id, video in truth.items()})
    tious: list[np.ndarray] = []
    for video_id, of_video in rows_of_video.items():
        tious.extend(overlaps(bounds[of_video], segment_bounds[segments_of_video[video_id]]))
    return _Compared(
        places=[(video_id, position) for video_id, position, _ in rows],
        labels=np.array([number[item.label] for _, _, item in rows], np.int64),
        scores=np.array([item.score for _, _, item in rows], np.float64),
        segments=[segments_of_video[video_id] for video_id, _, _ in rows],
        overlaps=tious,
        true_labels=np.array([number[segment.label] for segment in segments], np.int64),
    )


def _ranges(counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Indices of each video's items in one list of all, from their counts."""
    ends = np.cumsum(list(counts.values()), dtype=np.int64).tolist()
    return {name: np.arange(end - count, end) for (name, count), end in zip(counts.items(), ends, strict=True)}


def _kinds(compared: _Compared, tiou: float, background_tiou: float) -> np.ndarray:
    """The kind of each detection, [M]."""
    is_matched = _matches(compared, tiou) >= 0
    kinds = [
        TRUE_POSITIVE if matched else _kind_of_error(compared, row, tiou, background_tiou)
        for row, matched in enumerate(is_matched)
    ]
    return np.array(kinds, np.int64)


def _matches(compared: _Compared, tiou: float) -> np.ndarray:
    """The segment that each detection takes, [M]: best first, the free one of its class with the best tIoU; or -1."""
    matches = np.full(len(compared.labels), -1)
    free = np.ones(len(compared.true_labels), bool)
    for row in np.argsort(-compared.scores, kind="stable"):
        segments = compared.segments[row]
        is_usable = free[segments] & (compared.true_labels[segments] == compared.labels[row])
        usable = np.where(is_usable, compared.overlaps[row], 0)
        if usable.max(initial=0) >= tiou:
            matches[row] = segments[usable.argmax()]
            free[matches[row]] = False
    return matches


def _kind_of_error(compared: _Compared, row: int, tiou: float, background_tiou: float) -> int:
    """The kind of one detection that takes no segment."""
    overlap = compared.overlaps[row]
    highest = overlap.max(initial=0)
    if highest < background_tiou:
        return BACKGROUND
    # Where segments of several classes are overlapped alike, the one of the detection's class counts.
    most_overlapped = compared.true_labels[compared.segments[row]][overlap == highest]
    has_right_label = bool((most_overlapped == compared.labels[row]).any())
    if highest >= tiou:
        return DOUBLE if has_right_label else WRONG_LABEL
    return LOCALIZATION if has_right_label else CONFUSION


def _ranked_rows(compared: _Compared, label: int) -> np.ndarray:
    """Rows of the detections of a class, best first."""
    rows = np.flatnonzero(compared.labels == label)
    return rows[np.argsort(-compared.scores[rows], kind="stable")]


def _by_video(
    detections: Mapping[str, Sequence[Detection]], places: Sequence[tuple[str, int]], kinds: np.ndarray
) -> dict[str, list[int]]:
    by_video = {video_id: [LEFT_OUT] * len(items) for video_id, items in detections.items()}
    for (video_id, position), kind in zip(places, kinds.tolist(), strict=True):
        by_video[video_id][position] = kind
    return by_video


def _profile(ranked_kinds: np.ndarray, total: int) -> np.ndarray:
    """A class's best 10 G detections by rank in multiples of G = `total` and by kind, [10, 6]."""
    best = ranked_kinds[: MULTIPLES * total]
    profile = np.zeros((MULTIPLES, len(KINDS)), np.int64)
    np.add.at(profile, (np.arange(len(best)) // total, best), 1)
    return profile


def _of_class(ranked_kinds: np.ndarray, total: int) -> ClassDiagnosis:
    """A class with `total` segments, from the kinds of its detections, best first."""
    ranks = np.flatnonzero(ranked_kinds == TRUE_POSITIVE)
    counts = np.arange(1, len(ranks) + 1)
    precision = np.maximum.accumulate((counts / (ranks + 1))[::-1])[::-1]
    num_matched = int((ranks < MULTIPLES * total).sum())
    return ClassDiagnosis(total, total - num_matched, tuple((counts / total).tolist()), tuple(precision.tolist()))


def _confusion(compared: _Compared, num_classes: int, tiou: float) -> np.ndarray:
    """[C + 1, C + 1] of the best G detections: each takes a free segment of its class, or else of any class."""
    table = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    free = np.ones(len(compared.true_labels), bool)
    for row in np.argsort(-compared.scores, kind="stable")[: len(free)]:
        segments, label = compared.segments[row], compared.labels[row]
        usable = np.where(free[segments], compared.overlaps[row], 0)
        well_placed = usable >= tiou
        if well_placed.any():
            of_class = well_placed & (compared.true_labels[segments] == label)
            segment = segments[np.where(of_class, 1 + usable, usable).argmax()]
            free[segment] = False
            table[compared.true_labels[segment], label] += 1
        else:
            table[num_classes, label] += 1
    table[:-1, -1] = np.bincount(compared.true_labels[free], minlength=num_classes)
    return table
