"""Videos to features: the definition computed directly, batches, streams and what is recorded."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from make_videos import moving_square, write_video
from small_extraction import CPU, RANDOM, SMALL, extract, extractor_of

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import VideoFeatures, read_features
from hrpro_pipeline.extract.backbones import Backbone, load_backbones
from hrpro_pipeline.extract.extractor import Job
from hrpro_pipeline.extract.flow import tvl1
from hrpro_pipeline.extract.flow.levels import quantize_flow
from hrpro_pipeline.extract.folder import extract_folder
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.extract.pipeline import extract_videos
from hrpro_pipeline.extract.stages import inputs
from hrpro_pipeline.extract.video.clock import resample
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.extract.video.resize import resize_frame, resized_size


@pytest.fixture(scope="module")
def backbones() -> dict[str, Backbone]:
    return load_backbones(SMALL, "random", CPU)


def direct(path: Path, backbones: dict[str, Backbone], settings: ExtractSettings) -> dict[str, np.ndarray]:
    """The definition with the whole video in memory: windows by index, no streaming."""
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
