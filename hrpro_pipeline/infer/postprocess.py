"""From scored proposals to detections: soft-NMS and the ambiguous-segment filter. Arrays only, in seconds."""

import math
from collections.abc import Sequence

import numpy as np

from hrpro_pipeline.base.compiled import compiled


def soft_nms(detections: np.ndarray, sigma: float, added_seconds: float) -> np.ndarray:
    """Gaussian soft-NMS of one class.

    Args:
        detections: [M, 4] rows of start, end, class, score.
        sigma: scores are multiplied by exp(-tIoU² / sigma).
        added_seconds: added to lengths and overlaps; 1 in the published code, which takes seconds for pixels.

    Returns:
        [M, 4]: all of them, best first, with decayed scores.
    """
    rows = np.asarray(detections, np.float64)
    order, scores = _ranked(rows[:, 0], rows[:, 1], rows[:, 3], sigma, added_seconds)
    ranked = rows[order]
    ranked[:, 3] = scores
    return ranked


@compiled()
def _ranked(
    starts: np.ndarray, ends: np.ndarray, scores: np.ndarray, sigma: float, added: float
) -> tuple[np.ndarray, np.ndarray]:
    """Take the best remaining detection each time and decay those that it overlaps -> order and decayed scores, [M]."""
    start, end, score = starts.copy(), ends.copy(), scores.copy()
    length = end - start + added
    remaining = len(start)
    index = np.arange(remaining)
    order, decayed = np.empty(remaining, np.int64), np.empty(remaining)
    best = 0
    for row in range(1, remaining):
        if score[row] > score[best]:
            best = row
    for rank in range(len(order)):
        best_start, best_end, best_length = start[best], end[best], length[best]
        order[rank], decayed[rank] = index[best], score[best]
        # The last one moves into the place of the best, so that those that remain stay contiguous.
        remaining -= 1
        start[best], end[best], length[best] = start[remaining], end[remaining], length[remaining]
        score[best], index[best] = score[remaining], index[remaining]
        best, highest = 0, -np.inf
        for row in range(remaining):
            overlap = min(best_end, end[row]) - max(best_start, start[row]) + added
            if overlap > 0:
                # Two reversed segments could make the union 0.
                iou = overlap / max(best_length + length[row] - overlap, 1e-12)
                score[row] *= math.exp(-(iou * iou) / sigma)
            if score[row] > highest:
                best, highest = row, score[row]
    return order, decayed


def classwise_soft_nms(detections: np.ndarray, sigma: float, added_seconds: float) -> np.ndarray:
    """`soft_nms` of each class by itself; [M, 4] -> [M, 4], best first."""
    if not len(detections):
        return detections
    labels = detections[:, 2]
    joined = np.concatenate(
        [soft_nms(detections[labels == label], sigma, added_seconds) for label in np.unique(labels)]
    )
    return joined[np.argsort(-joined[:, 3], kind="stable")]


def outside_ambiguous(detections: np.ndarray, ambiguous: Sequence[tuple[float, float]]) -> np.ndarray:
    """Drop detections that overlap an ambiguous segment, both cut to whole seconds as in THUMOS14's protocol.

    Args:
        detections: [M, 4] rows of start, end, class, score.
        ambiguous: (start, end) of the video's ambiguous segments.
    """
    if not len(ambiguous):
        return detections
    segments = np.round(np.asarray(ambiguous, np.float64))  # [A, 2]
    start = np.maximum(np.trunc(detections[:, None, 0]), segments[None, :, 0])
    end = np.minimum(np.trunc(detections[:, None, 1]), segments[None, :, 1])
    return detections[~(start < end).any(axis=1)]
