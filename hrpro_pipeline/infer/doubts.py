"""Labels worth a second look: points that seem misplaced, and actions that seem forgotten.

Both come from what a model says of a video: stage 1 has a low score at a point that is not where its action is, even if
it has learned from that very point; a likely detection without a point of its class is an action that nobody marked.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.data.suggestions import WORTH_A_LOOK, Suggestion
from hrpro_pipeline.infer.answer import apart
from hrpro_pipeline.infer.detector import scores_and_detections
from hrpro_pipeline.infer.evaluator import WatchedVideo, watched
from hrpro_pipeline.infer.held_out import calibrate
from hrpro_pipeline.infer.neighbors import agreement_of_neighbors
from hrpro_pipeline.models.candidates import prototype_cosines
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.device import or_on_cpu

# Detections of lower probability say nothing.
_LEAST_PROBABILITY = 0.2
# Share of the usual score from which on a moment looks like an action of another class than its point says.
_LIKE_AN_ACTION = 0.5
# A point that no neighbor agrees with may still be right; how well a point fits whose doubt is one half.
_LEAST_AGREEMENT = 0.2
_DOUBTFUL_FIT = 0.2


@dataclass(frozen=True)
class Points:
    """Points of a video on the snippet axis: positions [K], labels [K], and moments without an action [B].

    `agreement` [K] is that of `neighbors.agreement_of_neighbors`.
    """

    positions: np.ndarray
    labels: np.ndarray
    background: np.ndarray
    agreement: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """What a model says of a video.

    Attributes:
        scores: P of stage 1, [T, C].
        cosines: of each snippet's embedding with the prototypes, [T, C]; None where they were not asked for.
        detections: rows [M, 4] of start, end (on the snippet axis), class, probability; best first, those of a class
            do not overlap.
        clock: of its features.
    """

    scores: np.ndarray
    cosines: np.ndarray | None
    detections: np.ndarray
    clock: SnippetClock


def find_evidence(
    model: TrainedModel, videos: Mapping[str, WatchedVideo], device: torch.device, with_cosines: Collection[str] = ()
) -> dict[str, Evidence]:
    """Look at videos, by id, with a model.

    Args:
        with_cosines: ids of the videos that are compared with the prototypes.
    """
    model.to(device)
    evidence = {}
    with progress("looking at labels", len(videos), "videos", minor=True) as task:
        for video_id, video in task.each(videos.items()):
            on_host = torch.from_numpy(np.asarray(video.features))
            look = partial(_evidence, model.on_clock(video.clock), video_id in with_cosines)
            evidence[video_id] = or_on_cpu(look, model, on_host, device, video_id)
    model.to(torch.device("cpu"))
    return evidence


def _evidence(model: TrainedModel, with_cosines: bool, features: Tensor) -> Evidence:
    scores, detections = scores_and_detections(model, features)
    detections = detections[apart(detections)]
    score = detections[:, 3]
    probability = np.clip(score, 0, 1) if model.calibration is None else model.calibration.probability(score)
    bounds = model.clock.to_positions(detections[:, :2])
    rows = np.column_stack([bounds, detections[:, 2], probability])[probability >= _LEAST_PROBABILITY]
    cosines = prototype_cosines(model.snippet, features, model.settings) if with_cosines else None
    return Evidence(scores.fused, cosines, rows, model.clock)


def usual_scores(evidence: Mapping[str, Evidence], points: Mapping[str, Points]) -> np.ndarray:
    """The median score at the points of each class, [C]; that of all points for a class without any."""
    num_classes = next(iter(evidence.values())).scores.shape[1]
    scores: list[list[float]] = [[] for _ in range(num_classes)]
    for video_id, of_video in points.items():
        for position, label in zip(of_video.positions, of_video.labels, strict=True):
            scores[label].append(_near(evidence[video_id].scores[:, label], position))
    known = [score for of_class in scores for score in of_class]
    of_all = float(np.median(known)) if known else 1.0
    return np.array([np.median(of_class) if of_class else of_all for of_class in scores])


def doubts_of(model: TrainedModel, data: TrainingSet, device: torch.device) -> list[Suggestion]:
    """The labels of a training set that are worth a second look, by a model that was trained on it."""
    model = with_probabilities(model, data.videos, device)
    return label_doubts(find_evidence(model, watched(data.videos), device), points_of(data.videos), data.classes)


def with_probabilities(model: TrainedModel, videos: Sequence[TrainingVideo], device: torch.device) -> TrainedModel:
    """The model, with a calibration by these videos if it has none.

    Videos that it has learned from make it too sure of itself, but the ranking stays.
    """
    return model if model.calibration else replace(model, calibration=calibrate(model, videos, device))


def label_doubts(
    evidence: Mapping[str, Evidence], points: Mapping[str, Points], classes: Sequence[str]
) -> list[Suggestion]:
    """All points, and all likely actions without a point, of the videos that have points; most doubtful first.

    The score of a point rests on three things: the score of its class there, as a share of the highest in the video or
    of what points of its class usually have, whichever is more; and as a share of the best score of any class there;
    and the agreement of its nearest neighbors in other videos. The score of an action is its probability.
    """
    usual = usual_scores(evidence, points)
    doubts: list[Suggestion] = []
    for video_id, of_video in points.items():
        forgotten = unlabeled(evidence[video_id].detections, of_video)
        doubts += _misplaced(video_id, evidence[video_id], of_video, forgotten, usual, classes)
        middles = evidence[video_id].clock.to_seconds(forgotten[:, :2].mean(axis=1))
        doubts += [
            Suggestion(video_id, float(seconds), classes[int(label)], "forgotten", float(probability))
            for seconds, (_, _, label, probability) in zip(middles, forgotten, strict=True)
        ]
    return sorted(doubts, key=lambda item: (-item.score, item.video_id, item.seconds))


def unlabeled(detections: np.ndarray, points: Points) -> np.ndarray:
    """The detections without a point of their class, or a moment of background, in them; rows [M, 4]."""
    selected = [
        not (
            ((points.positions >= start) & (points.positions <= end) & (points.labels == label)).any()
            or ((points.background >= start) & (points.background <= end)).any()
        )
        for start, end, label, _ in detections
    ]
    return detections[np.array(selected, bool)]


def _misplaced(
    video_id: str,
    evidence: Evidence,
    points: Points,
    forgotten: np.ndarray,
    usual: np.ndarray,
    classes: Sequence[str],
) -> list[Suggestion]:
    clock = evidence.clock
    highest = np.maximum(evidence.scores.max(axis=0), usual)
    suggestions = []
    for position, label, agreement in zip(points.positions, points.labels, points.agreement, strict=True):
        scores = np.array([_near(of_class, position) for of_class in evidence.scores.T])
        here = scores / highest
        fit = here[label] * scores[label] / scores.max() * (_LEAST_AGREEMENT + agreement)
        item = Suggestion(
            *(video_id, float(clock.to_seconds(position)), classes[label], "misplaced"),
            float(_DOUBTFUL_FIT / (_DOUBTFUL_FIT + fit)),
        )
        if item.score >= WORTH_A_LOOK and here.max() > 2 * here[label] and here.max() >= _LIKE_AN_ACTION:
            item = replace(item, suggested_label=classes[int(here.argmax())])
        elif item.score >= WORTH_A_LOOK and len(same := forgotten[forgotten[:, 2] == label]):
            most_likely = same[same[:, 3].argmax(), :2].mean()
            item = replace(item, suggested_seconds=float(clock.to_seconds(most_likely)))
        suggestions.append(item)
    return suggestions


def _near(score: np.ndarray, position: float) -> float:
    """The score [T] of the snippet at a position, or of the better one beside it."""
    snippet = min(max(int(position), 0), len(score) - 1)
    return float(score[max(0, snippet - 1) : snippet + 2].max())


def points_of(videos: Sequence[TrainingVideo]) -> dict[str, Points]:
    """The points of training videos by video id."""
    agreement = agreement_of_neighbors(videos)
    return {
        video.video_id: Points(video.positions, video.labels, video.background, agreement[video.video_id])
        for video in videos
    }


def describe_doubts(doubts: Sequence[Suggestion]) -> str:
    """How many labels are worth a look, such as: 3 points look misplaced and 1 action forgotten."""
    kinds = [item.kind for item in doubts if item.score >= WORTH_A_LOOK]
    points, actions = kinds.count("misplaced"), kinds.count("forgotten")
    return (
        f"{points} {'point looks' if points == 1 else 'points look'} misplaced, and "
        f"{actions} {'action' if actions == 1 else 'actions'} forgotten"
    )
