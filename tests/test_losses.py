"""Losses of both stages: without background, prototypes, positives; the memory of prototypes; overlaps."""

import pytest
import torch
from made_features import packing

from hrpro_pipeline.train import losses

ONE = torch.zeros(4, dtype=torch.long)


class TestLosses:
    def contrast(self, embedding: torch.Tensor, prototypes: torch.Tensor, *seeds: torch.Tensor) -> torch.Tensor:
        return losses.contrastive_loss(embedding, prototypes[None], *seeds, packing([len(embedding)]), 0.1, False)[0]

    def test_no_background_no_contrast(self) -> None:
        embedding, prototypes = torch.rand(4, 8, requires_grad=True), torch.rand(3, 8)
        loss = self.contrast(embedding, prototypes, torch.ones(4, 3), torch.zeros(4, dtype=torch.bool))
        assert loss == 0
        loss.backward()
        assert embedding.grad is not None
        assert embedding.grad.isfinite().all()

    def test_unknown_prototypes_take_no_part(self) -> None:
        embedding, prototypes = torch.rand(4, 8), torch.rand(3, 8)
        action, background = torch.zeros(4, 3), torch.tensor([False, False, True, True])
        action[0, 0] = 1
        whole = self.contrast(embedding, prototypes[:2], action[:, :2], background)
        prototypes[2] = 0
        assert self.contrast(embedding, prototypes, action, background) == pytest.approx(whole.item())

    def test_memory_moves_video_by_video(self) -> None:
        """All moves at once are the same as one after the other."""
        torch.manual_seed(0)
        start, means, present = torch.rand(4, 8), torch.rand(5, 4, 8), torch.rand(5, 4) < 0.6
        means[3, 0] = torch.nan  # reaches nobody before the video itself
        present[3, 0] = False
        for momentum in (0.9, 0.0, 1.0):
            memory, expected = start.clone(), [start]
            for mean, here in zip(means, present, strict=True):
                memory = torch.where(here[:, None], momentum * memory + (1 - momentum) * mean, memory)
                expected.append(memory)
            moved = losses.moving_prototypes(start, means, present, momentum)
            torch.testing.assert_close(moved, torch.stack(expected))

    def test_stage_2_losses_without_reliable_proposals(self) -> None:
        proposals, none, one = torch.tensor([[0.0, 2.0], [1.0, 5.0]]), torch.empty(1, 0, 2), ONE[:2]
        target = losses.best_tiou(proposals, none, one)
        assert target.tolist() == [0, 0]
        assert losses.regression_loss(proposals, target, none, 0.3, one).tolist() == [0]
        completeness = torch.tensor([0.5, 0.2])
        assert losses.score_loss(completeness, target, torch.rand(2), 0.3, one, 1).tolist() == [0]

    def test_proposals_meet_those_of_their_own_video(self) -> None:
        reliable = torch.tensor([[[0.0, 2.0], [4.0, 6.0]], [[1.0, 3.0], [torch.nan, torch.nan]]])
        proposals = torch.tensor([[4.0, 6.0], [4.0, 6.0], [1.0, 3.0]])
        found = losses.best_tiou(proposals, reliable, torch.tensor([0, 1, 1]))
        torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 1.0]))

    def test_as_many_others_as_positives(self) -> None:
        target = torch.tensor([0.9] * 10 + [0.0] * 90)
        draws, one = torch.linspace(0, 1, 100), torch.zeros(100, dtype=torch.long)
        loss = losses.score_loss(torch.zeros(100), target, draws, 0.3, one, 1)
        # 10 positives and the draws above 1 - 10 / 90: 11 others, of loss 0.
        assert loss.item() == pytest.approx(0.5 * 0.81 * 10 / 21, rel=1e-5)

    def test_reversed_segments_do_not_overlap(self) -> None:
        assert losses.tiou(torch.tensor([5.0, 3.0]), torch.tensor([3.5, 4.5])).item() == 0
