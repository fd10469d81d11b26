"""What long commands show while they work: bars on a terminal, few lines elsewhere, JSON, and TensorBoard."""

import fcntl
import json
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from made_features import QUICK, made_set, settings
from make_videos import moving_square, write_video
from processes import RGB, command, hrpro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hrpro_pipeline import train_detector
from hrpro_pipeline.base import progress
from hrpro_pipeline.models.snippet import prototype_similarity
from hrpro_pipeline.show import training as pictures
from hrpro_pipeline.train import checkpoints, trainer
from hrpro_pipeline.train.prototypes import mean_off_diagonal


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_set(tmp_path_factory.mktemp("stored"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """One video in the layout of the published archives."""
    (tmp_path / "archive" / "features" / "test").mkdir(parents=True)
    np.save(tmp_path / "archive" / "features" / "test" / "a.npy", np.ones((4, 8), np.float32))
    return tmp_path / "archive"


def training(stored: Path, out: Path, *more: str) -> list[str]:
    data = [stored / "features", "--points", stored / "points.csv", "--annotations", stored / "gt.json"]
    return [
        *map(str, ["train", *data, "--evaluate-on", "Test", "--out", out, "--device", "cpu"]),
        *settings(*QUICK, *more),
    ]


def on_terminal(words: list[str], columns: int = 100, **environment: str) -> tuple[int, str, str]:
    """Run with standard error on a terminal -> exit code, standard output (a pipe), what the terminal got."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = os.environ | {"TERM": "xterm"} | environment
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=there, env=environment)
    os.close(there)
    got = b""
    while True:
        try:
            got += os.read(here, 65536)
        except OSError:  # the last writer has closed it
            break
    os.close(here)
    assert process.stdout is not None
    with process.stdout as stream:
        output = stream.read().decode()
    return process.wait(), output, got.decode()


def events(stderr: str) -> list[dict[str, Any]]:
    """Every line is an object with time, level and message."""
    lines = [json.loads(line) for line in stderr.splitlines()]
    for line in lines:
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert line["level"] in ("info", "warning", "error")
        assert line["message"]
    return lines


def test_a_terminal_gets_bars_that_are_gone_in_the_end(stored: Path, tmp_path: Path) -> None:
    code, output, shown = on_terminal(command(*training(stored, tmp_path / "run")))
    assert code == 0, shown
    assert output == f"{tmp_path / 'run' / 'model.pt'}: both stages, 3 classes, the last checkpoint\n"
    for part in ("stage 1 (snippets)", "2 of 4 steps", "steps/s", "left", "loss ", "stage 2 (instances)", "epochs/s"):
        assert part in shown
    assert "\x1b[2Ksnippet, step 2: average " in shown, "a log line begins on an empty line of its own"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is shown again"
    assert "━" not in shown[shown.rindex("\x1b[?25h") :], "no bar is left"


def test_log_lines_are_not_broken(tmp_path: Path) -> None:
    script = """
import logging
from hrpro_pipeline.base.progress import progress, set_up_logging
set_up_logging("text")
with progress("working", 3, "videos") as task:
    task.video("[red]odd[/red]", 1, 2, "frames")
    logging.getLogger("hrpro_pipeline.x").info("long [bold]line " + "x" * 100 + " end")
    task.advance()
"""
    code, _, shown = on_terminal([sys.executable, "-c", script], columns=40)
    assert code == 0, shown
    assert "long [bold]line " + "x" * 100 + " end\r\n" in shown
    assert "[red]odd[/red]" in shown


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"HRPRO_LOG_FORMAT": "json"}])
def test_terminals_without_bars(archive: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    words = command("import", "features", archive, "--out", tmp_path / "out")
    code, _, shown = on_terminal(words, **environment)
    assert code == 0, shown
    assert "\x1b" not in shown
    if "HRPRO_LOG_FORMAT" in environment:
        assert events(shown)
    assert "\x1b" in on_terminal(words)[2], "unlike any other terminal"


def test_elsewhere_few_lines_without_control_characters(stored: Path, tmp_path: Path) -> None:
    result = hrpro(*training(stored, tmp_path / "run"), env=os.environ | {"FORCE_COLOR": "1"})
    assert result.returncode == 0, result.stderr
    assert not set(result.stderr) & set("\x1b\r\b")
    lines = result.stderr.splitlines()
    assert "stage 1 (snippets): 4 steps" in lines
    assert any(line.startswith("stage 1 (snippets): 4 of 4 steps in 0:00:0") for line in lines)
    assert len([line for line in lines if line.startswith("stage 1")]) == 2
    assert not any(line.startswith("evaluating") for line in lines)


def test_json(stored: Path, tmp_path: Path) -> None:
    result = hrpro("--log-format", "json", *training(stored, tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'run' / 'model.pt'}: both stages, 3 classes, the last checkpoint\n"
    lines = events(result.stderr)
    assert any(line["message"].startswith("snippet, step 4: average") for line in lines)
    steps = [line for line in lines if line.get("task") == "stage 1 (snippets)"]
    assert {line["event"] for line in steps} == {"progress"}
    assert [steps[0][name] for name in ("state", "done", "total", "unit", "rate", "seconds_left")] == [
        *("begun", 0, 4, "steps", None, None)
    ]
    assert [steps[-1][name] for name in ("state", "done", "total")] == ["ended", 4, 4]
    assert steps[-1]["rate"] == pytest.approx(4 / steps[-1]["elapsed"], rel=0.5)

    again = hrpro(*training(stored, tmp_path / "run"), env=os.environ | {"HRPRO_LOG_FORMAT": "json"})
    assert again.returncode == 1
    error = events(again.stderr)[-1]
    assert (error["level"], "--resume" in error["message"]) == ("error", True)
    assert not error["message"].startswith("error")
    (usage,) = events(hrpro("--log-format", "json", "train").stderr)
    assert (usage["level"], "hrpro train --help" in usage["message"]) == ("error", True)
    assert hrpro("--log-format", "yaml", "train").returncode == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_json_of_videos(tmp_path: Path, workers: int) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for k in range(2):
        write_video(videos / f"good{k}.mp4", moving_square(40, seed=k))
    (videos / "bad.mp4").write_text("no video")
    words = ("extract", videos, "--out", tmp_path / "out", *RGB, "--workers", workers)
    result = hrpro("--log-format", "json", *words)
    assert result.returncode == 1
    lines = events(result.stderr)
    frames = [line for line in lines if line.get("video_id") == "good1" and line["event"] == "progress"]
    assert [frames[0]["state"], frames[-1]["state"]] == ["begun", "ended"]
    assert (frames[-1]["done"], frames[-1]["total"], frames[-1]["unit"]) == (40, 40, "frames")
    whole = [line for line in lines if line.get("task") == "extracting" and "video_id" not in line]
    assert (whole[-1]["state"], whole[-1]["done"], whole[-1]["unit"]) == ("ended", 3, "videos")
    (failed,) = [line for line in lines if line.get("event") == "video"]
    assert (failed["video_id"], failed["status"], failed["level"]) == ("bad", "failed", "warning")
    assert "not a video" in failed["reason"]


def test_the_other_processes_of_torchrun_are_silent(archive: Path, tmp_path: Path) -> None:
    words = ("--log-format", "json", "import", "features", archive)
    ranks = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2"}
    first = hrpro(*words, "--out", tmp_path / "first", env=os.environ | ranks | {"RANK": "0"})
    tasks = [line["task"] for line in events(first.stderr) if "task" in line]
    assert list(dict.fromkeys(tasks)) == ["reading", "checking", "importing"]
    other = hrpro(*words, "--out", tmp_path / "other", env=os.environ | ranks | {"RANK": "1"})
    assert (other.returncode, other.stderr) == (0, "")


class TestTasks:
    """Numbers and lines of tasks, by a clock of the test's own."""

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("hrpro_pipeline.base.progress.time.monotonic", lambda: self.now)
        monkeypatch.setattr(logging.root, "handlers", [])
        monkeypatch.setattr(logging.root, "level", logging.WARNING)

    def say(self, capsys: pytest.CaptureFixture[str], style: str, pace: list[float], **options: Any) -> list[str]:
        progress.set_up_logging(style)
        with progress.progress("work", 100, "steps", **options) as task:
            for number, seconds in enumerate(pace, start=1):
                self.now += seconds
                task.update(number)
        progress.set_up_logging("text")
        return capsys.readouterr().err.splitlines()

    def test_rate_and_time_left(self, capsys: pytest.CaptureFixture[str]) -> None:
        with progress.progress("work", 10, "videos", done=2) as task:
            assert (task.rate, task.seconds_left, task.rate_text) == (None, None, "")
            task.skip()
            assert task.rate is None, "what need not be done says nothing about the rate"
            self.now += 4
            task.advance()
            task.advance()
            assert (task.rate, task.seconds_left) == (0.5, 10)
            self.now += 3
            assert (task.rate, task.seconds_left) == (0.5, 7), "time passes, the rate stays"
            assert (task.count_text, task.rate_text, task.left_text) == (
                "5 of 10 videos",
                "0.5 videos/s",
                "0:00:07 left",
            )

    def test_text_has_a_line_for_each_tenth(self, capsys: pytest.CaptureFixture[str]) -> None:
        lines = self.say(capsys, "text", [1.0] * 100)
        assert len(lines) == 12
        assert lines[:2] == ["work: 100 steps", "work: 10 of 100 steps, 1 steps/s, 0:01:30 left"]
        assert lines[-1] == "work: 100 of 100 steps in 0:01:40"

    def test_text_of_quick_and_slow_tasks(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert len(self.say(capsys, "text", [0.01] * 100)) == 2
        assert len(self.say(capsys, "text", [40.0] * 3)) == 5
        assert self.say(capsys, "text", [0.01] * 100, minor=True) == []
        assert len(self.say(capsys, "text", [31.0] * 2, minor=True)) == 2

    def test_json_has_one_event_a_second(self, capsys: pytest.CaptureFixture[str]) -> None:
        lines = [json.loads(line) for line in self.say(capsys, "json", [0.1] * 100)]
        assert 11 <= len(lines) <= 12
        assert [line["state"] for line in lines] == ["begun", *["running"] * (len(lines) - 2), "ended"]
        assert (lines[-1]["done"], lines[-1]["rate"], lines[-1]["seconds_left"]) == (100, 10, 0)
        assert len(self.say(capsys, "json", [0.001] * 100)) == 2, "the first and the last in any case"

    def test_tasks_within_tasks(self, capsys: pytest.CaptureFixture[str]) -> None:
        with progress.progress("outer", 1, "runs"), pytest.raises(KeyError), progress.progress("inner", 1, "steps"):
            raise KeyError
        assert capsys.readouterr().err.splitlines() == [], "nobody has set logging up: the library is silent"
        progress.set_up_logging("text")
        with progress.progress("outer", 1, "runs"), progress.progress("inner", 1, "steps") as inner:
            inner.advance()
        assert capsys.readouterr().err.splitlines() == ["outer: 1 run", "outer: 0 of 1 run in 0:00:00"]


def read_events(run: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def next_second() -> None:
    """TensorBoard sorts a run's event files by the second of their making; a run of a new process never shares it."""
    time.sleep(1 - time.time() % 1)


class StopError(Exception):
    """Stands for a kill."""


class TestTensorBoard:
    def train(self, stored: Path, out: Path, **options: Any) -> EventAccumulator:
        data = {"annotations": stored / "gt.json", "evaluate_on": "Test", "device": "cpu", "overrides": QUICK}
        if options.get("resume"):
            next_second()
        train_detector(stored / "features", stored / "points.csv", out, **{**data, **options})
        return read_events(out)

    def test_numbers_and_pictures(self, stored: Path, tmp_path: Path) -> None:
        found = self.train(stored, tmp_path / "run")
        for stage, steps in (("snippet", [1, 2, 3, 4]), ("instance", [5, 6])):
            assert [event.step for event in found.Scalars(f"{stage}/loss/total")] == steps
        for tag in ("average", "mAP@0.1", "mAP@0.5", "mAP@0.7"):
            assert [event.step for event in found.Scalars(f"snippet/evaluation/{tag}")] == [2, 4]
            assert [event.step for event in found.Scalars(f"instance/evaluation/{tag}")] == [5, 6]
        cosines = [event.value for event in found.Scalars("snippet/prototypes/mean_cosine")]
        assert len(cosines) == 2
        assert all(-1 <= value <= 1 for value in cosines)
        prototypes = torch.load(tmp_path / "run" / "model.pt", weights_only=True)["snippet"]["prototypes"]
        last = mean_off_diagonal(prototype_similarity(prototypes))
        assert cosines[-1] == pytest.approx(last, abs=1e-5)
        assert set(found.Tags()["images"]) == {"snippet/prototypes", *(f"timeline/v0{n}" for n in (1, 2, 5, 6))}
        for tag in found.Tags()["images"]:
            (event,) = found.Images(tag)
            image = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
            assert event.step == 6
            assert image.shape == (event.height, event.width, 3)
            assert image.std() > 10
        training = found.Images("timeline/v01")[0].encoded_image_string
        unseen = found.Images("timeline/v05")[0].encoded_image_string
        assert self.has(training, pictures._POINT), "a training video has its points"
        assert not self.has(unseen, pictures._POINT)
        assert self.has(unseen, pictures._TRUTH), "an annotated video has its ground truth"

    def has(self, encoded: bytes, color: tuple[int, int, int]) -> bool:
        """Whether a picture has a color, below its legend."""
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[26:, :, ::-1]
        return bool((image == color).all(axis=2).any())

    def test_pictures_change_nothing_and_keep_to_their_share(
        self, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.train(stored, tmp_path / "few")
        monkeypatch.setattr(trainer, "_PICTURE_SHARE", 1e9)
        found = self.train(stored, tmp_path / "many")
        assert [event.step for event in found.Images("timeline/v01")] == [2, 4, 5, 6, 6]
        models = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("few", "many")]
        for stage in ("snippet", "instance"):
            assert all(torch.equal(value, models[1][stage][name]) for name, value in models[0][stage].items())

    @pytest.mark.parametrize("evaluations", [1, 2, 3])
    def test_steps_after_a_resume_are_not_repeated(
        self, stored: Path, tmp_path: Path, evaluations: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed in the evaluation after the last checkpoint: those steps are in the events already."""
        whole = trainer.Trainer._evaluate

        def stopping(run: Any, *arguments: Any) -> None:
            whole(run, *arguments)
            calls.append(1)
            if len(calls) > evaluations:
                raise StopError

        calls: list[int] = []
        monkeypatch.setattr(checkpoints, "_TIME_SHARE", 1e9)
        monkeypatch.setattr(trainer.Trainer, "_evaluate", stopping)
        with pytest.raises(StopError):
            self.train(stored, tmp_path / "run")
        before = read_events(tmp_path / "run")
        monkeypatch.setattr(trainer.Trainer, "_evaluate", whole)
        found = self.train(stored, tmp_path / "run", resume=True)
        assert [event.step for event in found.Scalars("snippet/loss/total")] == [1, 2, 3, 4]
        assert [event.step for event in found.Scalars("snippet/evaluation/average")] == [2, 4]
        assert [event.step for event in found.Scalars("instance/loss/total")] == [5, 6]
        last = {1: 4, 2: 5, 3: 6}[evaluations]
        tag = "snippet/loss/total" if evaluations == 1 else "instance/loss/total"
        assert before.Scalars(tag)[-1].step == last, "the kill came after this was written"

    def test_a_run_that_starts_again(self, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Killed before the first checkpoint."""
        monkeypatch.setattr(trainer.Trainer, "_save_checkpoint", lambda *arguments: (_ for _ in ()).throw(StopError))
        with pytest.raises(StopError):
            self.train(stored, tmp_path / "run")
        monkeypatch.undo()
        found = self.train(stored, tmp_path / "run", resume=True)
        assert [event.step for event in found.Scalars("snippet/loss/total")] == [1, 2, 3, 4]

    def test_prototypes_of_classes_without_points(self) -> None:
        vectors = torch.tensor([[1.0, 0], [0, 0], [0, 2]])
        cosines = prototype_similarity(vectors)
        np.testing.assert_allclose(cosines, [[1, 0, 0], [0, 0, 0], [0, 0, 1]])
        assert mean_off_diagonal(cosines) == 0
        assert mean_off_diagonal(prototype_similarity(vectors[:1])) == 0
        assert mean_off_diagonal(prototype_similarity(vectors + 5)) == pytest.approx(0.9, abs=0.1)
        for count in (1, 3, 200):
            image = pictures.heat_map(np.eye(count), ["Aufwärmen, très long, et encore"] * count)
            assert image.dtype == np.uint8
