"""Videos to features: the definition computed directly, resuming, and inputs that fail."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_videos import moving_square, write_video

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import VideoFeatures, list_features, read_features
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract import extractor
from hrpro_pipeline.extract.backbones import Backbone, load_backbones
from hrpro_pipeline.extract.decoders import decode
from hrpro_pipeline.extract.extractor import extract_video
from hrpro_pipeline.extract.flow import quantise_flow, tvl1
from hrpro_pipeline.extract.i3d import random_i3d
from hrpro_pipeline.extract.job import extract_each, extract_folder
from hrpro_pipeline.extract.preprocess import centre_crop, gray, resize_frame, resized_size, windows
from hrpro_pipeline.extract.video import probe, resample

CPU = torch.device("cpu")
SMALL = ExtractSettings(precision="float32", resize=40, crop=32)
RGB_ONLY = ExtractSettings(resize=32, crop=32, streams=("rgb",))


@pytest.fixture(scope="module")
def backbones() -> dict[str, Backbone]:
    return load_backbones(SMALL, "random", CPU)


def extract(path: Path, backbones: dict[str, Backbone], settings: ExtractSettings, **options: Any) -> VideoFeatures:
    return extract_video(path, settings, backbones, flow_backend="opencv", device=CPU, **options)


def direct(path: Path, backbones: dict[str, Backbone], settings: ExtractSettings) -> dict[str, np.ndarray]:
    """The contract's definition with the whole video in memory: windows by index, no streaming."""
    frames = list(resample(decode(path), probe(path), settings.fps))
    size = resized_size(frames[0].shape[1], frames[0].shape[0], settings.resize)
    resized = [resize_frame(frame, size) for frame in frames]
    rgb = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    flow = quantise_flow(tvl1(np.stack([gray(frame) for frame in resized]), "opencv"), settings.flow_clamp)
    flow = torch.cat([flow, flow[-1:]])  # N frames have N - 1 flows
    count = max(1, (len(frames) - settings.snippet_frames) // settings.stride + 1)
    found: dict[str, np.ndarray] = {}
    for stream, images in (("rgb", rgb), ("flow", flow)):
        rows = []
        for t in range(count):
            index = torch.arange(t * settings.stride, t * settings.stride + settings.snippet_frames)
            clip = centre_crop(images[index.clamp(max=len(images) - 1)], settings.crop).transpose(0, 1)[None]
            with torch.inference_mode():
                rows.append(backbones[stream].module(clip)[0, 0].numpy())
        found[stream] = np.stack(rows)
    return found


@pytest.mark.parametrize(
    ("count", "stride", "snippets"), [(50, 16, 3), (50, 4, 9), (41, 20, 2), (16, 16, 1), (9, 16, 1), (33, 8, 3)]
)
def test_features_are_those_of_the_definition(
    count: int, stride: int, snippets: int, tmp_path: Path, backbones: dict[str, Backbone]
) -> None:
    path = write_video(tmp_path / "made.mp4", moving_square(count))
    settings = ExtractSettings(resize=40, crop=32, stride=stride)
    features = extract(path, backbones, settings)
    expected = direct(path, backbones, settings)
    assert features.header.num_snippets == snippets == features.header.clock.num_snippets(count)
    assert features.header.num_frames == count
    for stream in ("rgb", "flow"):
        assert features.streams[stream].shape == (snippets, 1024)
        np.testing.assert_allclose(features.streams[stream], expected[stream], rtol=1e-4, atol=1e-5)


def test_chunks_and_batches_do_not_change_the_features(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    path = write_video(tmp_path / "made.mp4", moving_square(45))
    settings = ExtractSettings(resize=40, crop=32, stride=8)
    whole = extract(path, backbones, settings, chunk_frames=1000, batch=100)
    for chunk_frames, batch in ((1, 1), (7, 2), (16, 3)):
        parts = extract(path, backbones, settings, chunk_frames=chunk_frames, batch=batch)
        for stream in ("rgb", "flow"):
            np.testing.assert_allclose(parts.streams[stream], whole.streams[stream], rtol=1e-4, atol=1e-5)


def test_frames_shown_twice_are_computed_once(
    tmp_path: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "slow.mp4", moving_square(20), fps=10)
    pairs = []

    def counting(frames: np.ndarray, *options: Any) -> torch.Tensor:
        pairs.append(len(frames) - 1)
        return tvl1(frames, *options)

    monkeypatch.setattr(extractor, "tvl1", counting)
    features = extract(path, backbones, SMALL)
    monkeypatch.undo()
    assert features.header.num_frames == 50
    assert sum(pairs) == 19
    expected = direct(path, backbones, SMALL)
    np.testing.assert_allclose(features.streams["flow"], expected["flow"], rtol=1e-4, atol=1e-5)


def test_memory_is_bounded(tmp_path: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    """While a video streams, frames taken from the decoder are at most a chunk and a few snippets ahead."""
    path = write_video(tmp_path / "long.mp4", moving_square(200, width=32, height=32))
    taken, used, ahead = 0, 0, []
    rgb = backbones["rgb"]

    def on_frame(count: int, total: int) -> None:
        nonlocal taken
        taken = count

    def watching(self: Backbone, levels: torch.Tensor) -> torch.Tensor:
        nonlocal used
        used += len(levels) * 16
        ahead.append(taken - used)
        return torch.zeros(len(levels), 1024)

    monkeypatch.setattr(Backbone, "features", watching)
    features = extract(path, {"rgb": rgb}, RGB_ONLY, batch=2, on_frame=on_frame)
    assert features.header.num_snippets == 12
    assert max(ahead) <= 16


def test_one_frame_one_stream_and_storage(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    path = write_video(tmp_path / "one.mp4", moving_square(1))
    features = extract(path, backbones, SMALL)
    assert {name: array.shape for name, array in features.streams.items()} == {"rgb": (1, 1024), "flow": (1, 1024)}
    for streams in (("rgb",), ("flow",)):
        half = ExtractSettings(resize=40, crop=32, streams=streams, dtype="float16")
        assert list(load_backbones(half, "random", CPU)) == list(streams), "the other network is not loaded"
        alone = extract(path, {streams[0]: backbones[streams[0]]}, half)
        assert list(alone.streams) == list(streams)
        assert alone.streams[streams[0]].dtype == np.float16
        np.testing.assert_allclose(alone.streams[streams[0]], features.streams[streams[0]], rtol=2e-3, atol=1e-3)


def test_odd_sizes_and_fixed_size(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    path = write_video(tmp_path / "odd.mkv", moving_square(18, width=98, height=34))
    for resize in (33, (48, 40)):
        features = extract(path, backbones, ExtractSettings(resize=resize, crop=32))
        assert features.header.num_snippets == 1


def test_record_and_settings(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    path = write_video(tmp_path / "made one.mp4", moving_square(20))
    header = extract(path, backbones, SMALL, decoder="pyav").header
    assert header.video_id == "made one"
    assert header.settings["flow_algorithm"] == "tvl1-opencv"
    assert header.settings["flow_rounding"] == "rounded"
    assert header.settings["flow_variant"] == "opencv"
    assert header.settings["resize"] == 40
    assert header.record["decoder"] == "pyav"
    assert header.record["decoder_fallback"] is None
    assert header.record["frames_decoded"] == 20
    assert header.source["size"] == path.stat().st_size
    assert header.source["fps"] == 25
    assert header.weights["rgb"] == "random (seed 0), NOT Kinetics"


@pytest.mark.shared
def test_all_real_videos_and_one_that_fails(shared: Path, tmp_path: Path) -> None:
    seen: dict[str, str] = {}
    summary = extract_folder(
        [shared / "videos"], tmp_path, RGB_ONLY, weights="random", device="cpu", on_video=seen.__setitem__
    )
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


@pytest.mark.shared
def test_both_streams_of_a_real_video(shared: Path, backbones: dict[str, Backbone]) -> None:
    for name in ("unordered.mov", "video_90.mov"):
        features = extract(shared / "videos" / name, backbones, SMALL)
        assert features.streams["rgb"].shape == features.streams["flow"].shape == (1, 1024)
        assert np.isfinite(features.joined()).all()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["video_0.mov", "unordered.mov"])
def test_features_do_not_care_whose_flow_it_is(shared: Path, backbones: dict[str, Backbone], name: str) -> None:
    settings = ExtractSettings(resize=64, crop=64, streams=("flow",))
    ours, opencv = (
        extract_video(shared / "videos" / name, settings, backbones, flow_backend=backend, device=CPU).streams["flow"]
        for backend in ("torch", "opencv")
    )
    cosine = (ours * opencv).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(opencv, axis=1)
    assert cosine.min() >= 0.999


def test_bf16_features_are_those_of_float32(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    path = write_video(tmp_path / "made.mp4", moving_square(50))
    settings = ExtractSettings(resize=64, crop=64, precision="bf16")
    rounded = extract(path, load_backbones(settings, "random", CPU), settings)
    plain = extract(path, backbones, settings)
    assert rounded.header.record["precision"] == {"rgb": "bfloat16", "flow": "bfloat16"}
    assert plain.header.record["precision"] == {"rgb": "float32", "flow": "float32"}
    for stream, ours in rounded.streams.items():
        theirs = plain.streams[stream]
        assert ours.dtype == np.float32
        assert not np.array_equal(ours, theirs)
        cosine = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        assert cosine.min() >= 0.999


def test_variants_of_flow_are_used_and_written(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    path = write_video(tmp_path / "made.mp4", moving_square(20, step=3))
    found = []
    for variant, rounding in (("opencv", "rounded"), ("opencv_cuda", "rounded"), ("opencv", "floored")):
        settings = ExtractSettings(resize=40, crop=32, streams=("flow",), flow_variant=variant, flow_rounding=rounding)
        features = extract_video(path, settings, backbones, flow_backend="torch", device=CPU)
        assert features.header.settings["flow_variant"] == variant
        assert features.header.settings["flow_rounding"] == rounding
        found.append(features.streams["flow"])
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_again_extracts_only_what_is_missing_or_changed(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "features"
    videos.mkdir()
    for name in ("a", "b", "c"):
        write_video(videos / f"{name}.mp4", moving_square(18, seed=ord(name)))

    def run(settings: ExtractSettings = RGB_ONLY, **options: Any) -> tuple[list[str], list[str]]:
        summary = extract_folder([videos], out, settings, **{"weights": "random", "device": "cpu", **options})
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
    summary = extract_folder([videos], out, RGB_ONLY, weights="random", device="cpu")
    assert summary.done == ["good"]
    assert [failure.video_id for failure in summary.failed] == ["cut", "empty", "text"]
    assert all("\n" not in failure.reason for failure in summary.failed)
    assert sorted(path.name for path in out.iterdir()) == ["good.h5"], "nothing is left of the others"
    results = dict(extract_each({"good": videos / "good.mp4", "text": videos / "text.mp4"}, RGB_ONLY, weights="random"))
    assert isinstance(results["good"], VideoFeatures)
    assert isinstance(results["text"], HrproError)
    np.testing.assert_array_equal(results["good"].streams["rgb"], read_features(out / "good.h5").streams["rgb"])


def test_what_concerns_all_videos_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(2))
    with pytest.raises(HrproError, match="no such file"):
        extract_folder([tmp_path / "none.mp4"], tmp_path, RGB_ONLY, weights="random")
    with pytest.raises(HrproError, match="CUDA GPUs; use --device cpu"):
        extract_folder([path], tmp_path, RGB_ONLY, weights="random", device="cuda:99")
    with pytest.raises(HrproError, match="decoder 'vlc'"):
        extract_folder([path], tmp_path, RGB_ONLY, weights="random", decoder="vlc")
    with pytest.raises(HrproError, match="flow backend 'raft'"):
        extract_folder([path], tmp_path, RGB_ONLY, weights="random", flow="raft")


KILLED = """
import sys
from pathlib import Path
import torch
from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.extract.job import extract_folder
torch.set_num_threads(1)
settings = ExtractSettings(resize=32, crop=32, streams=("rgb",))
say = lambda video_id, status: (sys.stdout.write(video_id + "\\n"), sys.stdout.flush())
extract_folder([Path(sys.argv[1])], Path(sys.argv[2]), settings, weights="random", device="cpu", on_video=say)
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
    summary = extract_folder([videos], out, RGB_ONLY, weights="random", device="cpu")
    assert summary.skipped == sorted(whole)
    assert len(summary.done) == 8 - len(whole)


@pytest.mark.parametrize(
    ("count", "length", "stride", "expected"),
    [
        (0, 3, 3, []),
        (2, 3, 3, [[0, 1, 1]]),
        (3, 3, 3, [[0, 1, 2]]),
        (7, 3, 3, [[0, 1, 2], [3, 4, 5]]),
        (6, 3, 2, [[0, 1, 2], [2, 3, 4]]),
        (9, 3, 4, [[0, 1, 2], [4, 5, 6]]),
    ],
)
def test_windows(count: int, length: int, stride: int, expected: list[list[int]]) -> None:
    assert list(windows(range(count), length, stride)) == expected


@pytest.mark.parametrize(
    ("width", "height", "resize", "expected"),
    [
        (320, 240, 256, (341, 256)),
        (240, 320, 256, (256, 341)),
        (1280, 720, (340, 256), (340, 256)),
        (50, 50, 64, (64, 64)),
    ],
)
def test_resized_size(width: int, height: int, resize: Any, expected: tuple[int, int]) -> None:
    assert resized_size(width, height, resize) == expected
