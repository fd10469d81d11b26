"""From scored proposals to detections: soft-NMS and the ambiguous-segment filter. Arrays only, in seconds."""

from collections.abc import Sequence

import numpy as np


def soft_nms(detections: np.ndarray, sigma: float, added_seconds: float) -> np.ndarray:
    """Gaussian soft-NMS of one class.

    Args:
        detections: [M, 4] rows of start, end, class, score.
        added_seconds: added to lengths and overlaps; 1 in the published code, which takes seconds for pixels.

    Returns:
        [M, 4]: all of them, best first, with decayed scores.
    """
    remaining = np.array(detections, np.float64)
    kept = np.empty_like(remaining)
    length = remaining[:, 1] - remaining[:, 0] + added_seconds
    for place in range(len(remaining)):
        best = int(np.argmax(remaining[:, 3]))
        kept[place] = remaining[best]
        # The last row takes the place of the one that was kept, so that the rest stays contiguous.
        best_length = length[best]
        remaining[best], length[best] = remaining[-1], length[-1]
        remaining, length = remaining[:-1], length[:-1]
        overlap = np.minimum(kept[place, 1], remaining[:, 1]) - np.maximum(kept[place, 0], remaining[:, 0])
        overlap = np.maximum(overlap + added_seconds, 0)
        # Two reversed segments could make the union 0.
        iou = overlap / np.maximum(best_length + length - overlap, 1e-12)
        remaining[:, 3] *= np.exp(-(iou**2) / sigma)
    return kept


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
