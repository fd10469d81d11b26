"""Out of GPU memory: training goes on with smaller parts of a step, detection on the CPU.

The error is the real one, raised by networks as a GPU's allocator would raise it.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_features import QUICK, made_set

from hrpro_pipeline.api import evaluate_detections, train_detector
from hrpro_pipeline.commands.detect import detect_folder
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.instance import InstanceModel
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.train import parallel, trainer


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_set(tmp_path_factory.mktemp("stored"))


def run(stored: Path, out: Path, *more: str, **options: Any) -> dict[str, Any]:
    """Train, and read the model file."""
    train_detector(stored / "features", stored / "points.csv", out, overrides=(*QUICK, *more), device="cpu", **options)
    return torch.load(out / "model.pt", weights_only=True)


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(
        torch.equal(value, second[stage][name])
        for stage in ("snippet", "instance")
        for name, value in first[stage].items()
    )


def fails(monkeypatch: pytest.MonkeyPatch, network: type, when: Callable[[int, Any], bool]) -> None:
    """Let a network's forward raise in training, where `when` says so of the call's number and arguments."""
    forward, calls = network.forward, [0]  # type: ignore[attr-defined]

    def short_of_memory(self: torch.nn.Module, *arguments: Any) -> Any:
        if self.training:
            calls[0] += 1
            if when(calls[0], arguments):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return forward(self, *arguments)

    monkeypatch.setattr(network, "forward", short_of_memory)


def test_stage_1_goes_on_with_smaller_parts(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Room for one video at a time: from the first step on the run is the one that had 4 parts set, to the bit."""
    expected = run(stored, tmp_path / "set", "snippet.accumulate=4")
    fails(monkeypatch, SnippetModel, lambda call, arguments: len(arguments[1]) > 1)
    with caplog.at_level(logging.WARNING):
        found = run(stored, tmp_path / "run")
    assert same(found, expected)
    assert [record.message for record in caplog.records if "memory" in record.message] == [
        "out of GPU memory: steps are cut into 2 parts from here on (snippet.accumulate)",
        "out of GPU memory: steps are cut into 4 parts from here on (snippet.accumulate)",
        "the GPU has no memory for whole steps: set --set snippet.accumulate=4 next time",
    ]
    assert found["notes"]["snippet.accumulate"] == 4
    assert "snippet.accumulate" not in expected["notes"]


def test_a_step_that_failed_halfway_leaves_no_trace(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first part of a step has moved the prototypes, drawn and left gradients when the second one fails."""
    expected = run(stored, tmp_path / "set", "snippet.accumulate=4", "instance.accumulate=4")
    for network in (SnippetModel, InstanceModel):
        fails(monkeypatch, network, lambda call, arguments: call == 2)
    found = run(stored, tmp_path / "run", "snippet.accumulate=2", "instance.accumulate=2")
    assert same(found, expected)
    assert found["notes"]["instance.accumulate"] == 4


def test_in_the_middle_of_a_run(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later steps fail: what differs is the dropout that is drawn, and without dropout the rounding."""
    still = [f"snippet.{name}=0" for name in ("dropout", "attention_dropout", "classifier_dropout")]
    still += ["instance.dropout=0", "compute.precision=float32"]
    expected = run(stored, tmp_path / "plain", *still)
    for network in (SnippetModel, InstanceModel):
        fails(monkeypatch, network, lambda call, arguments: call == 2)
    found = run(stored, tmp_path / "run", *still)
    for stage in ("snippet", "instance"):
        assert found["notes"][f"{stage}.accumulate"] == 2
        for name, value in expected[stage].items():
            torch.testing.assert_close(found[stage][name], value, rtol=1e-2, atol=2e-3)


def test_a_resumed_run_keeps_its_parts(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in step 4; the checkpoint of step 2 knows that step 1 was cut finer."""
    expected = run(stored, tmp_path / "set", "snippet.accumulate=2")
    with monkeypatch.context() as patch:
        fails(patch, SnippetModel, lambda call, arguments: call == 1)
        patch.setattr(trainer, "_CHECKPOINT_SHARE", 1e9)
        patch.setattr(trainer._Run, "_evaluate", lambda own, stage, step, *more: 1 / (4 - step))
        with pytest.raises(ZeroDivisionError):
            run(stored, tmp_path / "run")
    found = run(stored, tmp_path / "run", resume=True)
    assert same(found, expected)
    assert found["notes"]["snippet.accumulate"] == 2


@pytest.mark.parametrize(
    ("network", "advice"),
    [(SnippetModel, "--set compute.features=host, leave the longest"), (InstanceModel, "lower instance.max_proposals")],
)
def test_one_video_is_too_much(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: type, advice: str
) -> None:
    fails(monkeypatch, network, lambda call, arguments: True)
    with pytest.raises(HrproError, match="out of GPU memory with one video at a time") as caught:
        run(stored, tmp_path / "run")
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_processes_are_told_what_to_set(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, SnippetModel, lambda call, arguments: True)
    monkeypatch.setattr(parallel, "sum_gradients", lambda network: None)
    with monkeypatch.context() as patch, pytest.raises(HrproError, match="run again with --set snippet.accumulate=2"):
        patch.setattr("hrpro_pipeline.train.trainer.parallel.size", lambda: 2)
        patch.setattr("hrpro_pipeline.train.parallel.gather_objects", lambda own: own)
        patch.setattr("hrpro_pipeline.train.parallel.same_everywhere", lambda value: value)
        run(stored, tmp_path / "run")


def test_detection_goes_on_on_the_cpu(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In training's evaluations, for stage 2's proposals and in `hrpro detect`."""
    plain = run(stored, tmp_path / "plain", annotations=stored / "gt.json", evaluate_on="Test")
    detect_folder(tmp_path / "plain", [stored / "features"], tmp_path / "expected", device="cpu")
    forward, failed = SnippetModel.forward, set()

    def once_for_each_video(self: SnippetModel, features: torch.Tensor, packing: Any) -> Any:
        if not self.training and len(packing) == 1 and len(features) not in failed and enabled:
            failed.add(len(features))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, features, packing)

    monkeypatch.setattr(SnippetModel, "forward", once_for_each_video)
    enabled = True
    with caplog.at_level(logging.WARNING):
        done, broken = detect_folder(tmp_path / "plain", [stored / "features"], tmp_path / "found", device="cpu")
    assert (len(done), broken) == (7, {})
    lines = [record.message for record in caplog.records if "memory" in record.message]
    assert lines.count("v03: out of GPU memory: this video is computed on the CPU") == 1
    assert len(lines) == 7
    for file in (tmp_path / "expected").iterdir():
        assert file.read_bytes() == (tmp_path / "found" / file.name).read_bytes()
    score = evaluate_detections(tmp_path / "found", stored / "gt.json", subset="Test").average
    assert np.isclose(score, plain["notes"]["evaluation"]["average"])


def test_elsewhere_it_is_one_line(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("hrpro_pipeline.train.trainer.FeatureBank", full)
    with pytest.raises(HrproError, match=r"run: out of GPU memory; .*--set compute.features=host"):
        run(stored, tmp_path / "run")
