"""Candidate proposals from snippet scores, scored by outer-inner contrast (OIC). Pure arithmetic on arrays.

A proposal is a row [start, end, class, score]; start and end are positions on the snippet axis.
"""

import numpy as np

NO_PROPOSALS = np.empty((0, 4))


def upsample(scores: np.ndarray, factor: int) -> np.ndarray:
    """Linear interpolation in time, [T, K] -> [T * factor, K]; extrapolated after the last snippet."""
    length = len(scores)
    if length == 1:
        return np.repeat(scores.astype(np.float64), factor, axis=0)
    positions = np.arange(length * factor) / factor
    left = np.minimum(positions.astype(np.int64), length - 2)
    # The slope is taken in the precision of the scores, as the published code does.
    slope = np.diff(scores, axis=0)[left].astype(np.float64)
    return slope * (positions - left)[:, None] + scores[left]


def runs(active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of True along the last axis of [G, L] -> row, start and end (exclusive) of each run, [M] each."""
    edges = np.diff(np.pad(active.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return rows, starts, ends


def outer_inner_contrast(
    scores: np.ndarray, rows: np.ndarray, starts: np.ndarray, ends: np.ndarray, outer_ratio: float
) -> np.ndarray:
    """OIC score: mean score inside minus mean score in the margins of `outer_ratio` lengths on both sides.

    Args:
        scores: [G, L].
        rows, starts, ends: [M], runs as `runs` gives them.

    Returns:
        [M].
    """
    length = scores.shape[1]
    total = np.pad(np.cumsum(scores, axis=1), ((0, 0), (1, 0)))  # [G, L + 1]
    margin = outer_ratio * (ends - starts)
    outer_starts = np.maximum(0, np.floor(starts - margin)).astype(np.int64)
    outer_ends = np.minimum(length, np.floor(ends - 1 + margin).astype(np.int64) + 1)
    inside = total[rows, ends] - total[rows, starts]
    outside = total[rows, outer_ends] - total[rows, outer_starts] - inside
    outer_count = (outer_ends - outer_starts) - (ends - starts)
    outer = np.divide(outside, outer_count, out=np.zeros_like(outside), where=outer_count > 0)
    return inside / (ends - starts) - outer


def candidate_proposals(
    fused: np.ndarray,
    background: np.ndarray,
    video_scores: np.ndarray,
    *,
    upsample_factor: int,
    class_threshold: float,
    class_grid: tuple[float, float, float],
    attention_grid: tuple[float, float, float],
    outer_ratio: float,
    drop_runs_at_zero: bool,
) -> np.ndarray:
    """All candidates of one video.

    Args:
        fused: P, [T, C].
        background: b, [T].
        video_scores: [C]; classes at or over `class_threshold` are localized, or the best class if none is.
        class_grid: thresholds on P as (start, stop, step); below the threshold P is zeroed before its runs are scored.
        attention_grid: thresholds on 1 - b; the runs are scored on P as it is.
        drop_runs_at_zero: leave out a class whose only active upsampled position is the first.

    Returns:
        [M, 4] rows of start, end, class, score.
    """
    selected_classes = np.flatnonzero(video_scores >= class_threshold)  # [K]
    if not len(selected_classes):
        selected_classes = np.array([np.argmax(video_scores)])
    dense = upsample(fused[:, selected_classes], upsample_factor)  # [L, K]
    attention = upsample(1 - background[:, None], upsample_factor)[:, 0]  # [L]
    class_levels, attention_levels = np.arange(*class_grid), np.arange(*attention_grid)
    # Runs are of positive values, so that a threshold of 0 does not take the whole video.
    attended = np.where(attention >= attention_levels[:, None], attention, 0) > 0  # [Ga, L]
    proposals = [NO_PROPOSALS]
    for column, label in enumerate(selected_classes):
        score = dense[:, column]
        cut = np.where(score >= class_levels[:, None], score, 0)  # [Gc, L]
        scored = np.concatenate([cut, np.broadcast_to(score, attended.shape)])  # [Gc + Ga, L]
        active = np.concatenate([cut > 0, attended])
        if drop_runs_at_zero:
            active[~active[:, 1:].any(axis=1)] = False
        rows, starts, ends = runs(active)
        contrast = outer_inner_contrast(scored, rows, starts, ends, outer_ratio)
        proposals.append(
            np.stack([starts / upsample_factor, ends / upsample_factor, np.full(len(rows), label), contrast], axis=1)
        )
    return np.concatenate(proposals)
