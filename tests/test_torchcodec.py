"""Frames by torchcodec, on the CPU and by NVDEC: the same, or refused with a reason."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from decoded_frames import all_frames, assert_same_frames
from make_videos import MADE, MPEG_STREAMS, moving_square, write_video

from hrpro_pipeline.extract.video import reading
from hrpro_pipeline.extract.video import torchcodec as torchcodec_frames
from hrpro_pipeline.extract.video.decoding import Decoding, decode

REAL = (
    *("arm_wrestling.mp4", "flipping_a_pancake.mkv", "mm_test.avi", "structuralize.mp4", "unordered.mov"),
    *("v_GGSY1Qvo990.mp4", "video_0.mov", "video_90.mov", "video_180.mov"),
)


@pytest.mark.parametrize("name", MADE)
def test_torchcodec_gives_the_same_or_refuses(made_folder: Path, name: str, torchcodec: None) -> None:
    """Bit for bit: on the CPU it converts color as PyAV does. Which files it refuses depends on FFmpeg's version."""
    decoding = decode(made_folder / name, "torchcodec")
    assert_same_frames(decoding, all_frames(decode(made_folder / name, "pyav")))
    assert decoding.decoder_device == "cpu"
    assert (decoding.decoder == "torchcodec") == (decoding.fallback_reason is None)
    if name in MPEG_STREAMS:
        assert decoding.decoder == "pyav"
    elif name.startswith(("h264.m", "vp9", "h264_10bit", "odd", "rotated", "irregular")):
        assert decoding.decoder == "torchcodec"


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_torchcodec_agrees_on_real_videos(shared: Path, name: str, torchcodec: None) -> None:
    decoding = decode(shared / "videos" / name, "torchcodec")
    for (time_a, frame_a), (time_b, frame_b) in zip(decoding, decode(shared / "videos" / name, "pyav"), strict=True):
        assert time_a == time_b
        assert np.array_equal(frame_a, frame_b)
    assert (decoding.decoder == "torchcodec") == (name != "mm_test.avi")


def all_frames_on_gpu(decoding: Decoding) -> tuple[list[float], np.ndarray]:
    times, frames = [], []
    for seconds, frame in decoding:
        assert isinstance(frame, torch.Tensor)
        assert (frame.device, frame.dtype) == (torch.device("cuda:0"), torch.uint8)
        times.append(seconds)
        frames.append(frame.cpu().numpy())
    return times, np.stack(frames)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["h264.mp4", "irregular.mkv", "hevc.mp4", "rotated_90.mp4", "raw.avi"])
def test_nvdec_agrees(made_folder: Path, name: str, torchcodec: None) -> None:
    decoding = decode(made_folder / name, "auto", "cuda:0")
    times, frames = all_frames_on_gpu(decoding)
    expected_times, expected = all_frames(decode(made_folder / name, "pyav"))
    assert decoding.decoder == "torchcodec"
    assert times == expected_times
    assert frames.shape == expected.shape
    difference = np.abs(frames.astype(np.int16) - expected)
    assert difference.mean() < 6, "levels, on sharp edges of color; smooth pictures differ by 1 or 2"
    if decoding.decoder_device == "cpu":
        assert str(decoding.fallback_reason).startswith("NVDEC refused: ")
    else:
        assert (decoding.decoder_device, decoding.fallback_reason) == ("cuda:0", None)
    if name == "raw.avi":
        assert decoding.decoder_device == "cpu", "there is nothing to decode in hardware"


@pytest.mark.parametrize("refused", [False, True])
def test_cpu_fallback_of_nvdec_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchcodec: None, refused: bool
) -> None:
    """torchcodec's own decoder on the CPU stands in for that on a GPU; its word on NVDEC is made up."""
    from torchcodec import decoders as real

    class Status:
        def __bool__(self) -> bool:
            return refused

        def __str__(self) -> str:
            return "[CUDA] Fallback status: Falling back due to: Video not supported"

    def made_up(*arguments: Any, device: str, **options: Any) -> Any:
        assert device == "cuda:0"
        decoder = real_decoder(*arguments, device="cpu", **options)
        monkeypatch.setattr(type(decoder), "cpu_fallback", Status())
        return decoder

    real_decoder = real.VideoDecoder
    monkeypatch.setattr(real, "VideoDecoder", made_up)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    path = write_video(tmp_path / "a.mp4", moving_square(5))
    decoding = decode(path, device="cuda:0")
    assert (decoding.decoder, decoding.decoder_device) == ("torchcodec", "cpu" if refused else "cuda:0")
    assert decoding.fallback_reason == ("NVDEC refused: Video not supported" if refused else None)
    frames = [frame for _, frame in decoding]
    assert all(isinstance(frame, torch.Tensor) and frame.shape == (48, 64, 3) for frame in frames)
    assert np.array_equal(torch.stack(frames).numpy(), all_frames(decode(path, "pyav"))[1])


def test_torchcodec_whose_timestamps_differ_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchcodec: None
) -> None:
    from torchcodec import decoders as real

    class Shifted(real.VideoDecoder):
        def get_frames_in_range(self, start: int, stop: int, step: int = 1) -> Any:
            batch = super().get_frames_in_range(start, stop, step)
            late = (batch.pts_seconds > 0.9) * 0.04
            return SimpleNamespace(data=batch.data, pts_seconds=batch.pts_seconds + late)

    path = write_video(tmp_path / "a.mp4", moving_square(40))
    expected = all_frames(decode(path, "pyav"))
    monkeypatch.setattr(real, "VideoDecoder", Shifted)
    monkeypatch.setattr(reading, "_CHUNK_FRAMES", 8)
    decoding = decode(path, "torchcodec")
    assert_same_frames(decoding, expected)
    assert decoding.decoder == "pyav"
    assert decoding.fallback_reason == (
        "torchcodec failed after 16 frames: its timestamps disagree with the container's"
    )


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_torchcodec_that_does_not_turn_frames_is_refused(
    made_folder: Path, monkeypatch: pytest.MonkeyPatch, torchcodec: None, device: str
) -> None:
    from torchcodec import decoders as real

    class Unturned(real.VideoDecoder):
        def __init__(self, *arguments: Any, device: str, **options: Any) -> None:
            super().__init__(*arguments, device="cpu", **options)

        def get_frames_in_range(self, start: int, stop: int, step: int = 1) -> Any:
            batch = super().get_frames_in_range(start, stop, step)
            return SimpleNamespace(data=batch.data.rot90(2, (1, 2)), pts_seconds=batch.pts_seconds)

    monkeypatch.setattr(real, "VideoDecoder", Unturned)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    decoding = decode(made_folder / "rotated_180.mov", "torchcodec", device)
    assert_same_frames(decoding, all_frames(decode(made_folder / "rotated_180.mov", "pyav")))
    assert decoding.fallback_reason == "torchcodec failed after 0 frames: its first frame is not the video's"


def test_torchcodec_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(5))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)  # what `import` finds of a missing package
    decoding = decode(path, "torchcodec")
    assert (decoding.decoder, decoding.fallback_reason) == ("pyav", "torchcodec refused: it is not installed")
    missing = "OSError: libavutil.so.{}: cannot open shared object file: No such file or directory"
    text = "Could not load libtorchcodec. Likely causes:\n  1. FFmpeg is not properly installed\n" + "".join(
        f"FFmpeg version {major}:\nTraceback (most recent call last):\n  File x, line 1\n{missing.format(major + 52)}\n"
        for major in (8, 7, 6)
    )
    assert torchcodec_frames._loading_error(text) == missing.format(60)
    mismatch = "OSError: libtorchcodec_core5.so: undefined symbol: _ZN3c1013MessageLogger"
    assert torchcodec_frames._loading_error(f"{text}FFmpeg version 5:\n{mismatch}\n") == mismatch


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_without_a_gpu_the_others_take_over(tmp_path: Path, torchcodec: None) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(5))
    decoding = decode(path, device="cuda:0")
    assert_same_frames(decoding, all_frames(decode(path, "pyav")))
    assert decoding.decoder in ("decord", "pyav")
    assert decoding.decoder_device == "cpu"
    assert decoding.fallback_reason == "torchcodec refused: no CUDA device"
