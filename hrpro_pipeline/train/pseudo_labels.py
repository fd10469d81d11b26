"""Seeds of action and background from points and background scores (paper, Algorithm 1, as coded)."""

import torch
from torch import Tensor

from hrpro_pipeline.models.snippet import Packing


def pseudo_labels(
    background: Tensor,
    points: Tensor,
    packing: Packing,
    action_threshold: float = 0.1,
    background_threshold: float = 0.95,
    marked: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the seeds of packed videos, on their device and without asking it for a value.

    The points cut a video into gaps. In a gap between two points, background seeds are all snippets from the first
    to the last that reaches `background_threshold`; where fewer than two do, the snippet with the highest score. Before
    the first and after the last point everything beyond the seed nearest to the point is background, too. Action seeds
    grow from each point over neighbors whose background score is at most `action_threshold`.

    Args:
        background: b, [N].
        points: [N, C], 1 where a snippet holds a point of the class. Without any point, a video has no other
            seeds than those `marked`.
        marked: background by people's own labels, bool [N]; background seeds, too, unless they hold a point.

    Returns:
        action seeds [N, C], 0 or 1, the points among them; background seeds [N], bool.
    """
    device, num_snippets, video = background.device, len(background), packing.video
    index = torch.arange(num_snippets, device=device)
    is_point = points.amax(dim=1) > 0
    free = ~is_point
    # Gaps are numbered through the whole batch; a point is counted to the gap after it, so that a video has one gap
    # more than it has points, and the first one may be empty.
    passed = is_point.long().cumsum(0)
    gap = passed + video
    num_gaps = num_snippets + len(packing)  # at most
    last_gap = gap[packing.last]
    first_gap = gap[packing.first] - is_point[packing.first].long()

    # First and last sure snippet of each gap, and the first of those with the gap's highest score.
    sure = free & (background >= background_threshold)
    count = torch.zeros(num_gaps, dtype=torch.long, device=device).scatter_add_(0, gap, sure.long())
    first = _per_gap(gap, torch.where(sure, index, num_snippets), num_gaps, "amin", num_snippets)
    last = _per_gap(gap, torch.where(sure, index, -1), num_gaps, "amax", -1)
    score = torch.where(free, background, -torch.inf)
    best = _per_gap(gap, score, num_gaps, "amax", -torch.inf)
    at_best = free & (score == best[gap])
    highest = _per_gap(gap, torch.where(at_best, index, num_snippets), num_gaps, "amin", num_snippets)

    needed = torch.full_like(count, 2).index_fill_(0, first_gap, 1).index_fill_(0, last_gap, 1)
    start = torch.where(count >= needed, first, highest)
    stop = torch.where(count >= needed, last, highest)
    start[first_gap] = packing.first
    stop[last_gap] = packing.last
    has_points = (first_gap < last_gap)[video]
    is_background = has_points & free & (index >= start[gap]) & (index <= stop[gap])
    if marked is not None:
        is_background |= free & marked

    # An action seed is joined to a point by snippets that may grow; every gap holds a background seed, so never to two,
    # and never to one of another video.
    grows = free & ~is_background & (background <= action_threshold)
    before = torch.where(grows, -1, index).cummax(0).values
    after = torch.where(grows, num_snippets, index).flip(0).cummin(0).values.flip(0)
    action = points.clone()
    for neighbor in (before, after):
        inside = (neighbor >= 0) & (neighbor < num_snippets)
        source = neighbor.clamp(0, num_snippets - 1)
        grown = has_points & grows & inside & is_point[source]
        action = torch.where(grown[:, None], points[source], action)
    return action, is_background


def _per_gap(gap: Tensor, values: Tensor, num_gaps: int, reduce: str, empty: float) -> Tensor:
    """Reduce `values` [N] within each gap -> [num_gaps]; `empty` where a gap has none."""
    start = torch.full((num_gaps,), empty, dtype=values.dtype, device=values.device)
    return start.scatter_reduce_(0, gap, values, reduce)
