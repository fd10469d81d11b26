"""Videos to features: the definition computed directly, resuming, and inputs that fail."""

import mmap
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from make_videos import moving_square, write_video

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import VideoFeatures, list_features, read_features
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.backbones import Backbone, load_backbones
from hrpro_pipeline.extract.extractor import Extractor, Job, load_extractor
from hrpro_pipeline.extract.flow import tvl1
from hrpro_pipeline.extract.flow.levels import quantize_flow
from hrpro_pipeline.extract.folder import extract_folder
from hrpro_pipeline.extract.i3d import random_i3d
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.extract.pipeline import extract_video, extract_videos
from hrpro_pipeline.extract.preprocess import Windows, crop_views, gray
from hrpro_pipeline.extract.rows import Rows
from hrpro_pipeline.extract.stages import inputs
from hrpro_pipeline.extract.video.clock import resample
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.frames import FrameChunk, frame_chunks
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.extract.video.resize import resize_frame, resized_size

CPU = torch.device("cpu")
SMALL = ExtractSettings(precision="float32", resize=40, crop=32)
RGB_ONLY = ExtractSettings(resize=32, crop=32, streams=("rgb",))
RANDOM = ExtractOptions(weights="random", device="cpu")


@pytest.fixture(scope="module")
def backbones() -> dict[str, Backbone]:
    return load_backbones(SMALL, "random", CPU)


def extractor_of(
    backbones: dict[str, Backbone], settings: ExtractSettings, flow: str = "opencv", **options: Any
) -> Extractor:
    chosen = {stream: backbones[stream] for stream in settings.streams}
    return Extractor(settings, chosen, flow, CPU, **options)


def extract(path: Path, backbones: dict[str, Backbone], settings: ExtractSettings, **options: Any) -> VideoFeatures:
    return extract_video(path, extractor_of(backbones, settings, **options))


def direct(path: Path, backbones: dict[str, Backbone], settings: ExtractSettings) -> dict[str, np.ndarray]:
    """The contract's definition with the whole video in memory: windows by index, no streaming."""
    frames = list(resample(decode(path), probe(path), settings.fps))
    size = resized_size(frames[0].shape[1], frames[0].shape[0], settings.resize)
    resized = [resize_frame(frame, size) for frame in frames]
    rgb = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    flow = tvl1(np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in resized]), "opencv")
    flow = torch.cat([flow, flow[-1:]])  # N frames have N - 1 flows
    count = max(1, (len(frames) - settings.snippet_frames) // settings.stride + 1)
    found: dict[str, np.ndarray] = {}
    for stream, images in (("rgb", rgb), ("flow", flow)):
        rows = []
        for t in range(count):
            index = torch.arange(t * settings.stride, t * settings.stride + settings.snippet_frames)
            clip = images[index.clamp(max=len(images) - 1)].transpose(0, 1)  # [channels, t, H, W]
            views = torch.stack(direct_crops(clip, stream, settings))
            if stream == "flow":
                views = quantize_flow(views, settings.flow_clamp)
            with torch.inference_mode():
                features = backbones[stream].module(views)[:, 0]
            rows.append((features.mean(0) if settings.crop_fusion == "mean" else features.flatten()).numpy())
        found[stream] = np.stack(rows)
    return found


def direct_crops(clip: torch.Tensor, stream: str, settings: ExtractSettings) -> list[torch.Tensor]:
    side, (height, width) = settings.crop, clip.shape[-2:]
    places = [((height - side) // 2, (width - side) // 2)]
    if settings.crops != "center":
        places = [(0, 0), (0, width - side), (height - side, 0), (height - side, width - side), *places]
    views = [clip[..., top : top + side, left : left + side] for top, left in places]
    if settings.crops == "ten":
        mirrored = [torch.from_numpy(view.numpy()[..., ::-1].copy()) for view in views]
        if stream == "flow":
            for view in mirrored:
                view[0] *= -1
        views += mirrored
    return views


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


@pytest.mark.parametrize("crops", ["five", "ten"])
@pytest.mark.parametrize("fusion", ["mean", "stacked"])
def test_several_crops(crops: Any, fusion: Any, tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    path = write_video(tmp_path / "made.mp4", moving_square(20))
    settings = ExtractSettings(resize=40, crop=32, crops=crops, crop_fusion=fusion, precision="float32")
    features = extract(path, backbones, settings)
    expected = direct(path, backbones, settings)
    count = {"five": 5, "ten": 10}[crops]
    for stream in ("rgb", "flow"):
        assert features.streams[stream].shape == (1, 1024 if fusion == "mean" else 1024 * count)
        np.testing.assert_allclose(features.streams[stream], expected[stream], rtol=1e-4, atol=1e-5)


def test_batches_do_not_change_the_features(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    path = write_video(tmp_path / "made.mp4", moving_square(45))
    settings = ExtractSettings(resize=40, crop=32, stride=8)
    whole = extract(path, backbones, settings, batch=100, flow="torch")
    for batch in (1, 3):
        parts = extract(path, backbones, settings, batch=batch, flow="torch")
        for stream in ("rgb", "flow"):
            np.testing.assert_allclose(parts.streams[stream], whole.streams[stream], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("precision", "snippet_frames"), [("float32", 16), ("bf16", 9)])
def test_videos_share_batches_and_do_not_touch_each_other(
    precision: Any, snippet_frames: int, tmp_path: Path, backbones: dict[str, Backbone]
) -> None:
    """Videos of 1 to 4 snippets, three snippets a batch, several lanes: to the bit what each gives alone."""
    settings = ExtractSettings(resize=40, crop=32, precision=precision, snippet_frames=snippet_frames)
    networks = load_backbones(settings, "random", CPU)
    videos = {f"v{k}": write_video(tmp_path / f"v{k}.mp4", moving_square(16 * k + 3, seed=k)) for k in range(1, 5)}
    (tmp_path / "text.mp4").write_text("no video")
    given = [*videos.items(), ("text", tmp_path / "text.mp4"), ("again", videos["v3"])]
    sizes = []

    def watched(self: Backbone, levels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(levels))
        return features(self, levels)

    features = Backbone.features
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "features", watched)
        together = dict(
            extract_videos(
                [Job(*map(str, each)) for each in given], extractor_of(networks, settings, "torch", batch=3, lanes=2)
            )
        )
    assert sizes == [3] * 2 * 5, "13 snippets in five full batches for each stream"
    assert sorted(together) == ["again", "text", "v1", "v2", "v3", "v4"]
    assert "not a video that can be read" in str(together.pop("text"))
    for video_id, found in together.items():
        assert isinstance(found, VideoFeatures)
        alone = extract(videos.get(video_id, videos["v3"]), networks, settings, flow="torch", batch=3)
        for stream in ("rgb", "flow"):
            np.testing.assert_array_equal(found.streams[stream], alone.streams[stream])


def test_frames_shown_twice_are_computed_once(
    tmp_path: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "slow.mp4", moving_square(20), fps=10)
    pairs = []

    def counting(frames: torch.Tensor, *options: Any) -> torch.Tensor:
        pairs.append(len(frames) - 1)
        return tvl1(frames, *options)

    monkeypatch.setattr(inputs, "tvl1", counting)
    features = extract(path, backbones, SMALL)
    monkeypatch.undo()
    assert features.header.num_frames == 50
    assert sum(pairs) == 19
    expected = direct(path, backbones, SMALL)
    np.testing.assert_allclose(features.streams["flow"], expected["flow"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_chunks_hold_each_frame_once(size: int) -> None:
    frames = list(moving_square(20, width=64, height=48))
    times = [1, 3, 1, 5] * 5
    shown = [frame for frame, count in zip(frames, times, strict=True) for _ in range(count)]
    chunks = list(frame_chunks(iter(shown), 48, size))
    assert [len(chunk.ticks) for chunk in chunks] == [size] * (20 // size) + ([20 % size] if 20 % size else [])
    assert [ticks for chunk in chunks for ticks in chunk.ticks] == times
    np.testing.assert_array_equal(np.concatenate([chunk.frames for chunk in chunks]), np.stack(frames))


def test_chunks_of_large_frames_are_small() -> None:
    frames = (np.full((1000, 4000, 3), k, np.uint8) for k in range(7))
    assert [len(chunk.ticks) for chunk in frame_chunks(frames, (4000, 1000))] == [2, 2, 2, 1]


def test_memory_is_bounded(tmp_path: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    """While the networks are slow, what comes before them waits after a few chunks, however long the video is."""
    path = write_video(tmp_path / "long.mp4", moving_square(1500, width=32, height=32))
    prepared, used, ahead = 0, 0, []
    chunk_inputs = inputs._chunk_inputs

    def counting(video: Any, chunk: FrameChunk, *rest: Any) -> Any:
        nonlocal prepared
        prepared += sum(chunk.ticks)
        return chunk_inputs(video, chunk, *rest)

    def slow(self: Backbone, levels: torch.Tensor) -> torch.Tensor:
        nonlocal used
        used += len(levels) * 16
        time.sleep(0.01)
        ahead.append(prepared - used)
        return torch.zeros(len(levels), 1024)

    monkeypatch.setattr(inputs, "_chunk_inputs", counting)
    monkeypatch.setattr(Backbone, "features", slow)
    features = extract(path, backbones, RGB_ONLY)
    assert features.header.num_snippets == 93
    # The chunk in hand, two that wait, and one that waits to wait.
    assert max(ahead) <= 64 * 5
    assert max(ahead) > 64, "stages overlap"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
def test_rows_beyond_a_block_lie_in_a_file(count: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrpro_pipeline.extract.rows._BLOCK", 4)
    expected = np.random.default_rng(0).random((count, 6)).astype(dtype)
    rows = Rows()
    for row in expected:
        rows.append(row)
    array = rows.array()
    del rows
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, expected)
    owner = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    assert isinstance(owner, mmap.mmap) == (count >= 4)


def test_rows_in_a_file_are_the_same_features(
    tmp_path: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(100))
    expected = extract(path, backbones, SMALL, flow="torch").streams
    monkeypatch.setattr("hrpro_pipeline.extract.rows._BLOCK", 4)
    found = extract(path, backbones, SMALL, flow="torch").streams
    for stream in ("rgb", "flow"):
        np.testing.assert_array_equal(found[stream], expected[stream])


def test_one_frame_one_stream_and_storage(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    path = write_video(tmp_path / "one.mp4", moving_square(1))
    features = extract(path, backbones, SMALL)
    assert {name: array.shape for name, array in features.streams.items()} == {"rgb": (1, 1024), "flow": (1, 1024)}
    for streams in (("rgb",), ("flow",)):
        half = ExtractSettings(resize=40, crop=32, streams=streams, dtype="float16")
        assert list(load_backbones(half, "random", CPU)) == list(streams), "the other network is not loaded"
        alone = extract(path, backbones, half)
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
    assert header.record["fallback_reason"] is None
    assert header.record["frames_decoded"] == 20
    assert header.source["size"] == path.stat().st_size
    assert header.source["fps"] == 25
    assert header.weights["rgb"] == "random (seed 0), NOT Kinetics"


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
        extract(shared / "videos" / name, backbones, settings, flow=backend).streams["flow"]
        for backend in ("torch", "opencv")
    )
    cosine = (ours * opencv).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(opencv, axis=1)
    assert cosine.min() >= 0.999


def test_bf16_features_are_those_of_float32(tmp_path: Path, backbones: dict[str, Backbone]) -> None:
    path = write_video(tmp_path / "made.mp4", moving_square(50))
    settings = ExtractSettings(resize=32, crop=32, precision="bf16")  # processors without bf16 are slow at it
    rounded = extract(path, load_backbones(settings, "random", CPU), settings, flow="torch")
    plain = extract(path, backbones, settings, flow="torch")
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
        features = extract(path, backbones, settings, flow="torch")
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
    windows: Windows[int] = Windows(length, stride)
    found = [window for item in range(count) if (window := windows.push(item))]
    final = windows.final()
    assert found + ([final] if final else []) == expected


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


def test_gray_and_resize_on_a_device_are_opencv_s() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 90, 120, 3), dtype=np.uint8)
    expected = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    np.testing.assert_array_equal(gray(torch.from_numpy(frames)).numpy(), expected)
    smooth = cv2.GaussianBlur(frames[0], (0, 0), 2)
    for size in ((60, 45), (53, 40), (200, 150), (120, 90)):
        found = resize_frame(torch.from_numpy(smooth), size).numpy().astype(int)
        assert found.shape == (size[1], size[0], 3)
        assert np.abs(found - resize_frame(smooth, size)).max() <= 1


def test_crop_views() -> None:
    image = torch.arange(5 * 6).view(1, 5, 6)
    center = crop_views(image, 3, "center")
    assert [view.tolist() for view in center] == [[[[7, 8, 9], [13, 14, 15], [19, 20, 21]]]]
    five = crop_views(image, 3, "five")
    assert [int(view[0, 0, 0]) for view in five] == [0, 3, 12, 15, 7]
    ten = crop_views(image, 3, "ten")
    assert [int(view[0, 0, 0]) for view in ten] == [0, 3, 12, 15, 7, 2, 5, 14, 17, 9]


def test_out_of_memory_takes_half_of_a_batch(
    tmp_path: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "made.mp4", moving_square(70))
    expected = extract(path, backbones, RGB_ONLY, batch=4)
    features = Backbone.features

    def small(self: Backbone, levels: torch.Tensor) -> torch.Tensor:
        if len(levels) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(self, levels)

    monkeypatch.setattr(Backbone, "features", small)
    most = 1
    found = extract(path, backbones, RGB_ONLY, batch=4)
    np.testing.assert_allclose(found.streams["rgb"], expected.streams["rgb"], rtol=1e-4, atol=1e-5)
    assert "out of GPU memory with 4 clips: trying 2" in caplog.text
    most = 0
    with pytest.raises(HrproError, match="made: OutOfMemoryError: CUDA out of memory"):
        extract(path, backbones, RGB_ONLY, batch=4)


@pytest.mark.gpu
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_a_gpu_gives_what_the_cpu_gives(tmp_path: Path, decoder: str) -> None:
    """Alone and together, from frames decoded on the GPU (auto, where NVDEC takes the file) and on the CPU."""
    for k in range(3):
        write_video(tmp_path / f"v{k}.mp4", moving_square(40 + 16 * k, width=320, height=256, seed=k), codec="libx264")
    settings = ExtractSettings(precision="float32")
    options = ExtractOptions(weights="random", device="cuda", decoder=decoder)
    summary = extract_folder([tmp_path], tmp_path / "gpu", settings, options)
    assert summary.failed == []
    extract_folder([tmp_path / "v1.mp4"], tmp_path / "alone", settings, options)
    extract_folder([tmp_path], tmp_path / "cpu", settings, RANDOM)
    together, alone = (read_features(tmp_path / folder / "v1.h5").streams for folder in ("gpu", "alone"))
    for k in range(3):
        ours, theirs = (read_features(tmp_path / folder / f"v{k}.h5").streams for folder in ("gpu", "cpu"))
        for stream in ("rgb", "flow"):
            assert ours[stream].shape == theirs[stream].shape
            cosine = torch.cosine_similarity(torch.from_numpy(ours[stream]), torch.from_numpy(theirs[stream]))
            assert cosine.min() >= 0.99, f"{decoder}: {stream}"
            np.testing.assert_array_equal(together[stream], alone[stream])
