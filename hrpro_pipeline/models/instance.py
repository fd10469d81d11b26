"""Stage 2: completeness and boundary regression of proposals (paper, Eq. 9-13).

As in stage 1, videos are packed: features [N, D] of all videos one after the other, proposals [M, 2] of all videos, and
`video` [M], the index of each proposal's video.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROI_BINS = 12
EDGE_BINS = ROI_BINS // 6
EXTENSION = 0.25
# Most proposals, and most samples a bin in sum, whose RoI features [12, D] are in memory at once.
_CHUNK = 1024
_SAMPLES = 2**17


class InstanceScores(NamedTuple):
    """completeness: [M], in 0..1; refined: [M, 2], bounds on the snippet axis."""

    completeness: Tensor
    refined: Tensor


class Parts(NamedTuple):
    """Max-pooled RoI features of a proposal's start, center and end, [M, D] each."""

    start: Tensor
    center: Tensor
    end: Tensor


@torch.no_grad()
def roi_features(features: Tensor, first: Tensor, count: Tensor, proposals: Tensor, video: Tensor) -> Tensor:
    """Features of proposals by RoIAlign over the proposal and a quarter of its length on both sides.

    The semantics are torchvision's with adaptive sampling: a bin is the mean of equally spaced samples, at most a
    snippet apart, each interpolated between two snippets. So a bin is a weighted sum of rows of `features`, and all
    bins of all proposals of all videos are one embedding-bag.

    Args:
        features: [N, D]; snippet t of a video is the interval [t, t + 1). Outside the video features are zero.
        first, count: index of each video's first snippet, and its number of snippets, [B].
        proposals: [M, 2], start and end on the snippet axis of their video.
        video: [M], index of each proposal's video.

    Returns:
        [M, 12, D].
    """
    first_row, length = first[video], count[video]
    start, extent, samples = _sampling(proposals, length)
    step = extent / (samples * ROI_BINS)

    proposal = torch.repeat_interleave(torch.arange(len(proposals), device=features.device), samples * ROI_BINS)
    proposal_first = (samples * ROI_BINS).cumsum(0) - samples * ROI_BINS
    within = torch.arange(len(proposal), device=features.device) - proposal_first[proposal]
    position = start[proposal] + (within + 0.5) * step[proposal]
    left = torch.floor(position)
    share = position - left
    rows = torch.stack([left, left + 1], dim=1).long()  # [S, 2]
    weights = torch.stack([1 - share, share], dim=1) / samples[proposal, None]
    inside = (rows >= 0) & (rows < length[proposal, None])
    rows = torch.where(inside, rows + first_row[proposal, None], 0)
    bag_first = proposal_first[:, None] + torch.arange(ROI_BINS, device=features.device) * samples[:, None]  # [M, 12]
    bins = F.embedding_bag(
        rows.flatten(),
        features,
        2 * bag_first.flatten(),
        mode="sum",
        per_sample_weights=torch.where(inside, weights, 0).flatten().to(features.dtype),
    )
    return bins.unflatten(0, (-1, ROI_BINS))


def _sampling(proposals: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sampling of proposals [M, 2] in videos of `length` [M]: start, extent, and samples a bin, [M] each."""
    start, end = proposals.double().unbind(dim=1)  # a day is 135,000 snippets: float32 would be 0.01 off
    margin = EXTENSION * (end - start)
    # Half a snippet is taken off because interpolation puts the first snippet's center at 0. RoIAlign's smallest
    # extent is 1.
    extent = (end - start + 2 * margin).clamp(min=1)
    # Bounds that a failed regression has thrown far outside must not ask for more samples than any sound ones.
    needed = torch.minimum(extent.nan_to_num(1), 4.0 * length + ROI_BINS)
    return start - margin - 0.5, extent, torch.ceil(needed / ROI_BINS).long()


@torch.no_grad()
def pool_parts(features: Tensor, first: Tensor, count: Tensor, proposals: Tensor, video: Tensor) -> Parts:
    """Max-pool the RoI features of start (2 bins), center (8) and end (2); arguments as for `roi_features`."""
    pooled: list[tuple[Tensor, Tensor, Tensor]] = []
    samples = _sampling(proposals, count[video])[2].tolist()
    for rows in _chunks(samples):
        roi = roi_features(features, first, count, proposals[rows], video[rows])
        pooled.append(
            (
                roi[:, :EDGE_BINS].amax(dim=1),
                roi[:, EDGE_BINS:-EDGE_BINS].amax(dim=1),
                roi[:, -EDGE_BINS:].amax(dim=1),
            )
        )
    return Parts(*(torch.cat(part) for part in zip(*pooled, strict=True)))


def _chunks(samples: Sequence[int]) -> Iterator[slice]:
    """Cut proposals, by the samples of their bins, into chunks that fit into memory; one empty chunk for none."""
    start = total = 0
    for index, count in enumerate(samples):
        if index > start and (total + count > _SAMPLES or index - start == _CHUNK):
            yield slice(start, index)
            start, total = index, 0
        total += count
    yield slice(start, len(samples))


def _head(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, 1))


class InstanceModel(nn.Module):
    """Pooled parts of proposals, and the proposals [M, 2] -> InstanceScores."""

    def __init__(self, feature_dim: int, *, dropout: float = 0.7) -> None:
        super().__init__()
        self.start_offset = _head(feature_dim)
        self.end_offset = _head(feature_dim)
        self.fuse = nn.Sequential(nn.Linear(3 * feature_dim, feature_dim), nn.ReLU(), nn.Dropout(dropout))
        self.completeness = _head(feature_dim)

    def forward(self, parts: Parts, proposals: Tensor) -> InstanceScores:
        offsets = torch.cat([self.start_offset(parts.start), self.end_offset(parts.end)], dim=1).float()
        # Offsets are in proposal lengths and are added; the paper's Eq. 12 subtracts.
        lengths = proposals[:, 1:] - proposals[:, :1]
        return InstanceScores(self.score(parts), proposals + offsets * lengths)

    def score(self, parts: Parts) -> Tensor:
        """Completeness alone, [M]."""
        start, center, end = parts
        fused = self.fuse(torch.cat([center - start, center, center - end], dim=1))
        return torch.sigmoid(self.completeness(fused).squeeze(1).float())
