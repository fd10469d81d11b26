"""RoI features of proposals: as torchvision has them, and for none, many and far too wide proposals."""

import torch
from made_features import packing
from torchvision.ops import roi_align

from hrpro_pipeline.models.instance import pool_parts, roi_features

DIM = 32
ZERO = torch.tensor([0])


class TestRoiFeatures:
    def expected(self, features: torch.Tensor, proposals: torch.Tensor) -> torch.Tensor:
        """By torchvision, one video at a time."""
        start, end = proposals.unbind(dim=1)
        margin = 0.25 * (end - start)
        padded = torch.nn.functional.pad(features.T[None, :, :, None], (0, 0, 1, 1))
        edges = (torch.zeros_like(start), start - margin + 0.5, torch.ones_like(start), end + margin + 0.5)
        return roi_align(padded, [torch.stack(edges, dim=1)], output_size=(12, 1)).squeeze(3).transpose(1, 2)

    def test_as_torchvision_has_it(self) -> None:
        torch.manual_seed(0)
        lengths = [40, 1, 200]
        features = torch.rand(sum(lengths), DIM)
        proposals, video, expected = [], [], []
        for index, own in enumerate(features.split(lengths)):
            start = torch.rand(100) * len(own)
            bounds = torch.stack([start, start + torch.rand(100) ** 3 * len(own)], dim=1) - 1  # some begin before it
            bounds[:5] = bounds[:5].flip(1)  # regression can reverse them
            proposals.append(bounds)
            video.append(torch.full((100,), index))
            expected.append(self.expected(own, bounds))
        lie = packing(lengths)
        found = roi_features(features, lie.first, lie.count, torch.cat(proposals), torch.cat(video))
        torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)

    def test_no_proposals(self) -> None:
        parts = pool_parts(torch.rand(5, DIM), ZERO, ZERO + 5, torch.empty(0, 2), torch.empty(0, dtype=torch.long))
        assert [part.shape for part in parts] == [(0, DIM)] * 3

    def test_many_proposals_in_pieces(self) -> None:
        features, proposals = torch.rand(9, DIM), torch.tensor([[1.0, 4.0]]).repeat(3000, 1)
        parts = pool_parts(features, ZERO, ZERO + 9, proposals, torch.zeros(3000, dtype=torch.long))
        for part in parts:
            assert torch.equal(part, part[:1].expand_as(part))

    def test_bounds_that_a_failed_regression_throws_far_outside(self) -> None:
        bounds = torch.tensor([[-1e30, 1e30], [torch.nan, 3.0], [1e18, -1e18], [-torch.inf, torch.inf], [2.0, 5.0]])
        features, many = torch.rand(9, DIM), bounds.repeat(300, 1)
        parts = pool_parts(features, ZERO, ZERO + 9, many, torch.zeros(len(many), dtype=torch.long))
        for part in parts:
            assert part.isfinite().all()
        assert torch.cat(parts, dim=1)[4].any()
