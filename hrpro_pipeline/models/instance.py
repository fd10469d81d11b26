"""Stage 2: completeness and boundary regression of proposals (paper, Eq. 9-13)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

ROI_BINS = 12
EDGE_BINS = ROI_BINS // 6
EXTENSION = 0.25


class InstanceScores(NamedTuple):
    """completeness: [M], in 0..1; refined: [M, 2], bounds on the snippet axis."""

    completeness: Tensor
    refined: Tensor


def roi_features(features: Tensor, proposals: Tensor) -> Tensor:
    """Features of proposals by RoIAlign over the proposal and a quarter of its length on both sides.

    Args:
        features: [T, D]; snippet t is the interval [t, t + 1). Outside the video features are zero.
        proposals: [M, 2], start and end on the snippet axis.

    Returns:
        [M, 12, D].
    """
    start, end = proposals.unbind(dim=1)
    margin = EXTENSION * (end - start)
    # One row of zeros at each end is enough: RoIAlign answers zero for anything further out. Half a snippet
    # is taken off because it puts the first row's centre at 0.
    padded = torch.nn.functional.pad(features.T[None, :, :, None], (0, 0, 1, 1))  # [1, D, T + 2, 1]
    lines = torch.stack(
        [torch.zeros_like(start), start - margin + 0.5, torch.ones_like(start), end + margin + 0.5], dim=1
    )
    aligned = roi_align(padded, [lines], output_size=(ROI_BINS, 1))  # [M, D, 12, 1]
    return aligned.squeeze(3).transpose(1, 2)


def _head(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, 1))


class InstanceModel(nn.Module):
    """Features [T, D] and proposals [M, 2] of one video -> InstanceScores."""

    def __init__(self, feature_dim: int, *, dropout: float = 0.7) -> None:
        super().__init__()
        self.start_offset = _head(feature_dim)
        self.end_offset = _head(feature_dim)
        self.fuse = nn.Sequential(nn.Linear(3 * feature_dim, feature_dim), nn.ReLU(), nn.Dropout(dropout))
        self.completeness = _head(feature_dim)

    def forward(self, features: Tensor, proposals: Tensor) -> InstanceScores:
        roi = roi_features(features, proposals)
        start = roi[:, :EDGE_BINS].amax(dim=1)
        centre = roi[:, EDGE_BINS:-EDGE_BINS].amax(dim=1)
        end = roi[:, -EDGE_BINS:].amax(dim=1)
        fused = self.fuse(torch.cat([centre - start, centre, centre - end], dim=1))
        completeness = torch.sigmoid(self.completeness(fused).squeeze(1))
        offsets = torch.cat([self.start_offset(start), self.end_offset(end)], dim=1)
        # Offsets are in proposal lengths and are added; the paper's Eq. 12 subtracts.
        lengths = proposals[:, 1:] - proposals[:, :1]
        return InstanceScores(completeness, proposals + offsets * lengths)
