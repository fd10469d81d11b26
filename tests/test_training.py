"""Training on made features: it learns, it resumes, and zero, one and two of everything work."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.detector import detect_actions
from hrpro_pipeline.models.candidates import windows
from hrpro_pipeline.models.checkpoint import load_model
from hrpro_pipeline.models.instance import pool_parts, roi_features
from hrpro_pipeline.models.snippet import AttentionLayer, Packing, SnippetModel, dropout
from hrpro_pipeline.train import losses
from hrpro_pipeline.train.pseudo_labels import pseudo_labels as packed_labels
from hrpro_pipeline.train.reliable import negative_proposals, reliable_proposals
from hrpro_pipeline.train.snippet_stage import batch_order
from hrpro_pipeline.train.trainer import Watch, train

DIM = 32
QUICK = ("snippet.steps=4", "snippet.evaluate_every=2", "snippet.batch_size=2", "instance.epochs=2")


def settings(*overrides: str) -> Settings:
    return load_settings("thumos14", [*QUICK, *overrides])


def video(name: str, length: int, points: list[tuple[float, int]], seed: int = 0) -> TrainingVideo:
    """Noise in which each point's neighborhood of +-2 snippets carries the vector of its class."""
    rng = np.random.default_rng([seed, length])
    features = 0.3 * rng.random((length, DIM), np.float32)
    for position, label in points:
        features[max(0, int(position) - 2) : int(position) + 3, label * 4 : label * 4 + 4] += 2
    positions = np.array([position for position, _ in points], np.float64)
    return TrainingVideo(
        video_id=name,
        features=features,
        positions=positions,
        labels=np.array([label for _, label in points], np.int64),
        snippets=positions.astype(np.int64),
    )


def dataset(*videos: TrainingVideo, classes: tuple[str, ...] = ("run", "sit", "jump")) -> TrainingSet:
    return TrainingSet(videos, classes, SnippetClock(), {"rgb": DIM // 2, "flow": DIM // 2}, {}, {})


def ordinary(count: int = 4) -> TrainingSet:
    return dataset(*(video(f"v{i}", 30 + i, [(6.5, i % 3), (18.5, (i + 1) % 3)], seed=i) for i in range(count)))


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def finite(run: Path) -> None:
    for row in rows(run):
        assert all(np.isfinite(value) for value in row.values() if isinstance(value, float)), row


def test_it_learns_and_detects_what_it_has_not_seen(tmp_path: Path) -> None:
    data = ordinary(9)
    overrides = ("snippet.steps=60", "snippet.learning_rate=1e-3", "instance.epochs=4", "snippet.batch_size=8")
    model = train(data, settings(*overrides), tmp_path / "run")
    unseen = video("new", 40, [(8.5, 1), (28.5, 2)], seed=99)
    found = detect_actions(model, torch.from_numpy(unseen.features))
    for position, label in ((8.5, 1), (28.5, 2)):
        best = found[found[:, 2] == label][0]
        truth = model.clock.to_seconds(np.array([position - 2.5, position + 2.5]))
        shared = min(best[1], truth[1]) - max(best[0], truth[0])
        assert shared / (max(best[1], truth[1]) - min(best[0], truth[0])) > 0.5
    first, last = (row["total"] for row in (rows(tmp_path / "run")[0], rows(tmp_path / "run")[59]))
    assert last < 0.7 * first


def test_a_run_holds_what_the_contract_says(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(ordinary(), settings(), run, watch=Watch(lambda model: {"average": 0.25, "subset": "Test"}))
    assert {"model.pt", "metrics.jsonl", "config.yaml", "checkpoints"} <= {path.name for path in run.iterdir()}
    assert list(run.glob("events.out.tfevents.*"))
    content = torch.load(run / "model.pt", weights_only=True)
    assert content["classes"] == ["run", "sit", "jump"]
    assert content["snippet"] and content["instance"]
    steps = [(row["stage"], row["step"], row["kind"]) for row in rows(run)]
    assert [step for stage, step, kind in steps if stage == "snippet" and kind == "loss"] == [1, 2, 3, 4]
    assert [step for stage, step, kind in steps if stage == "snippet" and kind == "evaluation"] == [2, 4]
    assert [step for stage, step, kind in steps if stage == "instance" and kind == "evaluation"] == [1, 2]
    reloaded = load_model(run)
    assert reloaded.settings == settings()


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = (torch.load(run / "model.pt", weights_only=True) for run in (first, second))
    return all(
        torch.equal(ours[stage][name], theirs[stage][name]) for stage in ("snippet", "instance") for name in ours[stage]
    )


def test_seeds(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(ordinary(), settings(), tmp_path / name, seed=seed)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("stop_at", [("snippet", 2), ("snippet", 4), ("instance", 1)])
def test_resume_gives_what_an_undisturbed_run_gives(tmp_path: Path, stop_at: tuple[str, int]) -> None:
    class StopError(Exception):
        pass

    def stopping(model: object) -> dict:
        """Breaks off in the evaluation after the one whose checkpoint is to be resumed from."""
        seen.append(1)
        if len(seen) > evaluations[stop_at]:
            raise StopError
        return {"average": 0.0}

    evaluations = {("snippet", 2): 1, ("snippet", 4): 2, ("instance", 1): 3}
    seen: list[int] = []
    train(ordinary(), settings(), tmp_path / "whole", watch=Watch(lambda model: {"average": 0.0}))
    with pytest.raises(StopError):
        train(ordinary(), settings(), tmp_path / "cut", watch=Watch(stopping))
    train(ordinary(), settings(), tmp_path / "cut", watch=Watch(lambda model: {"average": 0.0}), resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    times = {"seconds": 0, "evaluation_seconds": 0}
    without_time = [[{**row, **times} for row in rows(tmp_path / name)] for name in ("whole", "cut")]
    assert without_time[0] == without_time[1]


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    train(ordinary(), settings(), tmp_path / "run")
    with pytest.raises(HrproError, match="already holds a run"):
        train(ordinary(), settings(), tmp_path / "run")
    with pytest.raises(HrproError, match="other settings"):
        train(ordinary(), settings("snippet.steps=5"), tmp_path / "run", resume=True)
    with pytest.raises(HrproError, match="other seed"):
        train(ordinary(), settings(), tmp_path / "run", resume=True, seed=3)


def test_resume_without_a_run_starts_one(tmp_path: Path) -> None:
    train(ordinary(), settings(), tmp_path / "a")
    train(ordinary(), settings(), tmp_path / "b", resume=True)
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    broken = ordinary()
    broken.videos[1].features[3] = np.inf
    with pytest.raises(HrproError, match="v1: the embedding is not finite"):
        train(broken, settings("snippet.batch_size=4"), tmp_path / "run")
    run = tmp_path / "diverging"
    with pytest.raises(HrproError, match=r"v\d: the loss is not finite; lower snippet\.learning_rate"):
        train(ordinary(), settings("snippet.learning_rate=1e30"), run)
    assert not (run / "model.pt").exists()


EDGE_CASES = {
    "one video": dataset(video("a", 20, [(5.5, 0)])),
    "two videos, fewer than a batch": dataset(video("a", 20, [(5.5, 0)]), video("b", 12, [(3.5, 1), (9.5, 2)])),
    "one class": dataset(video("a", 20, [(5.5, 0)]), video("b", 25, [(3.5, 0)]), classes=("run",)),
    "a class without points": dataset(video("a", 20, [(5.5, 0)]), video("b", 25, [(3.5, 2)])),
    "one-snippet videos": dataset(video("a", 1, [(0.5, 0)]), video("b", 1, [(0.5, 1)])),
    "one snippet among longer": dataset(video("a", 1, [(0.5, 0)]), video("b", 25, [(3.5, 1)])),
    "two-snippet videos": dataset(video("a", 2, [(0.5, 0)]), video("b", 2, [(1.5, 1)])),
    "three-snippet videos": dataset(video("a", 3, [(1.5, 0)]), video("b", 3, [(0.5, 1), (2.5, 2)])),
    "two classes at the same time": dataset(video("a", 20, [(5.5, 0), (5.5, 1)]), video("b", 20, [(8.5, 2)])),
    "the same point twice": dataset(video("a", 20, [(5.5, 0), (5.5, 0)]), video("b", 20, [(8.5, 2)])),
    "points at both ends": dataset(video("a", 20, [(0.0, 0), (19.9, 1)]), video("b", 20, [(0.0, 2)])),
    "a point in every snippet": dataset(video("a", 4, [(0.5, 0), (1.5, 1), (2.5, 0), (3.5, 2)])),
    "neighboring points": dataset(video("a", 20, [(5.5, 0), (6.5, 1)]), video("b", 20, [(8.5, 2), (9.5, 2)])),
}


@pytest.mark.parametrize("name", EDGE_CASES)
def test_zero_one_and_two_of_everything(tmp_path: Path, name: str) -> None:
    data = EDGE_CASES[name]
    model = train(data, settings(), tmp_path / "run")
    finite(tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in model.snippet.state_dict().values())
    for each in data.videos:
        found = detect_actions(model, torch.from_numpy(each.features))
        assert found.shape[1] == 4
        assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "override",
    [
        "snippet.steps=0",
        "instance.epochs=0",
        "snippet.attention_layers=0",
        "snippet.scrambled_prototypes=false",
        "snippet.drop_last_snippet=false",
        "instance.negative_ratio=0",
        "instance.max_proposals=3",
        "snippet.video_weight=1",
        "detect.drop_runs_at_zero=false",
    ],
)
def test_settings_at_their_edges(tmp_path: Path, override: str) -> None:
    model = train(ordinary(), settings(override), tmp_path / "run")
    finite(tmp_path / "run")
    assert (model.instance is None) == (override == "instance.epochs=0")
    assert load_model(tmp_path / "run").settings == settings(override)


def test_heads_that_do_not_divide_the_width(tmp_path: Path) -> None:
    with pytest.raises(HrproError, match="not divisible by 5 attention heads"):
        train(ordinary(), settings("snippet.heads=5"), tmp_path / "run")


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


ONE = torch.zeros(4, dtype=torch.long)
ZERO = torch.tensor([0])


def packing(lengths: list[int]) -> Packing:
    return Packing.of(lengths, torch.device("cpu"))


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


def test_packed_videos_get_what_they_get_alone() -> None:
    torch.manual_seed(0)
    lengths = [5, 1, 40]
    model = SnippetModel(DIM, 3).eval()
    model.prototypes.normal_()
    features = torch.rand(sum(lengths), DIM)
    with torch.inference_mode():
        together = model(features, packing(lengths))
        alone = [model(video, packing([len(video)])) for video in features.split(lengths)]
    for part, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(part, torch.cat(parts), rtol=1e-4, atol=1e-5)


def test_merged_projections_are_the_same_map() -> None:
    """More tokens than channels go through one merged product, fewer through two in a row."""
    torch.manual_seed(0)
    layer = AttentionLayer(DIM, 4, 8, 0.0, 0.0)
    tokens = torch.rand(2 * DIM, DIM)
    apart = torch.cat([layer._project(tokens[:DIM]), layer._project(tokens[DIM:])])
    torch.testing.assert_close(layer._project(tokens), apart, rtol=1e-4, atol=1e-5)


def test_dropout_of_random_bits() -> None:
    torch.manual_seed(0)
    values = torch.ones(1001, 999, requires_grad=True)
    dropped = dropout(values, 0.3)
    kept = dropped != 0
    assert kept.double().mean().item() == pytest.approx(0.7, abs=0.002)
    assert dropped[kept].unique().tolist() == [pytest.approx(1 / 0.7)]
    # No pattern along rows or columns.
    assert kept.double().mean(dim=0).std().item() == pytest.approx((0.21 / 1001) ** 0.5, rel=0.1)
    assert kept.double().mean(dim=1).std().item() == pytest.approx((0.21 / 999) ** 0.5, rel=0.1)
    dropped.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad != 0, kept)
    torch.manual_seed(0)
    assert torch.equal(dropout(values, 0.3), dropped)
    assert dropout(values, 0.999999).count_nonzero() < 100


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


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 12, 13, 100, 101])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_windows_give_every_snippet_once(length: int, size: int) -> None:
    given = []
    for window, kept in windows(length, size):
        assert 0 <= window.start < window.stop <= min(length, window.start + size)
        inside = range(window.start, window.stop)[kept]
        given += list(inside)
        # What is kept is not at the edge of its window, unless that is the video's.
        assert inside[0] == 0 or inside[0] - window.start >= size // 4
        assert inside[-1] == length - 1 or window.stop - 1 - inside[-1] >= size // 4
    assert given == list(range(length))


def test_a_day_long_video() -> None:
    """135,000 snippets in windows: what is used beside the features does not grow with the square of the length."""
    script = """
import resource, sys, torch
from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.infer.detector import detect_actions
from hrpro_pipeline.models.candidates import find_candidates
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.models.checkpoint import TrainedModel, build_instance, build_snippet

torch.manual_seed(0)
settings = load_settings("thumos14", ["detect.window=1024"])
model = TrainedModel(build_snippet(settings, 32, 3), build_instance(settings, 32), ("a", "b", "c"), settings,
                     SnippetClock(), {"rgb": 16, "flow": 16}).to(torch.device("cpu"))
features = torch.rand(int(sys.argv[1]), 32)
for start in range(0, len(features), 1000):
    features[start : start + 30] += 3
model.snippet.classify.weight.data[0] *= 20
found = detect_actions(model, features)
assert len(found) and found[:, 0].min() < 1000 and found[:, 1].max() > 0.63 * len(features)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = [
        int(subprocess.run([sys.executable, "-c", script, str(n)], check=True, capture_output=True, text=True).stdout)
        for n in (2000, 135_000)
    ]
    assert peaks[1] - peaks[0] < 600_000  # KiB; attention over the whole would take 580 GB


def test_batches_cover_an_epoch_and_depend_on_the_step_alone() -> None:
    epoch = np.concatenate([batch_order(step, 10, 3, seed=0) for step in range(3)])
    assert len(set(epoch.tolist())) == 9
    np.testing.assert_array_equal(batch_order(2, 10, 3, seed=0), epoch[6:])
    assert sorted(batch_order(7, 2, 16, seed=0).tolist()) == [0, 1]


@pytest.mark.gpu
def test_cuda_trains_as_the_cpu_does(tmp_path: Path) -> None:
    still = (
        "compute.precision=float32",
        "snippet.dropout=0",
        "snippet.attention_dropout=0",
        "snippet.classifier_dropout=0",
        "instance.dropout=0",
    )
    for name in ("cpu", "cuda"):
        train(ordinary(), settings(*still), tmp_path / name, device=torch.device(name))
    for ours, theirs in zip(rows(tmp_path / "cpu"), rows(tmp_path / "cuda"), strict=True):
        if ours["stage"] == "snippet":
            assert theirs["total"] == pytest.approx(ours["total"], rel=1e-2)
    finite(tmp_path / "cuda")
