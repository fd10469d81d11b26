"""The command line: help, exit codes, one-line errors, and the chain from published features to numbers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import GOLDEN
from make_videos import moving_square, write_video

from hrpro_pipeline.cli import main

COMMANDS = [
    [],
    ["extract"],
    ["train"],
    ["detect"],
    ["evaluate"],
    ["report"],
    ["figures"],
    ["convert"],
    ["import"],
    ["import", "features"],
    ["import", "checkpoint"],
    ["export"],
    ["export", "features"],
    ["export", "pseudo-labels"],
    ["info"],
    ["summary"],
    ["weights"],
    ["demo"],
]
QUICK = [
    "--preset",
    "thumos14",
    "--set",
    "snippet.steps=20",
    "--set",
    "snippet.learning_rate=1e-3",
    "--set",
    "instance.epochs=2",
]


def hrpro(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeeds(*arguments: object) -> str:
    result = hrpro(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def fails(*arguments: object) -> str:
    """Exit code 1 and an error without a traceback; returns what was printed."""
    result = hrpro(*arguments)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("error: ")
    assert "Traceback" not in result.output
    return result.output


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "hrpro")
def test_help_has_an_example(command: list[str]) -> None:
    output = succeeds(*command, "--help")
    if command not in (["import"], ["export"]):
        assert "Example:" in output
        assert "hrpro " + " ".join(command) in output


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["extract"], ["train", "."], ["extract", ".", "--out", "x", "--flow", "magic"], ["info", "nowhere"]],
)
def test_bad_usage_is_2(arguments: list[str]) -> None:
    assert hrpro(*arguments).exit_code == 2


@pytest.mark.parametrize("name", ["-0r0HEwAYiQ.mp4", "--b.MKV", "-d"])
def test_a_path_that_begins_with_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    result = hrpro("extract", "--out", "x", name)
    assert result.exit_code == 2
    assert f"for the path {name}, write ./{name}, or -- " in result.output
    for paths in ([f"./{name}"], ["--", name]):
        result = hrpro("extract", "--out", "x", "--weights", "random", *paths)
        assert "No such option" not in result.output and "empty file (0 bytes)" in result.output
    assert "for the path" not in hrpro("extract", "--out", "x", "--frob", name).output


def test_a_clash_of_ids_costs_its_own_files_alone(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("clip #1.mp4", "clip &1.mp4", "Cafe\u0301.3GP"):
        write_video(tmp_path / "videos" / name, moving_square(20), codec="mpeg4")
    small = ["--weights", "random", "--device", "cpu", "--streams", "rgb"]
    small += ["--set", "extract.resize=32", "--set", "extract.crop=32"]
    result = hrpro("extract", tmp_path / "videos", "--out", tmp_path / "out", *small)
    assert result.exit_code == 1
    assert "1 extracted, 0 there already, 2 failed" in result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"Caf\u00e9.h5", "failures.jsonl"}


def test_the_real_command_reports_one_line_without_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hrpro_pipeline", "info", str(tmp_path)]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert plain.returncode == 1
    assert plain.stderr.count("\n") == 1
    assert plain.stderr.startswith("error: ")
    debug = [*command[:3], "--debug", *command[3:]]
    assert "Traceback" in subprocess.run(debug, capture_output=True, text=True, check=False).stderr


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small archive in the published layout: 6 training and 3 test videos, 2 classes, each with its own channels."""
    folder = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(0)
    database, points = {}, ["class,start_frame,stop_frame,video_id,point"]
    for number in range(9):
        subset = "train" if number < 6 else "test"
        name = f"{subset}_{number}"
        features = 0.3 * rng.random((30, 32), np.float32)
        annotations = []
        for label, first in ((number % 2, 4), ((number + 1) % 2, 17)):
            features[first : first + 6, label * 8 : label * 8 + 8] += 2
            segment = [round(first * 0.64, 3), round((first + 6) * 0.64, 3)]
            annotations.append({"label": ("run", "sit")[label], "segment": segment})
            if subset == "train":
                frame = round((first + 3) * 0.64 * 30)
                points.append(f"{('run', 'sit')[label]},{segment[0] * 30},{segment[1] * 30},{name},{frame}")
        database[name] = {"subset": subset, "duration": 19.5, "fps": 30, "annotations": annotations}
        (folder / "features" / subset).mkdir(parents=True, exist_ok=True)
        np.save(folder / "features" / subset / f"{name}.npy", features)
    (folder / "gt_full.json").write_text(json.dumps({"version": "made", "database": database}))
    (folder / "point_labels").mkdir()
    (folder / "point_labels" / "point_gaussian.csv").write_text("\n".join(points) + "\n")
    (folder / "split_test.txt").write_text("\n".join(name for name in database if name.startswith("test")) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `features` imported from the archive and `run` trained on them."""
    folder = tmp_path_factory.mktemp("trained")
    assert "9 videos imported" in succeeds("import", "features", archive, "--out", folder / "features")
    output = succeeds(
        *("train", folder / "features", "--annotations", archive / "gt_full.json"),
        *("--points", archive / "point_labels" / "point_gaussian.csv", "--out", folder / "run"),
        *("--evaluate-on", "test", "--device", "cpu", *QUICK),
    )
    assert "both stages, 2 classes" in output
    return folder


def test_chain_from_published_features(archive: Path, trained: Path, tmp_path: Path) -> None:
    out, truth = tmp_path / "detections", archive / "gt_full.json"
    arguments = ("--videos", archive / "split_test.txt", "--device", "cpu")
    assert "3 videos detected" in succeeds("detect", trained / "run", trained / "features", "--out", out, *arguments)
    assert sorted(path.name for path in out.iterdir()) == ["test_6.json", "test_7.json", "test_8.json"]
    content = json.loads((out / "test_6.json").read_text())
    assert content["schema"] == "hrpro.detections/1"
    assert content["duration"] == 19.5
    curves = content["curves"]
    assert set(curves["classes"]) <= {"run", "sit"} and len(curves["scores"][0]) == len(curves["attention"]) > 10
    scores = [item["score"] for item in content["detections"]]
    assert scores == sorted(scores, reverse=True)

    printed = json.loads(succeeds("evaluate", out, "--annotations", truth, "--subset", "test", "--json"))
    assert printed["tiou"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert set(printed["averages"]) == {"0.1:0.5", "0.3:0.7", "0.1:0.7"}
    assert set(printed["classes"]) == {"run", "sit"}
    assert printed["average"] == pytest.approx(np.mean(printed["mAP"]))
    assert printed["mAP"][0] > 0.5

    last = json.loads((trained / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["kind"] == "evaluation"
    assert last["average"] == pytest.approx(printed["average"])

    together = tmp_path / "together"
    activitynet = ("--format", "activitynet")
    succeeds("detect", trained / "run", trained / "features", "--out", together, *arguments, *activitynet)
    again = json.loads(succeeds("evaluate", together, "--annotations", truth, "--subset", "test", "--json"))
    assert again == printed
    file = tmp_path / "all.json"
    succeeds("detect", trained / "run", trained / "features", "--out", file, *arguments, *activitynet)
    assert set(json.loads(file.read_text())) == {"version", "results", "external_data"}

    table = succeeds("evaluate", out, "--annotations", truth, "--subset", "test", "--tiou", "0.5:0.9:0.2")
    assert "0.50   0.70   0.90" in table
    page = tmp_path / "report.html"
    succeeds("report", out, "--annotations", truth, "--subset", "test", "--out", page)
    assert "test_6" in page.read_text()


def test_detect_keeps_the_best(trained: Path, tmp_path: Path) -> None:
    file = trained / "features" / "test_7.h5"
    succeeds("detect", trained / "run" / "model.pt", file, "--out", tmp_path / "all", "--device", "cpu")
    succeeds("detect", trained / "run", file, "--out", tmp_path / "top", "--top", 2, "--device", "cpu")
    everything = json.loads((tmp_path / "all" / "test_7.json").read_text())["detections"]
    assert json.loads((tmp_path / "top" / "test_7.json").read_text())["detections"] == everything[:2]
    bound = everything[1]["score"]
    succeeds("detect", trained / "run", file, "--out", tmp_path / "min", "--min-score", bound, "--device", "cpu")
    assert len(json.loads((tmp_path / "min" / "test_7.json").read_text())["detections"]) == 2


def test_info(trained: Path) -> None:
    assert "features of 9 videos" in succeeds("info", trained / "features")
    assert "the first covers 0.00-0.64 s" in succeeds("info", trained / "features" / "test_6.h5")
    assert "classes (2): run, sit" in succeeds("info", trained / "run")


def test_import_checkpoint_under_the_published_names(tmp_path: Path) -> None:
    for name, stage in (("snippet_model", 1), ("instance_model", 2)):
        file = np.load(GOLDEN / "hrpro" / f"{name}.npz")
        state = {key.removeprefix("state/"): torch.from_numpy(file[key]) for key in file if key.startswith("state/")}
        torch.save(state, tmp_path / f"stage{stage}.pkl")
    classes = tmp_path / "classes.txt"
    classes.write_text("a\nb\nc\nd\ne\n")
    stages = (tmp_path / "stage1.pkl", tmp_path / "stage2.pkl")
    assert "both stages, 5 classes" in succeeds(
        "import", "checkpoint", *stages, "--classes", classes, "--out", tmp_path / "model"
    )
    assert "classes (5)" in succeeds("info", tmp_path / "model")
    succeeds("import", "checkpoint", stages[0], "--classes", classes, "--out", tmp_path / "one.pt")
    assert "stage 2: none" in succeeds("info", tmp_path / "one.pt")
    classes.write_text("a\nb\n")
    wrong = ("--classes", classes, "--out", tmp_path / "x")
    assert "made for 5 classes, but 2 class names" in fails("import", "checkpoint", *stages, *wrong)
    assert "no tensor memory.proto_vectors" in fails("import", "checkpoint", stages[1], *wrong)


def test_a_hostile_checkpoint_is_not_executed(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self):  # noqa: ANN204
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"schema": "hrpro.model/1", "x": Hostile()}, tmp_path / "model.pt")
    assert "cannot be loaded safely" in fails("info", tmp_path / "model.pt")
    assert not (tmp_path / "executed").exists()


class TestMistakes:
    """What a user gets wrong, and the line that says what to do."""

    def test_features_of_another_clock(self, archive: Path, trained: Path, tmp_path: Path) -> None:
        (archive / "other").mkdir(exist_ok=True)
        preset = ("--set", "extract.stride=8", "--set", "extract.fps=12.5")
        succeeds("import", "features", archive, "--out", tmp_path / "features", *preset)
        result = hrpro("detect", trained / "run", tmp_path / "features", "--out", tmp_path / "out", "--device", "cpu")
        assert result.exit_code == 1
        assert "features do not fit the model: clock 12.5 fps" in result.output

    def test_a_damaged_feature_file_costs_only_itself(self, trained: Path, tmp_path: Path) -> None:
        folder = tmp_path / "features"
        folder.mkdir()
        for name in ("test_6.h5", "test_7.h5"):
            (folder / name).write_bytes((trained / "features" / name).read_bytes())
        (folder / "test_6.h5").write_text("broken")
        arguments = ("detect", trained / "run", folder, "--out", tmp_path / "out", "--device", "cpu")
        result = hrpro(*arguments)
        assert result.exit_code == 1
        assert "failed: test_6: " in result.output
        assert (tmp_path / "out" / "test_7.json").exists()
        assert hrpro(*arguments, "--on-error", "skip").exit_code == 0

    def test_detecting_in_an_unknown_video(self, trained: Path, tmp_path: Path) -> None:
        (tmp_path / "ids.txt").write_text("nobody\n")
        arguments = ("--out", tmp_path / "out", "--videos", tmp_path / "ids.txt", "--device", "cpu")
        assert "names nobody" in fails("detect", trained / "run", trained / "features", *arguments)

    def test_a_model_that_is_none(self, trained: Path, tmp_path: Path) -> None:
        torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
        output = fails("detect", tmp_path / "model.pt", trained / "features", "--out", tmp_path / "out")
        assert "hrpro import checkpoint" in output

    def test_a_gpu_that_is_not_there(self, trained: Path, tmp_path: Path) -> None:
        output = fails("detect", trained / "run", trained / "features", "--out", tmp_path / "o", "--device", "cuda:99")
        assert "use --device cpu" in output

    def test_points_of_unknown_classes(self, archive: Path, trained: Path, tmp_path: Path) -> None:
        points = tmp_path / "points.csv"
        points.write_text("video_id,class,time\ntrain_0,rum,3\ntrain_9,run,3\n")
        output = fails(
            *("train", trained / "features", "--points", points, "--annotations", archive / "gt_full.json"),
            *("--out", tmp_path / "run"),
        )
        assert "2 problems" in output
        assert "did you mean 'run'" in output
        assert not (tmp_path / "run").exists()

    def test_training_twice_into_one_folder(self, archive: Path, trained: Path) -> None:
        points = archive / "point_labels" / "point_gaussian.csv"
        arguments = ("train", trained / "features", "--points", points, "--out", trained / "run")
        assert "--resume" in fails(*arguments, "--annotations", archive / "gt_full.json", *QUICK)

    def test_evaluating_on_a_subset_without_annotations(self, archive: Path, trained: Path, tmp_path: Path) -> None:
        points = tmp_path / "points.csv"
        points.write_text("video_id,class,time\ntrain_0,run,3\n")
        arguments = ("train", trained / "features", "--points", points, "--out", tmp_path / "run")
        assert "needs --annotations" in fails(*arguments, "--evaluate-on", "test")

    def test_an_unknown_setting(self, trained: Path, tmp_path: Path) -> None:
        arguments = ("import", "features", tmp_path, "--out", tmp_path / "out", "--set", "extract.fpz=25")
        result = hrpro(*arguments)
        assert result.exit_code == 2
        assert "did you mean extract.fps?" in result.output

    @pytest.mark.parametrize("option", [("--preset", "thumos"), ("--set", "preset.x=1"), ("--set", "snippet.steps")])
    def test_wrong_options_are_bad_usage(self, trained: Path, tmp_path: Path, option: tuple[str, str]) -> None:
        assert hrpro("import", "features", tmp_path, "--out", tmp_path / "out", *option).exit_code == 2
        device = ("detect", trained / "run", trained / "features", "--out", tmp_path / "out", "--device", "zzz")
        assert hrpro(*device).exit_code == 2

    def test_evaluating_without_segments_is_said_before_training(
        self, archive: Path, trained: Path, tmp_path: Path
    ) -> None:
        truth = tmp_path / "gt.json"
        truth.write_text(json.dumps({"database": {"test_6": {"subset": "test", "annotations": []}}}))
        points = tmp_path / "points.csv"
        points.write_text("video_id,class,time\ntrain_0,run,3\n")
        arguments = ("train", trained / "features", "--points", points, "--annotations", truth, "--out", tmp_path / "r")
        assert "no segments to evaluate against" in fails(*arguments, "--evaluate-on", "test")
        assert not (tmp_path / "r").exists()

    def test_features_and_videos_in_one_folder(self, trained: Path, tmp_path: Path) -> None:
        (tmp_path / "a.h5").write_bytes((trained / "features" / "test_6.h5").read_bytes())
        (tmp_path / "b.mp4").touch()
        output = fails("detect", trained / "run", tmp_path, "--out", tmp_path / "out", "--device", "cpu")
        assert "holds both features and videos" in output

    def test_a_demo_removes_nothing_but_a_demo(self, tmp_path: Path) -> None:
        (tmp_path / "videos").mkdir()
        (tmp_path / "videos" / "precious.mp4").touch()
        (tmp_path / "annotations.json").touch()
        assert "something else than a demo" in fails("demo", "--out", tmp_path)
        assert (tmp_path / "videos" / "precious.mp4").exists()

    @pytest.mark.parametrize("tiou", ["1.5", "0.7:0.1:0.1", "0:1:0.5", "a:b:c", "0.1:0.7:0"])
    def test_thresholds_that_are_none(self, archive: Path, trained: Path, tiou: str) -> None:
        arguments = ("evaluate", trained / "features", "--annotations", archive / "gt_full.json", "--tiou", tiou)
        assert hrpro(*arguments).exit_code == 2
