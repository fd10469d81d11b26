"""What kinds of errors detections make, as in DETAD (Alwassel et al., "Diagnosing Error in Temporal Action Detectors",
ECCV 2018). Dataclasses in, dataclasses out; no files.

G is the number of true segments. The profile takes the best 10 G detections of each class; the confusion takes the best
G detections of all, because a class's many weak detections would fill its column.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.detections import Detection

KINDS = ("right", "double", "wrong label", "localization", "confusion", "background")
RIGHT, DOUBLE, WRONG_LABEL, LOCALISATION, CONFUSION, BACKGROUND = range(len(KINDS))
# Detections that were not compared: of other videos or classes than those of the ground truth.
LEFT_OUT = -1
MULTIPLES = 10


@dataclass(frozen=True)
class ClassDiagnosis:
    """One class.

    Attributes:
        num_segments: G of this class.
        num_missed: segments that none of the best 10 G detections of the class is right about.
        recall, precision: at each right detection, best first; precision is the interpolated one that AP sums up.
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
            that was taken for a class, the last column segments that none of the best G detections found.
        segment_seconds: lengths of the true segments.
    """

    tiou: float
    kinds: dict[str, list[int]]
    profile: list[list[int]]
    classes: dict[str, ClassDiagnosis]
    confusion: list[list[int]]
    segment_seconds: tuple[float, ...]


class _Compared(NamedTuple):
    """Detections [M] and segments [G] of all videos; a detection's overlaps are with its own video's segments.

    Attributes:
        label, score: of the detections.
        candidates: of each detection, indices of its video's segments.
        overlaps: their tIoU with it.
        truth: labels of the segments.
    """

    label: np.ndarray
    score: np.ndarray
    candidates: list[np.ndarray]
    overlaps: list[np.ndarray]
    truth: np.ndarray


def diagnose(
    detections: Mapping[str, Sequence[Detection]],
    truth: Mapping[str, VideoAnnotation],
    exclude: Collection[str] = (),
    tiou: float = 0.5,
    least: float = 0.1,
) -> Diagnosis:
    """Tell the kind of each detection.

    A detection is right if it takes a free segment of its class, as for mAP. The others are judged by the segment of
    any class that they overlap most: with a tIoU of at least `tiou` they are double or have the wrong label, with at
    least `least` they are badly placed (localization) or that with the wrong label (confusion), and below it they are
    background.

    Args:
        detections: by video, in any order; what `truth` does not know is left out, as for mAP.
        truth: the videos to evaluate.
        exclude: videos left out of both.

    Raises:
        ValueError: the ground truth has no segment.
    """
    names = [video_id for video_id in truth if video_id not in set(exclude)]
    labels = sorted({segment.label for video_id in names for segment in truth[video_id].segments})
    if not labels:
        raise ValueError("the ground truth has no segments to compare with")
    number = {label: index for index, label in enumerate(labels)}
    kept = {
        video_id: [place for place, item in enumerate(listed) if item.label in number]
        for video_id, listed in detections.items()
        if video_id in set(names)
    }
    compared = _compare({key: [detections[key][place] for place in kept[key]] for key in kept}, truth, names, number)
    taken = _take(compared, tiou)
    found = np.array([_kind(compared, row, taken[row] >= 0, tiou, least) for row in range(len(taken))], np.int64)

    kinds = {video_id: [LEFT_OUT] * len(listed) for video_id, listed in detections.items()}
    places = [(video_id, place) for video_id in kept for place in kept[video_id]]
    for (video_id, place), kind in zip(places, found.tolist(), strict=True):
        kinds[video_id][place] = kind
    profile = np.zeros((MULTIPLES, len(KINDS)), np.int64)
    classes = {}
    for label, index in number.items():
        ranked = np.flatnonzero(compared.label == index)
        ranked = ranked[np.argsort(-compared.score[ranked], kind="stable")]
        total = int((compared.truth == index).sum())
        best = found[ranked[: MULTIPLES * total]]
        np.add.at(profile, (np.arange(len(best)) // total, best), 1)
        recall, precision = _curve(found[ranked] == RIGHT, total)
        classes[label] = ClassDiagnosis(total, total - int((best == RIGHT).sum()), recall, precision)
    confusion = _confusion(compared, len(labels), tiou)
    lengths = tuple(item.end_seconds - item.start_seconds for video_id in names for item in truth[video_id].segments)
    return Diagnosis(tiou, kinds, profile.tolist(), classes, confusion.tolist(), lengths)


def overlaps(bounds: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """tIoU of each of [M, 2] with each of [G, 2] -> [M, G]."""
    shared = np.minimum(bounds[:, None, 1], segments[None, :, 1]) - np.maximum(bounds[:, None, 0], segments[None, :, 0])
    shared = np.maximum(shared, 0)
    lengths, own = segments[:, 1] - segments[:, 0], bounds[:, 1] - bounds[:, 0]
    # Reversed bounds, which a file may have, could make the union 0.
    return shared / np.maximum(lengths[None] + own[:, None] - shared, 1e-12)


def _compare(
    detections: Mapping[str, Sequence[Detection]],
    truth: Mapping[str, VideoAnnotation],
    names: Sequence[str],
    number: Mapping[str, int],
) -> _Compared:
    """Overlaps of all detections, video by video in the order of `detections`."""
    first, count = {}, 0
    for video_id in names:
        first[video_id] = count
        count += len(truth[video_id].segments)
    found = _Compared(
        np.array([number[item.label] for listed in detections.values() for item in listed], np.int64),
        np.array([item.score for listed in detections.values() for item in listed], np.float64),
        [],
        [],
        np.array([number[item.label] for video_id in names for item in truth[video_id].segments], np.int64),
    )
    for video_id, listed in detections.items():
        segments = [(item.start_seconds, item.end_seconds) for item in truth[video_id].segments]
        bounds = np.array([(item.start_seconds, item.end_seconds) for item in listed], np.float64).reshape(-1, 2)
        own = np.arange(len(segments)) + first[video_id]
        found.overlaps.extend(overlaps(bounds, np.array(segments, np.float64).reshape(-1, 2)))
        found.candidates.extend([own] * len(listed))
    return found


def _take(compared: _Compared, tiou: float) -> np.ndarray:
    """Which segment each detection takes, [M]: best first, the free one of its class with the best tIoU; or -1."""
    taken = np.full(len(compared.label), -1)
    free = np.ones(len(compared.truth), bool)
    for row in np.argsort(-compared.score, kind="stable"):
        own = compared.candidates[row]
        usable = np.where(free[own] & (compared.truth[own] == compared.label[row]), compared.overlaps[row], 0)
        if usable.max(initial=0) >= tiou:
            taken[row] = own[usable.argmax()]
            free[taken[row]] = False
    return taken


def _kind(compared: _Compared, row: int, is_right: bool, tiou: float, least: float) -> int:
    """The kind of one detection."""
    shared = compared.overlaps[row]
    most = shared.max(initial=0)
    if is_right:
        return RIGHT
    if most < least:
        return BACKGROUND
    # Where segments of several classes are overlapped alike, the detection's own counts.
    same = bool((compared.truth[compared.candidates[row]][shared == most] == compared.label[row]).any())
    if most >= tiou:
        return DOUBLE if same else WRONG_LABEL
    return LOCALISATION if same else CONFUSION


def _curve(hits: np.ndarray, total: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Recall and interpolated precision at each right detection, best first."""
    places = np.flatnonzero(hits)
    true = np.arange(1, len(places) + 1)
    precision = np.maximum.accumulate((true / (places + 1))[::-1])[::-1]
    return tuple((true / total).tolist()), tuple(precision.tolist())


def _confusion(compared: _Compared, num_classes: int, tiou: float) -> np.ndarray:
    """[C + 1, C + 1] of the best G detections: each takes a free segment of its class, or else of any class."""
    table = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    free = np.ones(len(compared.truth), bool)
    for row in np.argsort(-compared.score, kind="stable")[: len(compared.truth)]:
        own = compared.candidates[row]
        usable = np.where(free[own], compared.overlaps[row], 0)
        well_placed = usable >= tiou
        preferred = np.where(well_placed & (compared.truth[own] == compared.label[row]), 1 + usable, usable)
        if well_placed.any():
            segment = own[preferred.argmax()]
            free[segment] = False
            table[compared.truth[segment], compared.label[row]] += 1
        else:
            table[num_classes, compared.label[row]] += 1
    table[:-1, -1] = np.bincount(compared.truth[free], minlength=num_classes)
    return table
