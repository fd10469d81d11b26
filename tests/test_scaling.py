"""Training in other places and pieces: several processes, small memory, features on disk, checkpoints chosen."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from made_features import PUBLISHED, made_set
from processes import hrpro_here

from hrpro_pipeline import Training, evaluate_detections, train_detector, train_seeds
from hrpro_pipeline.cli import main
from hrpro_pipeline.commands.detect import detect_folder
from hrpro_pipeline.commands.seeds import SeedScores
from hrpro_pipeline.data.dataset import draw_validation, hold_out, load_training_set
from hrpro_pipeline.data.features import StoredFeatures
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.errors import HrproError, UsageError
from hrpro_pipeline.models.checkpoint import load_model

DIM = 32
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    *("-m", "hrpro_pipeline"),
]
CLASSES = ("jump", "run", "sit")
QUICK = ("snippet.steps=6", "snippet.evaluate_every=2", "snippet.batch_size=3", "instance.epochs=2", *PUBLISHED)
# The learning rates are high, so that a wrong gradient shows in the losses of a few steps.
STILL = (
    *("snippet.learning_rate=1e-3", "instance.learning_rate=1e-3"),
    *("snippet.dropout=0", "snippet.attention_dropout=0", "snippet.classifier_dropout=0", "instance.dropout=0"),
    "compute.precision=float32",
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with features of 8 training and 3 test videos, their annotations and points."""
    return made_set(tmp_path_factory.mktemp("stored"), num_train=8, num_test=3, width=DIM)


def run(stored: Path, out: Path, *more: str, **options: object) -> dict:
    """Train with the options and read the model file; `losses` are those of all steps and epochs."""
    train_detector(
        stored / "features",
        stored / "points.csv",
        out,
        overrides=(*QUICK, *STILL, *more),
        device="cpu",
        **options,  # type: ignore[arg-type]
    )
    return {**torch.load(out / "model.pt", weights_only=True), "losses": losses(out)}


def losses(out: Path) -> np.ndarray:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return np.array([line["total"] for line in lines if line["kind"] == "loss"])


@pytest.fixture(scope="module")
def plain(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run(stored, tmp_path_factory.mktemp("plain") / "run")


def test_a_step_in_parts_is_the_same_step(stored: Path, plain: dict, tmp_path: Path) -> None:
    parts = run(stored, tmp_path / "run", "snippet.accumulate=2", "instance.accumulate=3")
    np.testing.assert_allclose(parts["losses"][:6], plain["losses"][:6], rtol=2e-3)


@pytest.mark.parametrize("place", ["host", "disk"])
def test_features_in_other_places(stored: Path, plain: dict, tmp_path: Path, place: str) -> None:
    other = run(stored, tmp_path / "run", f"compute.features={place}")
    for stage in ("snippet", "instance"):
        assert all(torch.equal(value, other[stage][name]) for name, value in plain[stage].items())


def test_features_larger_than_memory_stay_on_disk(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = read_points(stored / "points.csv")
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 8}
    monkeypatch.setattr("hrpro_pipeline.data.dataset.os.sysconf", pages.__getitem__)
    data = load_training_set(stored / "features", points, {})
    assert all(isinstance(video.features, StoredFeatures) for video in data.videos)
    kept = load_training_set(stored / "features", points, {}, on_disk=False)
    for there, here in zip(data.videos, kept.videos, strict=True):
        assert len(there.features) == len(here.features)
        np.testing.assert_array_equal(there.features, here.features)


def test_two_processes_train_as_one(stored: Path, plain: dict, tmp_path: Path) -> None:
    """`torchrun` with gloo: same steps, split batches, one that does not divide among them."""
    out = tmp_path / "run"
    overrides = [word for override in (*QUICK, *STILL) for word in ("--set", override)]
    arguments = ["train", stored / "features", "--points", stored / "points.csv", "--out", out, "--device", "cpu"]
    done = subprocess.run(
        [*TORCHRUN, *map(str, arguments), *overrides],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # Stage 2 starts from candidates, which a rounding error can add or take away.
    np.testing.assert_allclose(losses(out)[:6], plain["losses"][:6], rtol=2e-3)
    assert done.stdout.count("both stages, 3 classes, the last checkpoint") == 1
    again = subprocess.run([*TORCHRUN, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert "error: " in again.stderr
    assert "already holds a run" in again.stderr
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == "snippet"] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if line["stage"] == "instance"] == [1, 2]


def test_two_processes_train_stage_2_as_one(stored: Path, tmp_path: Path) -> None:
    """From the same untrained stage 1, so that the candidates are the same."""
    more = ("snippet.steps=0", "instance.epochs=4", "instance.batch_size=5")
    alone = run(stored, tmp_path / "alone", *more)
    overrides = [word for override in (*QUICK, *STILL, *more) for word in ("--set", override)]
    arguments = ["train", stored / "features", "--points", stored / "points.csv", "--out", tmp_path / "run"]
    subprocess.run(
        [*TORCHRUN, *map(str, arguments), "--device", "cpu", *overrides],
        capture_output=True,
        timeout=300,
        check=True,
    )
    assert len(alone["losses"]) == 4
    assert alone["losses"][3] != alone["losses"][0]
    np.testing.assert_allclose(losses(tmp_path / "run"), alone["losses"], rtol=1e-3)
    in_parts = run(stored, tmp_path / "parts", *more, "instance.accumulate=3")
    np.testing.assert_allclose(in_parts["losses"], alone["losses"], rtol=1e-3)


def test_bf16_is_close_to_float32(stored: Path, plain: dict, tmp_path: Path) -> None:
    other = run(stored, tmp_path / "run", "compute.precision=bf16")
    assert other["notes"]["precision"] == "bf16"
    assert not np.array_equal(other["losses"], plain["losses"])
    np.testing.assert_allclose(other["losses"][:6], plain["losses"][:6], rtol=0.02)


def test_seeds_and_torchrun_do_not_go_together(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment that `torchrun` gives its processes."""
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    arguments = ["train", stored / "features", "--points", stored / "points.csv", "--out", tmp_path / "run"]
    done = hrpro_here(*arguments, "--validate-on", "0.3", "--seeds", "0,1", "--device", "cpu")
    assert done.returncode != 0
    assert "--seeds does not go with torchrun" in done.stderr
    assert not (tmp_path / "run").exists()


class TestSelection:
    def test_validation_points(self, stored: Path, tmp_path: Path) -> None:
        content = run(stored, tmp_path / "run", validate_on=0.25)
        notes = content["notes"]
        assert notes["checkpoint"] == "best on the points of 2 validation videos"
        assert notes["videos"] == 6
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        found = [line for line in lines if line["kind"] == "evaluation" and line["stage"] == "instance"]
        best = max(found, key=lambda line: line["point_mAP"])
        assert notes["evaluation"]["point_mAP"] == best["point_mAP"]
        assert notes["evaluation"]["step"] == min(
            line["step"] for line in found if line["point_mAP"] == best["point_mAP"]
        )

    def test_best_on_test_is_labeled_everywhere(self, stored: Path, tmp_path: Path) -> None:
        arguments = ["--annotations", stored / "gt.json", "--evaluate-on", "Test", "--best-on-test", "--device", "cpu"]
        words = [word for override in QUICK for word in ("--set", override)]
        command = ["train", stored / "features", "--points", stored / "points.csv", "--out", tmp_path / "run"]
        result = CliRunner().invoke(main, [*map(str, [*command, *arguments]), *words])
        label = "best on Test, the subset that it was evaluated on"
        assert result.exit_code == 0, result.output
        assert label in result.output.splitlines()[-1]
        out = tmp_path / "detections"
        CliRunner().invoke(main, ["detect", *map(str, [tmp_path / "run", stored / "features", "--out", out])])
        assert label in json.loads((out / "v09.json").read_text())["model"]
        for command in (["info", tmp_path / "run"], ["evaluate", out, "--annotations", stored / "gt.json"]):
            assert label in CliRunner().invoke(main, list(map(str, command))).output, command
        together = tmp_path / "all.json"
        shape = ["--format", "activitynet", "--out", together]
        CliRunner().invoke(main, ["detect", *map(str, [tmp_path / "run", stored / "features", *shape])])
        assert label in CliRunner().invoke(main, ["evaluate", str(together), *map(str, arguments[:2])]).output
        page = tmp_path / "report.html"
        CliRunner().invoke(main, ["report", str(out), "--out", str(page)])
        assert label in page.read_text()

    def test_a_chosen_checkpoint_survives_a_resume(self, stored: Path, tmp_path: Path) -> None:
        whole = run(stored, tmp_path / "whole", validate_on=0.25)
        run(stored, tmp_path / "cut", "instance.epochs=1", validate_on=0.25)
        with pytest.raises(HrproError, match="other settings"):
            run(stored, tmp_path / "cut", validate_on=0.25, resume=True)
        with pytest.raises(HrproError, match="other videos"):
            run(stored, tmp_path / "whole", resume=True)
        again = run(stored, tmp_path / "whole", validate_on=0.25, resume=True)
        assert again["notes"] == whole["notes"]
        assert torch.equal(again["snippet"]["embed.weight"], whole["snippet"]["embed.weight"])

    def test_the_noted_score_is_that_of_the_kept_model(self, stored: Path, tmp_path: Path) -> None:
        """Stage 2 is evaluated on the candidates of the stage 1 that was kept, not of the last one."""
        for seed in range(4):
            out = tmp_path / f"run{seed}"
            more = ("snippet.learning_rate=3e-3", "snippet.evaluate_every=1")
            given = {"annotations": stored / "gt.json", "evaluate_on": "Test", "best_on_test": True}
            noted = run(stored, out, *more, **given, seed=seed)["notes"]["evaluation"]
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            scores = [line["average"] for line in lines if line["kind"] == "evaluation" and line["stage"] == "snippet"]
            if int(np.argmax(scores)) < len(scores) - 1:
                break
        else:
            pytest.fail("no seed keeps another checkpoint than the last")
        detect_folder(out, [stored / "features"], tmp_path / "found", device="cpu")
        result = evaluate_detections(tmp_path / "found", stored / "gt.json", subset="Test")
        assert result.average == pytest.approx(noted["average"], abs=1e-6)

    def test_without_a_step(self, stored: Path, tmp_path: Path) -> None:
        none = ("snippet.steps=0", "instance.epochs=0")
        for name, options in (("a", {"validate_on": 0.3}), ("b", {"validate_on": 0.3, "resume": True})):
            assert "point_mAP" in run(stored, tmp_path / name, *none, **options)["notes"]["evaluation"]

    def test_a_finished_stage_1_keeps_its_evaluation(self, stored: Path, tmp_path: Path) -> None:
        options = {"annotations": stored / "gt.json", "evaluate_on": "Test"}
        first = run(stored, tmp_path / "run", "instance.epochs=0", **options)["notes"]
        again = run(stored, tmp_path / "run", "instance.epochs=0", **options, resume=True)["notes"]
        assert again == first

    def test_usage(self, stored: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="needs `evaluate_on`"):
            run(stored, tmp_path / "run", best_on_test=True)
        with pytest.raises(UsageError, match="it needs `evaluate_on` or `validate_on`"):
            train_seeds(Training(stored / "features", stored / "points.csv", tmp_path / "run"), (0, 1))

    def test_every_class_keeps_a_video(self, stored: Path) -> None:
        data = load_training_set(stored / "features", read_points(stored / "points.csv"), {})
        for share in (0.1, 0.5, 0.9):
            kept, held = hold_out(data, draw_validation(data, share, seed=0))
            assert len(kept.videos) + len(held) == 8
            assert {int(label) for video in kept.videos for label in video.labels} == {0, 1, 2}
        assert len(hold_out(data, draw_validation(data, 0.1, seed=0))[1]) == 1
        with pytest.raises(HrproError, match="all training videos of class"):
            hold_out(data, [video.video_id for video in data.videos[:7]])
        with pytest.raises(HrproError, match="v09, which is not a training video"):
            hold_out(data, ["v09"])


def test_seeds(stored: Path, tmp_path: Path) -> None:
    arguments = ["--annotations", stored / "gt.json", "--evaluate-on", "Test", "--seeds", "0,3", "--device", "cpu"]
    words = [word for override in QUICK for word in ("--set", override)]
    command = ["train", stored / "features", "--points", stored / "points.csv", "--out", tmp_path / "runs"]
    result = CliRunner().invoke(main, [*map(str, [*command, *arguments]), *words])
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "runs" / "seeds.json").read_text())
    values = [load_model(tmp_path / "runs" / f"seed_{seed}").notes.evaluation["average"] for seed in (0, 3)]
    assert summary["scores"]["average"] == values
    assert summary["summary"]["average"]["mean"] == pytest.approx(np.mean(values))
    assert summary["summary"]["average"]["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert f"average: {100 * np.mean(values):.1f} +- " in result.output
    both = CliRunner().invoke(main, [*map(str, [*command, *arguments]), "--seed", "1"])
    assert (both.exit_code, "not both" in both.output) == (2, True)
    for text in ("0,0", "a", "", "-1"):
        bad = CliRunner().invoke(main, [*map(str, [*command, *arguments]), "--seeds", text])
        assert bad.exit_code == 2


def test_one_seed_has_no_deviation() -> None:
    assert SeedScores((0,), {"average": [0.5]}, "last").std("average") == 0


def test_ablation(stored: Path, tmp_path: Path) -> None:
    """All rows of the table; again, nothing is repeated; other arguments are refused."""
    words = [word for override in (*QUICK, "detect.class_threshold=0.2") for word in ("--set", override)]
    command = ["ablate", stored / "features", "--points", stored / "points.csv", "--out", tmp_path / "out"]
    command += ["--annotations", stored / "gt.json", "--seeds", "0", "--device", "cpu"]
    arguments = [*map(str, command), *words]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert len(rows) == 12
    assert all(0 <= row["summary"]["average"]["mean"] <= 1 for row in rows)
    table = (tmp_path / "out" / "ablation.md").read_text()
    assert table == result.stdout
    models = {number: load_model(tmp_path / "out" / "seed_0" / f"{number:02d}") for number in (2, 3, 4, 10, 12)}
    assert models[3].instance is None
    assert len(models[2].snippet.layers) == len(models[12].snippet.layers) == 0
    for number in (4, 10):  # stage 1 is shared
        assert torch.equal(models[number].snippet.embed.weight, models[3].snippet.embed.weight)
    assert models[4].settings.instance.score_weight == 0
    before = (tmp_path / "out" / "seed_0" / "10" / "model.pt").stat().st_mtime_ns
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert (tmp_path / "out" / "seed_0" / "10" / "model.pt").stat().st_mtime_ns == before
    other = CliRunner().invoke(main, [*arguments, "--set", "snippet.steps=7"])
    assert other.exit_code == 1
    assert "was made with other arguments" in other.output
