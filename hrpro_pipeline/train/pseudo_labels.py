"""Seeds of action and background from points and background scores (paper, Algorithm 1, as coded)."""

import torch
from torch import Tensor


def pseudo_labels(
    background: Tensor, points: Tensor, action_threshold: float = 0.1, background_threshold: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Find the seeds of one video.

    The points cut the video into gaps. In a gap between two points, background seeds are all snippets from the first
    to the last that reaches `background_threshold`; where fewer than two do, the snippet with the highest score. Before
    the first and after the last point everything beyond the seed nearest to the point is background, too. Action seeds
    grow from each point over neighbours whose background score is at most `action_threshold`.

    Args:
        background: b, [T].
        points: [T, C], 1 where a snippet holds a point of the class. Without any point there are no seeds.

    Returns:
        action seeds [T, C], 0 or 1, the points among them; background seeds [T], bool.
    """
    num_snippets = len(background)
    is_point = points.amax(dim=1) > 0
    num_gaps = int(is_point.sum()) + 1
    if num_gaps == 1:
        return points.clone(), torch.zeros_like(is_point)
    index = torch.arange(num_snippets, device=background.device)
    gap = is_point.long().cumsum(0)  # gap 0 lies before the first point; a point is counted to the gap after it
    free = ~is_point

    # First and last sure snippet of each gap, and the first of those with the gap's highest score.
    sure = free & (background >= background_threshold)
    count = torch.zeros(num_gaps, dtype=torch.long, device=gap.device).scatter_add_(0, gap, sure.long())
    first = _per_gap(gap, torch.where(sure, index, num_snippets), num_gaps, "amin", num_snippets)
    last = _per_gap(gap, torch.where(sure, index, -1), num_gaps, "amax", -1)
    score = torch.where(free, background, -torch.inf)
    best = _per_gap(gap, score, num_gaps, "amax", -torch.inf)
    at_best = free & (score == best[gap])
    highest = _per_gap(gap, torch.where(at_best, index, num_snippets), num_gaps, "amin", num_snippets)

    needed = torch.full_like(count, 2)
    needed[0] = needed[-1] = 1
    start = torch.where(count >= needed, first, highest)
    stop = torch.where(count >= needed, last, highest)
    start[0], stop[-1] = 0, num_snippets
    # An end gap without snippets has no seed; its bounds must not reach into others.
    is_background = free & (index >= start[gap]) & (index <= stop[gap])

    # An action seed is joined to a point by snippets that may grow; every gap holds a background seed, so never to two.
    grows = free & ~is_background & (background <= action_threshold)
    barrier = torch.where(grows, -1, index)
    before = barrier.cummax(0).values
    after = torch.where(grows, num_snippets, index).flip(0).cummin(0).values.flip(0)
    action = points.clone()
    for neighbour in (before, after):
        inside = (neighbour >= 0) & (neighbour < num_snippets)
        source = neighbour.clamp(0, num_snippets - 1)
        grown = grows & inside & is_point[source]
        action = torch.where(grown[:, None], points[source], action)
    return action, is_background


def _per_gap(gap: Tensor, values: Tensor, num_gaps: int, reduce: str, empty: float) -> Tensor:
    """Reduce `values` [T] within each gap -> [num_gaps]; `empty` where a gap has none."""
    start = torch.full((num_gaps,), empty, dtype=values.dtype, device=values.device)
    return start.scatter_reduce_(0, gap, values, reduce)
