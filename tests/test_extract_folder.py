"""Folders of videos to feature files: what is repeated, what fails alone, and a run that is killed."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_videos import moving_square, write_video
from small_extraction import RANDOM, RGB_ONLY

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import VideoFeatures, list_features, read_features
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.extractor import Job, load_extractor
from hrpro_pipeline.extract.folder import extract_folder
from hrpro_pipeline.extract.i3d import random_i3d
from hrpro_pipeline.extract.pipeline import extract_videos


@pytest.mark.shared
def test_all_real_videos_and_one_that_fails(shared: Path, tmp_path: Path) -> None:
    seen: dict[str, str] = {}
    summary = extract_folder([shared / "videos"], tmp_path, RGB_ONLY, RANDOM, on_video=seen.__setitem__)
    lengths = {video_id: read_features(path).header.num_snippets for video_id, path in list_features(tmp_path).items()}
    assert lengths == {
        "arm_wrestling": 15,
        "flipping_a_pancake": 16,
        "mm_test": 10,
        "structuralize": 15,
        "unordered": 1,
        "v_GGSY1Qvo990": 28,
        "video_0": 1,
        "video_90": 1,
        "video_180": 1,
    }
    assert [failure.video_id for failure in summary.failed] == ["corrupted"]
    assert "decoding stopped after 28 of 50 frames" in summary.failed[0].reason
    assert "\n" not in summary.failed[0].reason
    assert sorted(summary.done) == sorted(lengths)
    assert seen == dict.fromkeys(lengths, "done") | {"corrupted": "failed"}


def test_again_extracts_only_what_is_missing_or_changed(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "features"
    videos.mkdir()
    for name in ("a", "b", "c"):
        write_video(videos / f"{name}.mp4", moving_square(18, seed=ord(name)))

    def run(
        settings: ExtractSettings = RGB_ONLY, overwrite: bool = False, **options: Any
    ) -> tuple[list[str], list[str]]:
        summary = extract_folder([videos], out, settings, replace(RANDOM, **options), overwrite=overwrite)
        assert summary.failed == []
        return summary.done, summary.skipped

    assert run() == (["a", "b", "c"], [])
    before = (out / "a.h5").stat().st_mtime_ns
    assert run() == ([], ["a", "b", "c"])
    assert (out / "a.h5").stat().st_mtime_ns == before
    (out / "b.h5").unlink()
    (out / "c.h5").write_bytes(b"damaged")
    assert run() == (["b", "c"], ["a"])
    write_video(videos / "a.mp4", moving_square(20, seed=9))
    assert run() == (["a"], ["b", "c"]), "another video under the same name"
    assert run(decoder="pyav") == ([], ["a", "b", "c"]), "the decoder does not shape the numbers"
    other = ExtractSettings(resize=32, crop=32, streams=("rgb",), stride=8)
    assert run(other) == (["a", "b", "c"], [])
    assert run(other, overwrite=True) == (["a", "b", "c"], [])
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(random_i3d("rgb", 0).state_dict(), folder / "rgb.pt")
    assert run(other, weights=str(folder)) == (["a", "b", "c"], []), "other weights"


def test_bad_inputs_cost_only_themselves(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "features"
    videos.mkdir()
    write_video(videos / "good.mp4", moving_square(3))
    (videos / "empty.mp4").touch()
    (videos / "text.mp4").write_text("no video")
    cut = write_video(videos / "cut.mp4", moving_square(40))
    cut.write_bytes(cut.read_bytes()[:-300])  # an MP4 without the end of its index
    summary = extract_folder([videos], out, RGB_ONLY, RANDOM)
    assert summary.done == ["good"]
    assert [failure.video_id for failure in summary.failed] == ["cut", "empty", "text"]
    assert all("\n" not in failure.reason for failure in summary.failed)
    names = {path.name for path in out.iterdir()}
    assert names == {"failures.jsonl", "good.h5"}, "nothing is left of the others"
    jobs = [Job(name, str(videos / f"{name}.mp4")) for name in ("good", "text")]
    results = dict(extract_videos(jobs, load_extractor(RGB_ONLY, RANDOM)))
    assert isinstance(results["good"], VideoFeatures)
    assert isinstance(results["text"], HrproError)
    np.testing.assert_array_equal(results["good"].streams["rgb"], read_features(out / "good.h5").streams["rgb"])


def test_what_concerns_all_videos_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(2))
    with pytest.raises(HrproError, match="no such file"):
        extract_folder([tmp_path / "none.mp4"], tmp_path, RGB_ONLY, RANDOM)
    with pytest.raises(HrproError, match="CUDA GPUs; use `device=cpu`"):
        extract_folder([path], tmp_path, RGB_ONLY, replace(RANDOM, device="cuda:99"))
    with pytest.raises(HrproError, match="decoder 'vlc'"):
        extract_folder([path], tmp_path, RGB_ONLY, replace(RANDOM, decoder="vlc"))
    with pytest.raises(HrproError, match="flow backend 'raft'"):
        extract_folder([path], tmp_path, RGB_ONLY, replace(RANDOM, flow="raft"))


KILLED = """
import sys
from pathlib import Path
import torch
from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.extract.folder import extract_folder
from hrpro_pipeline.extract.options import ExtractOptions
torch.set_num_threads(1)
options = ExtractOptions(weights="random", device="cpu")
settings = ExtractSettings(resize=32, crop=32, streams=("rgb",))
say = lambda video_id, status: (sys.stdout.write(video_id + "\\n"), sys.stdout.flush())
extract_folder([Path(sys.argv[1])], Path(sys.argv[2]), settings, options, on_video=say)
"""


def test_kill_in_the_middle_leaves_only_whole_files(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "features"
    videos.mkdir()
    for k in range(8):
        write_video(videos / f"v{k}.mp4", moving_square(60, seed=k))
    command = [sys.executable, "-c", KILLED, str(videos), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "v0\n"
    assert process.stdout.readline() == "v1\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    whole = list_features(out)
    assert 2 <= len(whole) < 8, "killed in the middle"
    for path in whole.values():
        assert read_features(path).header.num_snippets == 3
    summary = extract_folder([videos], out, RGB_ONLY, RANDOM)
    assert summary.skipped == sorted(whole)
    assert len(summary.done) == 8 - len(whole)
