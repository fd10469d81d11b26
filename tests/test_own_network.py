"""A network of one's own, several networks in one pass, and which frames each of them sees."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from make_videos import moving_square, write_video

from hrpro_pipeline.cli import main
from hrpro_pipeline.data.features import VideoFeatures, read_features, read_header

# Its features are the mean level of each frame of a clip.
OWN = """
import torch
from hrpro_pipeline import Network


class Means(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(255.0))

    def forward(self, clips):
        return clips.mean(dim=(1, 3, 4)) * self.scale


def build():
    return Network(Means(), width=8, frames=8, rate=5, side=16, mean=0, std=1, bf16=False)
"""
SMALL = ("--set", "extract.resize=32", "--set", "extract.crop=32", "--weights", "random", "--device", "cpu")
QUICK = ("--set", "snippet.steps=4", "--set", "instance.epochs=0", "--set", "pyramid.steps=2", "--device", "cpu")
QUICK = (*QUICK, "--set", "answer.held_out=0")


def hrpro(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return path


def extracted(out: Path, videos: Path, *more: object) -> Result:
    result = hrpro("extract", videos, "--out", out, *SMALL, *more)
    assert result.exit_code == 0, result.output
    return result


def ramp(path: Path, count: int) -> np.ndarray:
    """A video whose frame k has the level 3 k, and these levels."""
    levels = (3 * np.arange(count)).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (count, 32, 32, 3))
    write_video(path, np.ascontiguousarray(frames), codec="ffv1", pix_fmt="bgr0")
    return levels


@pytest.mark.parametrize(("count", "rows"), [(75, 4), (10, 1)])
def test_each_network_sees_its_own_clip(count: int, rows: int, own: Path, tmp_path: Path) -> None:
    """8 frames, every fifth of 25 a second, around the middle of each snippet; the snippet's own for I3D."""
    levels = ramp(tmp_path / "ramp.mkv", count)
    out = tmp_path / "features"
    extracted(out, tmp_path / "ramp.mkv", "--backbone", f"{own}:build,i3d", "--streams", "rgb,flow")
    features = read_features(out / "ramp.h5")
    assert features.header.widths == {"flow": 1024, "i3d": 1024, "mine": 8}
    assert features.header.num_snippets == rows
    for row in range(rows):
        ticks = [int(np.floor(16 * row + 7.5 + 5 * (step - 3.5) + 0.5)) for step in range(8)]
        expected = levels[np.clip(ticks, 0, count - 1)]
        assert np.abs(features.streams["mine"][row] - expected).max() < 1.01
    assert features.header.record["clips"] == {"mine": {"frames": 8, "first_tick": -10, "last_tick": 25}}
    assert features.header.settings["backbones"] == ["mine.py:build", "i3d"]
    assert str(tmp_path) not in json.dumps(features.header.settings), "no paths of this machine"
    alone = tmp_path / "alone"
    extracted(alone, tmp_path / "ramp.mkv")
    two_stream = read_features(alone / "ramp.h5")
    assert np.array_equal(two_stream.streams["rgb"], features.streams["i3d"])
    assert np.array_equal(two_stream.streams["flow"], features.streams["flow"])


def test_files_of_one_network_have_the_settings_that_they_had(tmp_path: Path) -> None:
    """So that no feature file of an earlier version is extracted again."""
    ramp(tmp_path / "ramp.mkv", 20)
    extracted(tmp_path / "features", tmp_path / "ramp.mkv")
    header = read_header(tmp_path / "features" / "ramp.h5")
    assert sorted(header.settings) == [
        *("backbone", "crop", "crop_fusion", "crops", "dtype", "flow_algorithm", "flow_clamp", "flow_rounding"),
        *("flow_variant", "fps", "precision", "resize", "snippet_frames", "streams", "stride"),
    ]
    assert sorted(header.record) == sorted({"clips": 0, **header.record}.keys() - {"clips"})
    assert header.settings["backbone"] == "i3d"


def test_resume_and_other_code(own: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "features"
    videos.mkdir()
    ramp(videos / "a.mkv", 20)
    named = ("--backbone", f"{own}:build")
    assert "1 extracted, 0 there already" in extracted(out, videos, *named).output
    assert read_header(out / "a.h5").widths == {"rgb": 8}, "RGB alone"
    assert "0 extracted, 1 there already" in extracted(out, videos, *named).output
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(own, elsewhere)
    assert "0 extracted, 1 there" in extracted(out, videos, "--backbone", f"{elsewhere / 'mine.py'}:build").output
    own.write_text(OWN.replace("255.0", "254.0"))
    assert "1 extracted" in extracted(out, videos, *named).output
    workers = ("--workers", "2", *named)
    ramp(videos / "b.mkv", 20)
    assert "1 extracted, 1 there already" in extracted(out, videos, *workers).output


def test_code_runs_only_when_its_file_is_named(own: Path, tmp_path: Path) -> None:
    ramp(tmp_path / "a.mkv", 20)
    own.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + OWN)

    def fails(*more: str) -> str:
        result = hrpro("extract", tmp_path / "a.mkv", "--out", tmp_path / "out", *SMALL, *more)
        assert result.exit_code in (1, 2)
        assert "Traceback" not in result.output
        return result.output

    assert "--backbone PATH/mine.py:build" in fails("--set", "extract.backbone=mine.py:build", "--streams", "rgb")
    assert "expected PATH.py:FUNCTION" in fails("--backbone", str(own))
    assert "expected one of i3d" in fails("--backbone", "mvit")
    assert not (tmp_path / "ran").exists()
    assert "no such file" in fails("--backbone", f"{tmp_path}/other.py:build")
    assert "AttributeError" in fails("--backbone", f"{own}:other")
    own.write_text("def build():\n    raise RuntimeError('no weights')")
    assert "mine.py: build() failed (RuntimeError: no weights)" in fails("--backbone", f"{own}:build")
    own.write_text("def build():\n    return 3")
    assert "returned a int, expected a hrpro_pipeline.Network" in fails("--backbone", f"{own}:build")
    own.write_text(OWN.replace("width=8", "width=0"))
    assert "width is 0, expected a positive number" in fails("--backbone", f"{own}:build")
    own.write_text(OWN.replace("width=8", "width=9"))
    assert "gave features [2, 8], expected [2, 9]" in fails("--backbone", f"{own}:build")


def test_detect_on_raw_video_needs_the_same_network(own: Path, tmp_path: Path) -> None:
    """Trained on two networks side by side; nothing but the file of one's own is said again."""
    videos, features, run = tmp_path / "videos", tmp_path / "features", tmp_path / "run"
    videos.mkdir()
    for name, step in (("slow", 1), ("fast", 5)):
        write_video(videos / f"{name}.mp4", moving_square(100, step=step))
    extracted(features, videos, "--backbone", f"{own}:build,swin3d_t")
    assert read_header(features / "slow.h5").widths == {"mine": 8, "swin3d_t": 768}
    (tmp_path / "points.csv").write_text("video_id,class,time\nslow,crawl,2.0\nfast,dash,1.0\nfast,dash,3.1\n")
    result = hrpro("train", features, "--points", tmp_path / "points.csv", "--out", run, *QUICK)
    assert result.exit_code == 0, result.output

    def detect(out: str, source: Path, *more: str) -> Result:
        return hrpro("detect", run, source, "--out", tmp_path / out, "--device", "cpu", *more)

    assert detect("stored", features).exit_code == 0
    result = detect("raw", videos / "slow.mp4")
    assert result.exit_code == 1
    assert "its code runs only when you name it: give its file with --backbone PATH/mine.py:build" in result.output
    result = detect("raw", videos / "slow.mp4", "--backbone", f"{own}:build")
    assert result.exit_code == 0, result.output
    raw, stored = ((tmp_path / out / "slow.json").read_text() for out in ("raw", "stored"))
    assert json.loads(raw) == json.loads(stored) | {"source": "slow.mp4"}
    result = detect("raw", videos / "slow.mp4", "--backbone", f"{own}:other")
    assert "the model was trained with mine.py:build, swin3d_t" in result.output
    own.write_text(OWN + "# changed\n")
    result = detect("raw", videos / "slow.mp4", "--backbone", f"{own}:build")
    assert "the network mine.py:build or its weights changed since the model was trained" in result.output


@pytest.mark.shared
def test_real_videos(own: Path, shared: Path, tmp_path: Path) -> None:
    """All networks of a pass have the same rows at the same seconds, whatever their clips."""
    videos = [shared / "videos" / name for name in ("video_90.mov", "v_GGSY1Qvo990.mp4")]
    for backbones, out in ((f"{own}:build,swin3d_t", "wide"), ("i3d", "narrow")):
        arguments = ("--backbone", backbones, "--streams", "rgb")
        result = hrpro("extract", *videos, "--out", tmp_path / out, *SMALL, *arguments)
        assert result.exit_code == 0, result.output
    for video in videos:
        wide, narrow = (read_features(tmp_path / out / f"{video.stem}.h5") for out in ("wide", "narrow"))
        assert seconds_of(wide) == seconds_of(narrow)
        assert wide.header.num_frames == narrow.header.num_frames
        assert {len(rows) for rows in wide.streams.values()} == {max(1, narrow.header.num_frames // 16)}


def seconds_of(features: VideoFeatures) -> list[float]:
    header = features.header
    return header.clock.to_seconds(np.arange(header.num_snippets)).tolist()
