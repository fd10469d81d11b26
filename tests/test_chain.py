"""The whole chain on real files: raw video in, trained detector, JSON out."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from make_videos import moving_square, write_video
from processes import command, wait_for

from hrpro_pipeline import Detector, evaluate_detections, extract_features, train_detector
from hrpro_pipeline.cli import main
from hrpro_pipeline.data.detections import read_detections
from hrpro_pipeline.data.failures import read_failures
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.probe import probe

SMALL = ("--set", "extract.resize=32", "--set", "extract.crop=32")
QUICK = tuple(
    word
    for value in ("snippet.steps=4", "instance.epochs=1", "pyramid.steps=4", "pyramid.min_points=0")
    for word in ("--set", value)
)


def hrpro(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `videos`, their `features` and a `run` trained on points of one's own."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "videos").mkdir()
    for name, step in (("slow", 1), ("fast", 5), ("new", 5)):
        write_video(folder / "videos" / f"{name}.mp4", moving_square(100, step=step))
    (folder / "points.csv").write_text("video_id,class,time\nslow,crawl,2.0\nfast,dash,1.0\nfast,dash,3.1\n")
    result = hrpro("extract", folder / "videos", "--out", folder / "features", "--weights", "random", *SMALL)
    assert result.exit_code == 0, result.output
    arguments = ("--points", folder / "points.csv", "--out", folder / "run", "--device", "cpu", *QUICK)
    result = hrpro("train", folder / "features", *arguments)
    assert result.exit_code == 0, result.output
    return folder


def test_raw_video_gives_what_its_features_give(chain: Path, tmp_path: Path) -> None:
    """The model knows how its features were made: nothing about extraction is said again."""
    arguments = ("--device", "cpu")
    assert hrpro("detect", chain / "run", chain / "videos", "--out", tmp_path / "raw", *arguments).exit_code == 0
    assert hrpro("detect", chain / "run", chain / "features", "--out", tmp_path / "stored", *arguments).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["fast.json", "new.json", "slow.json"]
    for path in (tmp_path / "raw").iterdir():
        content = json.loads(path.read_text())
        assert content == json.loads((tmp_path / "stored" / path.name).read_text())
        assert content["detections"]
        assert {item["label"] for item in content["detections"]} <= {"crawl", "dash"}


def test_detections_appear_while_other_videos_run(chain: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    write_video(videos / "a.mp4", moving_square(20))
    (videos / "b.mp4").write_text("no video")
    write_video(videos / "c.mp4", moving_square(800))
    arguments = command("detect", chain / "run", videos, "--out", out, "--device", "cpu")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: (out / "a.json").exists())
        assert process.poll() is None
        assert not (out / "c.json").exists()
        text, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "2 videos detected, 1 failed" in text
    assert "b.mp4: not a video that can be read" in errors
    assert (out / "c.json").exists()
    (failure,) = read_failures(out)
    assert (failure.video_id, failure.source) == ("b", str(videos / "b.mp4"))
    assert failure.reason.startswith("b.mp4: not a video that can be read")
    write_video(videos / "b.mp4", moving_square(20))
    assert hrpro("detect", chain / "run", videos / "b.mp4", "--out", out, "--device", "cpu").exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "b.json", "c.json"], "it has not failed any more"


def test_detecting_in_a_damaged_video(chain: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", moving_square(100))
    damaged, out = tmp_path / "damaged.mkv", tmp_path / "out"
    damaged.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    words = ("detect", chain / "run", damaged, "--out", out, "--device", "cpu")
    assert "keep what there is by --keep-partial" in hrpro(*words).stderr
    kept = hrpro(*words, "--keep-partial", "--overlay")
    assert kept.exit_code == 0, kept.output
    assert "in part: damaged: cut off: " in kept.stderr
    assert 0 < probe(out / "overlay" / "damaged.mp4").duration_seconds < 4
    found = read_detections(out)["damaged"]
    assert found.classes == ("crawl", "dash")
    assert found.partial_reason is not None
    assert found.duration_seconds is not None
    assert 0 < found.duration_seconds < 4
    assert not read_failures(out)
    assert found.model.endswith(" (random feature weights, NOT Kinetics)")
    together = ("--keep-partial", "--format", "activitynet", "--out", tmp_path / "one" / "all.json")
    assert hrpro(*words[:3], *together, "--device", "cpu").exit_code == 0
    content = json.loads((tmp_path / "one" / "all.json").read_text())
    assert content["external_data"]["partial"] == {"damaged": found.partial_reason}
    (tmp_path / "text.mp4").write_text("no video")
    assert hrpro(*words[:2], tmp_path / "text.mp4", *together, "--device", "cpu").exit_code == 1
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["all.json"], "the folder may be anybody's"


def test_python_interface(chain: Path, tmp_path: Path) -> None:
    overrides = ("extract.resize=32", "extract.crop=32")
    summary = extract_features([chain / "videos"], chain / "features", weights="random", overrides=overrides)
    assert (summary.done, sorted(summary.skipped)) == ([], ["fast", "new", "slow"])
    quick = QUICK[1::2]
    train_detector(chain / "features", chain / "points.csv", tmp_path / "run", overrides=quick, device="cpu")
    ours, theirs = (torch.load(run / "model.pt", weights_only=True) for run in (tmp_path / "run", chain / "run"))
    assert torch.equal(ours["snippet"]["embed.weight"], theirs["snippet"]["embed.weight"])
    detector = Detector.load(str(tmp_path / "run"), device="cpu")
    found = detector(chain / "videos" / "new.mp4")
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
    assert all(item.start < item.end for item in found)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(HrproError, match=r"text\.mp4"):
        detector(tmp_path / "text.mp4")
    hrpro("detect", tmp_path / "run", chain / "features", "--out", tmp_path / "detections", "--device", "cpu")
    segments = [{"label": "dash", "segment": [0.5, 1.5]}]
    truth = tmp_path / "gt.json"
    truth.write_text(json.dumps({"database": {"new": {"subset": "test", "annotations": segments}}}))
    result = evaluate_detections(tmp_path / "detections", truth)
    assert list(result.classes) == ["dash"]
    assert result.num_left_out > 0


def test_features_of_other_weights_are_refused(chain: Path, tmp_path: Path) -> None:
    """A model of random features must not be fed with others."""
    import h5py

    copy = tmp_path / "new.h5"
    copy.write_bytes((chain / "features" / "new.h5").read_bytes())
    with h5py.File(copy, "r+") as file:
        file.attrs["weights"] = json.dumps({"rgb": "git-sha1:1", "flow": "git-sha1:2"})
    result = hrpro("detect", chain / "run", copy, "--out", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 1
    assert "rgb was made with weights git-sha1:1" in result.output


def test_a_backbone_of_pytorchvideo(chain: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    arguments = ("--weights", "random", "--streams", "rgb", "--set", "extract.backbone=x3d_m", *SMALL)
    assert hrpro("extract", chain / "videos", "--out", out, *arguments).exit_code == 0
    assert "rgb 192" in hrpro("info", out).output
    trained = hrpro(
        "train", out, "--points", chain / "points.csv", "--out", tmp_path / "run", "--device", "cpu", *QUICK
    )
    assert trained.exit_code == 0, trained.output
    new = chain / "videos" / "new.mp4"
    assert hrpro("detect", tmp_path / "run", new, "--out", tmp_path / "out", "--device", "cpu").exit_code == 0
    assert json.loads((tmp_path / "out" / "new.json").read_text())["detections"]


def training(chain: Path, run: Path, *more: str) -> list[str]:
    arguments = ["train", chain / "features", "--points", chain / "points.csv", "--out", run, "--device", "cpu"]
    values = (
        "snippet.steps=20",
        "snippet.evaluate_every=2",
        "instance.epochs=20",
        "pyramid.steps=20",
        "pyramid.min_points=0",
        "pyramid.evaluate_every=2",
        "extract.streams=[rgb]",
    )
    quick = [word for value in values for word in ("--set", value)]
    return command(*arguments, *quick, *more)


@pytest.fixture(scope="module")
def undisturbed(chain: Path) -> Path:
    """A run that nobody kills."""
    subprocess.run(training(chain, chain / "undisturbed"), check=True, capture_output=True)
    return chain / "undisturbed"


@pytest.mark.parametrize("stage", ["snippet", "instance", "pyramid"])
def test_training_killed_and_resumed(chain: Path, undisturbed: Path, tmp_path: Path, stage: str) -> None:
    """SIGKILL in each stage; the resumed run ends where an undisturbed one does."""

    def reached(run: Path) -> bool:
        """There is a checkpoint, and the stage has begun."""
        metrics = run / "metrics.jsonl"
        begun = metrics.exists() and f'"{stage}", "step": 2,' in metrics.read_text()
        return begun and (run / "checkpoints" / "last.pt").exists()

    cut = tmp_path / "cut"
    with subprocess.Popen(training(chain, cut), stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while not reached(cut) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    subprocess.run(training(chain, cut, "--resume"), check=True, capture_output=True)
    ours, theirs = (torch.load(run / "model.pt", weights_only=True) for run in (undisturbed, cut))
    for stage in ("snippet", "instance", "pyramid"):
        assert all(torch.equal(ours[stage][name], theirs[stage][name]) for name in ours[stage])
    lines = [(run / "metrics.jsonl").read_text() for run in (undisturbed, cut)]
    assert lines[0] == lines[1]
