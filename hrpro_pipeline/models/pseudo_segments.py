"""A pseudo segment for each labeled point: how far the scores of its class stay high around it."""

import numpy as np

# Snippets around a point in which the peak of its scores is looked for: points are seldom set at the peak itself.
_PEAK_RADIUS = 8
# A segment has some length even where a point lies on its bound.
_SHORTEST = 0.5


def pseudo_segments(
    fused: np.ndarray,
    positions: np.ndarray,
    labels: np.ndarray,
    peak_ratio: float,
    background: np.ndarray | None = None,
) -> np.ndarray:
    """Segments around the points of one video.

    A segment reaches from the peak near its point as far as the class score stays over `peak_ratio` of the peak, with
    the crossing interpolated between snippets; it contains the point and no neighboring point, and reaches no farther
    than the next moment of `background`.

    Args:
        fused: P of stage 1, [T, C].
        positions: of the points on the snippet axis, ascending, [K]. labels: their classes, [K].
        peak_ratio: 0..1.
        background: moments without an action on the snippet axis, ascending, [B].

    Returns:
        [K, 2] of start and end on the snippet axis.
    """
    borders = np.concatenate([[0.0], positions, [float(len(fused))]])
    before, after = borders[:-2], borders[2:]
    if background is not None and len(background):
        edges = np.concatenate([[0.0], background, [float(len(fused))]])
        index = np.searchsorted(background, positions)
        before, after = np.maximum(before, edges[index]), np.minimum(after, edges[index + 1])
    rows = [
        _around(fused[:, label], position, first, last, peak_ratio)
        for position, label, first, last in zip(positions, labels, before, after, strict=True)
    ]
    return np.array(rows, np.float64).reshape(-1, 2)


def _around(score: np.ndarray, position: float, before: float, after: float, peak_ratio: float) -> tuple[float, float]:
    """The segment of a point between the points `before` and `after` it, from the score [T] of its class."""
    length = len(score)
    snippet = min(int(position), length - 1)
    first = min(int(np.ceil(before)), snippet)
    last = max(min(length, int(after)), snippet + 1)  # exclusive
    near = slice(max(first, snippet - _PEAK_RADIUS), min(last, snippet + _PEAK_RADIUS + 1))
    threshold = peak_ratio * score[near].max()
    seed = snippet if score[snippet] >= threshold else near.start + int(score[near].argmax())
    low = np.flatnonzero(score[first:seed] < threshold)
    start = first + int(low[-1]) + 1 if len(low) else first
    low = np.flatnonzero(score[seed + 1 : last] < threshold)
    end = seed + 1 + int(low[0]) if len(low) else last  # exclusive
    start_position, end_position = float(start), float(end)
    if start > 0 and score[start - 1] < threshold:  # scores are those of snippets' middles
        start_position = start - 0.5 + (threshold - score[start - 1]) / (score[start] - score[start - 1])
    if end < length and score[end] < threshold:
        end_position = end - 0.5 + (score[end - 1] - threshold) / (score[end - 1] - score[end])
    half = _SHORTEST / 2
    start_position = max(0.0, min(start_position, position - half))
    return start_position, min(float(length), max(end_position, position + half))
