"""Training on made features: it learns, it resumes, and zero, one and two of everything work."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.detector import detect_actions
from hrpro_pipeline.models.checkpoint import load_model
from hrpro_pipeline.train.snippet_stage import batch_order
from hrpro_pipeline.train.trainer import train
from hrpro_pipeline.train.watch import Watch

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
