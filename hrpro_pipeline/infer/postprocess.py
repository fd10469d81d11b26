"""From scored proposals to detections: soft-NMS and the ambiguous-segment filter. Arrays only, in seconds."""

import math
from collections.abc import Sequence

import numba
import numpy as np


def soft_nms(detections: np.ndarray, sigma: float, added_seconds: float) -> np.ndarray:
    """Gaussian soft-NMS of one class.

    Args:
        detections: [M, 4] rows of start, end, class, score.
        added_seconds: added to lengths and overlaps; 1 in the published code, which takes seconds for pixels.

    Returns:
        [M, 4]: all of them, best first, with decayed scores.
    """
    rows = np.array(detections, np.float64)
    kept = np.empty_like(rows)
    if len(rows):
        _decay(rows, kept, sigma, added_seconds)
    return kept


@numba.njit(cache=True, nogil=True)
def _decay(rows: np.ndarray, kept: np.ndarray, sigma: float, added_seconds: float) -> None:
    """Move `rows` [M, 4] to `kept`, the best of the rest each time, and decay those that it overlaps."""
    remaining = len(rows)
    best = 0
    for row in range(1, remaining):
        if rows[row, 3] > rows[best, 3]:
            best = row
    for place in range(len(kept)):
        start, end = rows[best, 0], rows[best, 1]
        kept[place] = rows[best]
        # The last row takes the place of the one that was kept, so that the rest stays contiguous.
        remaining -= 1
        rows[best] = rows[remaining]
        best = 0
        length = end - start + added_seconds
        for row in range(remaining):
            overlap = min(end, rows[row, 1]) - max(start, rows[row, 0]) + added_seconds
            if overlap > 0:
                # Two reversed segments could make the union 0.
                union = max(length + rows[row, 1] - rows[row, 0] + added_seconds - overlap, 1e-12)
                iou = overlap / union
                rows[row, 3] *= math.exp(-(iou * iou) / sigma)
            if rows[row, 3] > rows[best, 3]:
                best = row


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
