"""From scored proposals to detections: soft-NMS and the ambiguous-segment filter. Arrays only, in seconds."""

import math
from collections.abc import Sequence

import numpy as np

from hrpro_pipeline.base.compiled import compiled


def soft_nms(detections: np.ndarray, sigma: float, added_seconds: float) -> np.ndarray:
    """Gaussian soft-NMS of one class.

    Args:
        detections: [M, 4] rows of start, end, class, score.
        added_seconds: added to lengths and overlaps; 1 in the published code, which takes seconds for pixels.

    Returns:
        [M, 4]: all of them, best first, with decayed scores.
    """
    rows = np.asarray(detections, np.float64)
    start, end, score = rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 3].copy()
    order, kept = np.empty(len(rows), np.int64), np.empty(len(rows))
    _decay(start, end, end - start + added_seconds, score, sigma, added_seconds, order, kept)
    found = rows[order]
    found[:, 3] = kept
    return found


@compiled()
def _decay(
    start: np.ndarray,
    end: np.ndarray,
    length: np.ndarray,
    score: np.ndarray,
    sigma: float,
    added: float,
    order: np.ndarray,
    kept: np.ndarray,
) -> None:
    """Take the best of the rest each time into `order` and `kept`, and decay those that it overlaps. All are [M]."""
    remaining = len(start)
    index = np.arange(remaining)
    best = 0
    for row in range(1, remaining):
        if score[row] > score[best]:
            best = row
    for place in range(len(kept)):
        own_start, own_end, own_length = start[best], end[best], length[best]
        order[place], kept[place] = index[best], score[best]
        # The last one takes the place of the one that was kept, so that the rest stays contiguous.
        remaining -= 1
        start[best], end[best], length[best] = start[remaining], end[remaining], length[remaining]
        score[best], index[best] = score[remaining], index[remaining]
        best, highest = 0, -np.inf
        for row in range(remaining):
            overlap = min(own_end, end[row]) - max(own_start, start[row]) + added
            if overlap > 0:
                # Two reversed segments could make the union 0.
                iou = overlap / max(own_length + length[row] - overlap, 1e-12)
                score[row] *= math.exp(-(iou * iou) / sigma)
            if score[row] > highest:
                best, highest = row, score[row]


def classwise_soft_nms(detections: np.ndarray, sigma: float, added_seconds: float) -> np.ndarray:
    """`soft_nms` of each class by itself; [M, 4] -> [M, 4], best first."""
    if not len(detections):
        return detections
    kept = [
        soft_nms(detections[detections[:, 2] == label], sigma, added_seconds) for label in np.unique(detections[:, 2])
    ]
    joined = np.concatenate(kept)
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
