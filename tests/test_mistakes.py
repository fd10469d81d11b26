"""What a new user gets wrong: one line that names the thing and says what to do. docs/troubleshooting.md lists them."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from made_features import QUICK, made_set, settings, store
from make_videos import moving_square, write_video
from processes import command

from hrpro_pipeline.cli import main
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.models.snippet import SnippetModel

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
POINTS = "video_id,class,time\nv00,jump,4\nv01,run,4\n"


def hrpro(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a user has in the end: videos, features, points, a run, detections."""
    folder = made_set(tmp_path_factory.mktemp("whole"))
    (folder / "empty").mkdir()
    (folder / "videos").mkdir()
    write_video(folder / "videos" / "kitchen.mp4", moving_square(20))
    data = [folder / "features", "--points", folder / "points.csv", "--annotations", folder / "gt.json"]
    assert hrpro("train", *data, "--out", folder / "run", "--device", "cpu", *settings(*QUICK)).exit_code == 0
    words = ("detect", folder / "run", folder / "features", "--out", folder / "detections", "--device", "cpu")
    assert hrpro(*words).exit_code == 0
    return folder


@pytest.fixture
def here(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same under a folder of the test's own, which is the current one."""
    for path in whole.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def says(result: Result, *parts: str, code: int = 1) -> None:
    """Exactly one line on standard error, which has all the parts, and which the page lists."""
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line, line
    listed = parts[0]
    assert listed in PAGE, f"docs/troubleshooting.md does not list: {listed}"


def train(*more: Any, points: str = "points.csv", features: str = "features") -> Result:
    return hrpro("train", features, "--points", points, "--out", "new", "--device", "cpu", *more, *settings(*QUICK))


def test_a_folder_without_videos(here: Path) -> None:
    says(hrpro("extract", "empty", "--out", "new"), "no videos in this folder; expected files such as .mp4", "empty: ")
    says(
        hrpro("extract", "nowhere", "--out", "new"), "no such file; expected a video or a folder of videos", "nowhere: "
    )
    (here / "deep" / "monday").mkdir(parents=True)
    (here / "deep" / "monday" / "a.mp4").touch()
    says(hrpro("extract", "deep", "--out", "new"), "give the folders that hold them, such as", "deep/monday")


def test_features_given_to_extract(here: Path) -> None:
    says(
        hrpro("extract", "features", "--out", "new"),
        "it holds features: give it to `hrpro train` or `hrpro detect`",
        "features: no videos",
    )


def test_videos_given_to_train(here: Path) -> None:
    says(train(features="videos"), "it holds videos: extract their features first", "hrpro extract videos --out")


def test_no_features(here: Path) -> None:
    says(train(features="nowhere"), "no such folder; expected features made by `hrpro extract`", "nowhere: ")
    says(train(features="empty"), "no feature files (*.h5); make them with `hrpro extract`", "empty: ")
    says(train(features="run"), "it holds a trained model; give the folder of the features", "run: ")
    (here / "archive" / "features" / "test").mkdir(parents=True)
    np.save(here / "archive" / "features" / "test" / "a.npy", np.ones((4, 8), np.float32))
    says(train(features="archive"), "it holds .npy arrays: convert them first, hrpro import features", "archive: ")


def test_features_of_mixed_settings(here: Path) -> None:
    shutil.copytree(here / "features", here / "mixed")
    for name in ("v01", "v03"):
        store(here / "mixed", name, np.ones((60, 32), np.float32), SnippetClock(stride=8))
    says(train(features="mixed"), "extract all the same way", "v01.h5 and 1 more: stride 8, but v00.h5 has 16")


def test_features_of_a_newer_version(here: Path) -> None:
    shutil.copytree(here / "features", here / "newer")
    with h5py.File(here / "newer" / "v00.h5", "r+") as file:
        file.attrs["schema"] = "hrpro.features/7"
    says(train(features="newer"), "a newer hrpro made it: update hrpro", "v00.h5: schema 'hrpro.features/7'")


def test_features_that_do_not_fit_the_model(here: Path) -> None:
    store(here / "other", "v00", np.ones((60, 32), np.float32), SnippetClock(stride=8))
    store(here / "wide", "v00", np.ones((60, 64), np.float32), SnippetClock())
    for folder, part in (("other", "stride 8, expected 25 fps"), ("wide", "rgb is 32 wide, expected 16")):
        result = hrpro("detect", "run", folder, "--out", "new", "--device", "cpu")
        assert result.exit_code == 1
        (line,) = [line for line in result.stderr.splitlines() if not line.startswith("detecting: ")]
        assert line.startswith("failed: v00: ")
        assert part in line
        assert "extract them with the settings that the model was trained with" in line
    assert "features do not fit the model" in PAGE


def test_classes_that_are_not_annotated(here: Path) -> None:
    (here / "p.csv").write_text(POINTS.replace("jump", "jmp"))
    says(train("--annotations", "gt.json", points="p.csv"), "unknown class", "p.csv: line 2", "did you mean 'jump'?")


def test_points_of_videos_without_features(here: Path) -> None:
    (here / "p.csv").write_text(POINTS.replace("v00", "v_00"))
    says(train(points="p.csv"), "extract it, or leave it out with --videos", "v_00: no features", "did you mean 'v00'?")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "video,class,time\nv00,jump,4\n",
            ["expected a header video_id,class,time", "no column video_id", "found video"],
        ),
        ("video_id,class,seconds\nv00,jump,4\n", ["no column 'time' (seconds) or 'point' (frame)", "found video_id"]),
        (
            "video_id;class;time\nv00;jump;3,5\nv00;jump;2.5\n",
            ["expected a number of at least 0, such as 3.5", "line 2: time is '3,5'"],
        ),
        (
            "video_id,class,time\nv00,jump,0:00:03:12\n",
            ["or a clock time such as 1:02:03.4", "line 2: time is '0:00:03:12'"],
        ),
        ("video_id,class,time\nv00,jump,3,5\n", ["write numbers with a decimal point", "line 2: 4 cells"]),
        (
            'video_id,class,time\nv00,jump,"3,500"\n',
            ["expected a number of at least 0, such as 3.5", "line 2: time is '3,500'"],
        ),
        ("video_id,class,time\n", ["no points; expected a line for each action", "p.csv: "]),
        ("video_id,class,time\nv00,jump,\n", ["expected a number of at least 0, such as 3.5", "line 2: time is ''"]),
        (
            "video_id,class,point\nv00,jump,2.5\n",
            ["but frames are counted; give seconds in a column 'time'", "line 2: point is 2.5"],
        ),
        (
            "video_id,class,time\nv00,long jump,2\nv01,Long_Jump,2\nv01,long jump,9\n",
            ["spell a class one way", "line 3: class 'Long_Jump', but line 2 has 'long jump'"],
        ),
    ],
)
def test_points_files(here: Path, text: str, parts: list[str]) -> None:
    (here / "p.csv").write_text(text)
    says(train(points="p.csv"), *parts, "p.csv")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("video_id,class,time\nv00,прыжок,2\n".encode("cp1251"), "p.csv, line 2: cannot be read as text (not UTF-8)"),
        (b"PK\x03\x04" + bytes(60), "p.csv: a spreadsheet, not text"),
    ],
)
def test_points_files_that_are_no_text(here: Path, content: bytes, part: str) -> None:
    (here / "p.csv").write_bytes(content)
    says(train(points="p.csv"), "save it as 'CSV UTF-8' (comma delimited)", part)


def test_points_past_the_end(here: Path) -> None:
    (here / "p.csv").write_text(POINTS + "v01,jump,300\n")
    says(
        train(points="p.csv"),
        "is past the end of",
        "line 4: 300.00 s",
        "v01 (22.40 s)",
        "a column 'time' is in seconds",
    )
    frames = "video_id,class,time\n" + "".join(f"v0{k},jump,{at}\n" for k in range(5) for at in (4, 400, 900))
    (here / "p.csv").write_text(frames)
    says(train(points="p.csv"), "points are past the end of their videos", "10 of 15", "'point' has frame indices")


def test_points_in_frames_of_an_unknown_rate(here: Path) -> None:
    (here / "p.csv").write_text("video_id,class,point\nv00,jump,100\n")
    says(
        train(points="p.csv"),
        "whose frame rate is unknown; give 'fps' in the annotations",
        "line 2",
        "'time' in seconds",
    )


@pytest.mark.parametrize("text", ['{"v00": []}', "video_id,class,time\n", '{"v00": [1'])
def test_annotations_of_another_kind(here: Path, text: str) -> None:
    (here / "a.json").write_text(text)
    says(train("--annotations", "a.json"), "expected ActivityNet-style JSON", "a.json", '{"database": {VIDEO:')


def test_a_subset_that_is_not_there(here: Path) -> None:
    parts = ("no annotated video is in subset", "'Testing'", "choose one of those there are: Validation (5), Test (2)")
    says(hrpro("evaluate", "detections", "--annotations", "gt.json", "--subset", "Testing"), *parts)
    says(train("--annotations", "gt.json", "--evaluate-on", "Testing"), *parts)
    says(train("--evaluate-on", "Test"), "--evaluate-on needs --annotations")


def test_annotations_of_other_videos(here: Path) -> None:
    (here / "a.json").write_text((here / "gt.json").read_text().replace('"v0', '"w0'))
    result = hrpro("evaluate", "detections", "--annotations", "a.json")
    says(
        result, "give the annotations or the --subset of these videos", "none of the 7 videos in detections (v00, ...)"
    )


def test_a_folder_that_is_no_model(here: Path) -> None:
    out = ("--out", "new", "--device", "cpu")
    says(
        hrpro("detect", "features", "run", *out),
        "a run of `hrpro train` comes first, as in hrpro detect RUN PATH...",
        "features: no model",
    )
    says(
        hrpro("detect", "videos", "run", *out),
        "a run of `hrpro train` comes first, as in hrpro detect RUN PATH...",
        "videos: no model.pt in this folder; it holds videos",
    )
    says(
        hrpro("figures", "features", "--out", "new"),
        "a run of `hrpro train` comes first, as in hrpro detect RUN PATH...",
        "features: no model",
    )
    says(hrpro("detect", "empty", "features", *out), "no model.pt in this folder", "empty: ", "hrpro train")
    (here / "killed" / "checkpoints").mkdir(parents=True)
    says(hrpro("detect", "killed", "features", *out), "its training is not done: go on with", "--resume")


def test_info_on_detections(here: Path) -> None:
    says(
        hrpro("info", "detections"),
        "if these are detections, `hrpro report` and `hrpro evaluate` read them",
        "detections: neither",
    )


def test_a_file_that_is_no_model(here: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (here / "executed",))

    torch.save({"schema": "hrpro.model/1", "x": Hostile()}, here / "model.pt")
    torch.save({"memory.proto_vectors": torch.zeros(5, 1, 32)}, here / "published.pkl")
    out = ("--out", "new", "--device", "cpu")
    for file in ("model.pt", "points.csv", "features/v00.h5"):
        says(hrpro("detect", file, "features", *out), "cannot be loaded safely", file, "made by `hrpro train`")
    assert not (here / "executed").exists()
    says(
        hrpro("detect", "published.pkl", "features", *out), "converted with `hrpro import checkpoint`", "published.pkl"
    )


def test_the_wrong_number_of_class_names(here: Path) -> None:
    torch.save({"memory.proto_vectors": torch.zeros(5, 1, 32)}, here / "published.pkl")
    (here / "classes.txt").write_text("a\nb\n")
    result = hrpro("import", "checkpoint", "published.pkl", "--classes", "classes.txt", "--out", "new")
    says(result, "class names were given; --classes takes", "made for 5 classes, but 2", "5 names, one a line")


def test_a_gpu_that_is_not_there(here: Path) -> None:
    parts = ("CUDA GPUs; use --device cpu", "device cuda:99")
    says(hrpro("detect", "run", "features", "--out", "new", "--device", "cuda:99"), *parts)
    says(hrpro("train", "features", "--points", "points.csv", "--out", "new", "--device", "cuda:99"), *parts)
    says(
        hrpro("detect", "run", "features", "--out", "new", "--device", "gpu"),
        "expected auto, cpu, cuda or cuda:N",
        code=2,
    )


def test_weights_without_network(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPRO_CACHE", str(here / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    result = hrpro("extract", "videos", "--out", "new", "--streams", "rgb")
    says(
        result,
        "on a machine with network, put it at",
        "cannot be downloaded",
        "https://",
        "cache/",
        "run the same command",
    )


def test_a_folder_without_weights(here: Path) -> None:
    words = ("extract", "videos", "--out", "new", "--streams", "rgb", "--weights")
    says(hrpro(*words, "empty"), "no rgb weights; expected rgb*.pt", "empty: ")
    says(hrpro(*words, "nowhere"), "expected kinetics, random, or a folder of weight files", "--weights nowhere")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--preset", "thumos"], ["does not exist; did you mean", "thumos14?"]),
        (["--set", "snippet.stepz=5"], ["no such setting; did you mean", "--set: snippet.stepz", "snippet.steps?"]),
        (["--set", "snipet.steps=5"], ["no such setting; did you mean", "snippet?"]),
        (["--set", "steps=5"], ["expected section.key=value", "--set steps=5"]),
        (
            ["--set", "snippet.steps=many"],
            ["Input should be a valid integer", "'many'", "optimizer steps (1000 by default)"],
        ),
        (["--set", "extract.streams=flow"], ["got 'flow'", "extract.streams", "[rgb, flow] by default"]),
        (["--set", "snippet.batch_size=0"], ["Input should be greater than 0", "snippet.batch_size"]),
        (["--video", "x"], ["see `hrpro train --help`", "No such option", "--videos"]),
    ],
)
def test_wrong_options(here: Path, options: list[str], parts: list[str]) -> None:
    result = hrpro("train", "features", "--points", "points.csv", "--out", "new", *options)
    says(result, *parts, code=2)
    assert not (here / "new").exists()


def test_an_unknown_command(here: Path) -> None:
    says(hrpro("trian"), "No such command", "Did you mean 'train'", code=2)


def test_results_that_would_go_into_a_file(here: Path) -> None:
    says(hrpro("detect", "run", "features", "--out", "points.csv"), "is a file; --out names a folder", "points.csv")
    result = hrpro("train", "features", "--points", "points.csv", "--out", "points.csv")
    says(result, "is a file; see `hrpro train --help`", "'points.csv'", code=2)


def test_a_run_that_is_there(here: Path) -> None:
    words = (
        "train",
        "features",
        "--points",
        "points.csv",
        "--annotations",
        "gt.json",
        "--out",
        "run",
        "--device",
        "cpu",
    )
    says(hrpro(*words, *settings(*QUICK)), "already holds a run; go on with --resume", "run: ")
    result = hrpro(*words, "--resume", *settings(*QUICK, "snippet.steps=5"))
    says(result, "was made with other settings", "snippet.steps=4, now 5", "resume with the same, or use another --out")


def test_resume_without_a_run_says_so(here: Path) -> None:
    result = train("--resume")
    assert result.exit_code == 0, result.output
    assert "no checkpoint in new: starting from the beginning" in result.stderr.splitlines()
    assert "starting from the beginning" in PAGE


def test_a_report_of_nothing(here: Path) -> None:
    says(
        hrpro("report", "empty", "--out", "r.html"), "no detections (*.json) in this folder; make them with", "empty: "
    )


def test_no_gpu_memory_for_one_video(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller parts of a step are tried first: tests/test_memory.py."""

    def forward(self: SnippetModel, *arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(SnippetModel, "forward", forward)
    result = train()
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(
        "error: new: out of GPU memory; keep the features off the GPU with"
    )
    assert "out of GPU memory" in PAGE


def test_a_full_disk_while_training(here: Path, mounted: list[str]) -> None:
    (here / "disk").mkdir()
    data = ("train", "features", "--points", "points.csv", "--out", "disk/run", "--device", "cpu")
    small = f'mount -t tmpfs -o size=100k tmpfs {here / "disk"} && exec "$0" "$@"'
    done = subprocess.run(
        [*mounted, small, *command(*data, *settings(*QUICK, "snippet.feedforward=2048"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: disk/run: no space is left on the disk; make room and go on with --resume"
    )
    assert "no space is left on the disk" in PAGE


def test_debug_shows_where_from(here: Path) -> None:
    words = [sys.executable, "-m", "hrpro_pipeline", "--debug", "info", "empty"]
    assert "Traceback" in subprocess.run(words, capture_output=True, text=True, check=False).stderr


def test_the_page_is_a_table() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert len(rows) > 30
    assert {line.count(" | ") for line in rows} == {2}
