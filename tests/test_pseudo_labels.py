"""Pseudo labels, reliable and negative proposals: zero, one and two of everything."""

import numpy as np
import torch
from made_features import packing

from hrpro_pipeline.train.pseudo_labels import pseudo_labels as packed_labels
from hrpro_pipeline.train.reliable import negative_proposals, reliable_proposals


def pseudo_labels(background: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one video."""
    return packed_labels(background, points, packing([len(points)]))


class TestPseudoLabels:
    def test_no_points(self) -> None:
        action, background = pseudo_labels(torch.rand(5), torch.zeros(5, 2))
        assert not action.any()
        assert not background.any()

    def test_one_snippet(self) -> None:
        action, background = pseudo_labels(torch.tensor([0.99]), torch.tensor([[0.0, 1.0]]))
        assert action.tolist() == [[0, 1]]
        assert not background.any()

    def test_a_gap_with_two_sure_snippets_is_filled(self) -> None:
        score = torch.tensor([0.0, 0.5, 0.96, 0.2, 0.97, 0.5, 0.0])
        points = torch.zeros(7, 1)
        points[[0, 6]] = 1
        _, background = pseudo_labels(score, points)
        assert background.tolist() == [False, False, True, True, True, False, False]

    def test_packed_videos_do_not_see_each_other(self) -> None:
        """Videos without points, of one snippet and with points at their ends lie between others."""
        rng = np.random.default_rng(0)
        for _ in range(50):
            lengths = rng.integers(1, 9, size=6).tolist()
            score = torch.from_numpy(rng.choice([0.0, 0.05, 0.5, 0.96, 0.99], sum(lengths)))
            points = torch.from_numpy((rng.random((sum(lengths), 2)) < 0.15).astype(np.float64))
            together = packed_labels(score, points, packing(lengths))
            alone = [pseudo_labels(*video) for video in zip(score.split(lengths), points.split(lengths), strict=True)]
            for part, parts in zip(together, zip(*alone, strict=True), strict=True):
                assert torch.equal(part, torch.cat(parts)), (lengths, score, points)


class TestReliableProposals:
    def test_no_candidates(self) -> None:
        assert reliable_proposals(np.empty((0, 4)), np.array([1.0]), np.array([0])).tolist() == [-1]

    def test_same_time_falls_to_the_second_rule(self) -> None:
        candidates = np.array([[0, 4, 0, 0.5], [0, 4, 1, 0.7]])
        assert reliable_proposals(candidates, np.array([2.0, 2.0]), np.array([0, 1])).tolist() == [0, 1]

    def test_scores_of_zero_and_less_do_not_count(self) -> None:
        candidates = np.array([[0, 4, 0, 0.0], [0, 4, 0, -1]])
        assert reliable_proposals(candidates, np.array([2.0]), np.array([0])).tolist() == [-1]


class TestNegativeProposals:
    def draw(self, seeds: list[int], count: int) -> np.ndarray:
        return negative_proposals(np.array(seeds, bool), count, np.random.default_rng(0))

    def test_none(self) -> None:
        assert self.draw([0, 0], 5).shape == (0, 2)
        assert self.draw([1, 1, 1], 0).shape == (0, 2)
        assert self.draw([], 3).shape == (0, 2)

    def test_two_snippet_runs_end(self) -> None:
        np.testing.assert_array_equal(self.draw([0, 1, 1, 0], 3), [[1, 3]] * 3)

    def test_single_snippet(self) -> None:
        np.testing.assert_array_equal(self.draw([0, 1, 0], 2), [[1, 2]] * 2)

    def test_inside_their_runs(self) -> None:
        drawn = self.draw([0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0], 200)
        assert len(drawn) == 200
        start, end = drawn.T
        assert (start < end).all()
        assert (((start >= 1) & (end <= 5)) | ((start >= 8) & (end <= 10))).all()
        assert len(np.unique(drawn, axis=0)) > 5
