"""The answer among ranked detections: how likely each is right, and which ones a model stands for.

Both are learned from points of videos that the model has not seen: a detection counts as right if it is the best one
that overlaps a pseudo segment of its class by at least half (tIoU).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from hrpro_pipeline.infer.evaluation import true_positives
from hrpro_pipeline.models.calibration import Calibration, log_score

# Overlap with a segment that makes a detection right.
_TIOU = 0.5
# Pull on the slope, so that a handful of detections gives no steep curve.
_RIDGE = 1e-2
_NEWTON_STEPS = 50
_STEEPEST = 20.0


def is_right(detections: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Which detections are right; each segment makes one right, the best that overlaps it.

    Args:
        detections: rows [M, 4] of start, end, class, score; best first.
        segments: rows [K, 3] of start, end, class.

    Returns:
        bool [M].
    """
    ordered = segments[np.argsort(segments[:, 2], kind="stable")][:, [2, 0, 1]]
    first, last = (np.searchsorted(ordered[:, 0], detections[:, 2], side) for side in ("left", "right"))
    # Within one video, classes part what may match as videos do elsewhere.
    return true_positives(detections[:, [2, 0, 1, 3]], ordered, first, last, np.array([_TIOU]))[0]


def apart(detections: np.ndarray) -> np.ndarray:
    """The detections that overlap no better one of their class; rows [M, 4], best first -> bool [M]."""
    selected = np.zeros(len(detections), bool)
    for label in np.unique(detections[:, 2]):
        rows = np.flatnonzero(detections[:, 2] == label)
        taken = np.empty((0, 2))
        for row in rows:
            start, end = detections[row, :2]
            if not ((start < taken[:, 1]) & (taken[:, 0] < end)).any():
                selected[row] = True
                taken = np.vstack([taken, [start, end]])
    return selected


def answers(detections: np.ndarray, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Probability [M] of each detection [M, 4], best first, and which of them are the answer, bool [M]."""
    probability = calibration.probability(detections[:, 3])
    likely = np.flatnonzero(probability >= calibration.threshold)
    answer = np.zeros(len(detections), bool)
    answer[likely] = apart(detections[likely])
    return probability, answer


def fit_calibration(detections: Mapping[str, np.ndarray], segments: Mapping[str, np.ndarray]) -> Calibration | None:
    """Learn a calibration from videos that the model has not seen.

    Args:
        detections: rows [M, 4] by video, best first. segments: rows [K, 3] by video, in the same unit.

    Returns:
        None where no detection is right, or none is wrong.
    """
    right, scores, candidates = [], [], []
    for video_id, rows in detections.items():
        right.append(is_right(rows, segments[video_id]))
        scores.append(rows[:, 3])
        candidates.append(apart(rows))
    all_right, all_scores = np.concatenate(right), np.concatenate(scores)
    if all_right.all() or not all_right.any():
        return None
    slope, intercept = _logistic(log_score(all_scores), all_right.astype(np.float64))
    uncut = Calibration(slope, intercept, 0.0)
    # Ranked by score, and without what overlaps something better, any threshold takes the first so many.
    selected = np.concatenate(candidates)
    order = np.argsort(-all_scores[selected], kind="stable")
    num_segments = sum(map(len, segments.values()))
    threshold = _best_f1(all_scores[selected][order], all_right[selected][order], num_segments)
    return Calibration(slope, intercept, float(uncut.probability(np.array(threshold))))


def _best_f1(scores: np.ndarray, right: np.ndarray, num_segments: int) -> float:
    """The score to ask for, of scores best first, that gives the best F1."""
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(right) + 1) + num_segments)
    best = int(f1.argmax())
    following = scores[best + 1] if best + 1 < len(scores) else scores[best]
    return float((scores[best] + following) / 2)


def _logistic(values: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of a logistic regression by Newton's method; the slope is not negative."""
    design = np.stack([values, np.ones_like(values)], axis=1)
    pull = np.diag([_RIDGE, 0])
    weights = np.array([1.0, 0.0])
    for _ in range(_NEWTON_STEPS):
        estimate = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (estimate - targets) + pull @ weights
        curvature = (design * (estimate * (1 - estimate))[:, None]).T @ design + pull + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step * min(1.0, 5 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return float(np.clip(weights[0], 0, _STEEPEST)), float(weights[1])


def expected_calibration_error(probability: np.ndarray, right: Sequence[bool] | np.ndarray, bins: int = 10) -> float:
    """Mean distance of probabilities from the share that is right, over equal bins, weighted by their sizes."""
    right = np.asarray(right, np.float64)
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    distances = [
        abs(float(probability[bin_of == index].mean() - right[bin_of == index].mean())) * float((bin_of == index).sum())
        for index in np.unique(bin_of)
    ]
    return sum(distances) / max(1, len(probability))
