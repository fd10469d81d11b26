"""The decoders agree on frames and times, and hand over to each other."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from decoded_frames import all_frames, assert_same_frames
from make_videos import MADE, MPEG_STREAMS, moving_square, write_made, write_video

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.options import DECODERS
from hrpro_pipeline.extract.video import decord as decord_frames
from hrpro_pipeline.extract.video import pyav as pyav_frames
from hrpro_pipeline.extract.video import reading
from hrpro_pipeline.extract.video.decoding import OPENERS, decode
from hrpro_pipeline.extract.video.probe import probe

# Files of which decord is refused or fails to give PyAV's frames, and words of the reason.
OTHER_COLOR = {"odd.webm", "odd.avi", "odd_420.mkv", "h264_10bit.mkv", "hevc_10bit.mp4", "av1_10bit.mp4"}
DECORD_REFUSES = (
    dict.fromkeys(MPEG_STREAMS, "not used for such files")
    | dict.fromkeys(OTHER_COLOR, "interpolates color otherwise")
    | dict.fromkeys(["h264.avi", "mpeg4.avi"], "timestamps disagree")
    | dict.fromkeys(["cut.mp4", "cut.mov", "cut_hevc.mp4"], "counts 30 frames, the container 23")
    | dict.fromkeys(["rotated_90.mp4", "rotated_270.mp4"], "failed after 0 frames")
    | {"av1.mp4": "cannot find video stream"}
)


@pytest.mark.parametrize("name", MADE)
def test_pyav_gives_every_frame_at_its_time(made_folder: Path, name: str) -> None:
    """Each decoded frame is nearest to the frame that was encoded, and its time is the one that was asked for."""
    arguments = MADE[name]
    width, height = arguments.get("size", (64, 48))
    drawn = moving_square(30, width, height, step=5).astype(np.int16)
    steady = 1000 * np.arange(30) / float(arguments.get("fps", 25))
    milliseconds = np.array(arguments.get("milliseconds", steady))
    kept = milliseconds >= 0  # an edit list cuts off the others
    decoding = decode(made_folder / name, "pyav")
    times, frames = all_frames(decoding)
    assert (decoding.decoder, decoding.fallback_reason, decoding.partial_reason) == ("pyav", None, None)
    assert decoding.info.incomplete is None
    assert decoding.info.rotation == arguments.get("rotation", 0)
    rounding = 0.0006 if name.endswith((".mkv", ".webm", ".flv", ".wmv")) else 0.00002
    np.testing.assert_allclose(times, (milliseconds[kept] - milliseconds[kept][0]) / 1000, atol=rounding)
    frames = np.rot90(frames, -arguments.get("rotation", 0) // 90, axes=(1, 2)).astype(np.int16)
    for index, frame in zip(np.flatnonzero(kept), frames, strict=True):
        distance = np.abs(drawn - frame).mean(axis=(1, 2, 3))
        # In narrow pictures the square comes back to where it was.
        assert distance[index] == distance.min(), f"frame {index} looks like {distance.argmin()}"


@pytest.mark.parametrize("name", MADE)
def test_decord_gives_the_same_or_refuses(made_folder: Path, name: str) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    expected = all_frames(decode(made_folder / name, "pyav"))
    for decoder in ("decord", "auto"):
        decoding = decode(made_folder / name, decoder)
        assert_same_frames(decoding, expected)
        if name in DECORD_REFUSES:
            assert decoding.decoder == "pyav"
            assert DECORD_REFUSES[name] in str(decoding.fallback_reason)
        else:
            assert (decoding.decoder, decoding.fallback_reason) == ("decord", None)


@pytest.mark.shared
def test_rotation_is_applied(shared: Path) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    folder = shared / "videos"
    assert [probe(folder / f"video_{angle}.mov").rotation for angle in (0, 90, 180)] == [0, 270, 180]
    for decoder in ("decord", "pyav"):
        upright = next(iter(decode(folder / "video_0.mov", decoder)))[1]
        turned = next(iter(decode(folder / "video_90.mov", decoder)))[1]
        assert upright.shape == (320, 568, 3)
        assert turned.shape == (568, 320, 3)


def test_rotation_of_made_videos_is_applied(tmp_path: Path) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    names = ("h264.mp4", "rotated_90.mp4", "rotated_180.mov")
    assert [probe(write_made(tmp_path, name)).rotation for name in names] == [0, 90, 180]
    for decoder in ("decord", "pyav"):
        upright, turned, over = (next(iter(decode(tmp_path / name, decoder)))[1].astype(int) for name in names)
        assert upright.shape == over.shape == (48, 64, 3)
        assert turned.shape == (64, 48, 3)
        for other in (np.rot90(turned, -1), np.rot90(over, -2)):
            assert np.abs(other - upright).mean() < 3


def test_order_on_a_cuda_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(5))
    tried = []

    def refuse(name: str) -> Any:
        def open_it(*_: Any, **__: Any) -> None:
            tried.append(name)
            raise RuntimeError("made to fail")

        return open_it

    monkeypatch.setitem(OPENERS, "torchcodec", refuse("torchcodec"))
    monkeypatch.setitem(OPENERS, "decord", refuse("decord"))
    decoding = decode(path, device="cuda:0")
    assert tried == ["torchcodec", "decord"]
    assert (decoding.decoder, decoding.decoder_device) == ("pyav", "cpu")
    assert decoding.fallback_reason == "torchcodec refused: made to fail; decord refused: made to fail"
    tried.clear()
    assert decode(path).fallback_reason == "decord refused: made to fail"
    assert decode(path, "torchcodec").fallback_reason == "torchcodec refused: made to fail"
    assert tried == ["decord", "torchcodec"]


def test_torch_is_not_imported_for_decord_and_pyav(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(5))
    code = (
        "import sys; from pathlib import Path; from hrpro_pipeline.extract.video.decoding import decode; "
        f"print(len(list(decode(Path({str(path)!r})))), 'torch' in sys.modules, 'torchcodec' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.split() == ["5", "False", "False"]


def test_decord_that_fails_on_the_way_is_continued_by_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    path = write_video(tmp_path / "a.mp4", moving_square(40))
    expected = all_frames(decode(path, "pyav"))
    monkeypatch.setattr(reading, "_CHUNK_FRAMES", 8)
    read = decord_frames._read

    def failing(reader: object, wanted: range) -> np.ndarray:
        if wanted.start >= 16:
            raise RuntimeError("made to fail")
        return read(reader, wanted)

    monkeypatch.setattr(decord_frames, "_read", failing)
    decoding = decode(path)
    assert decoding.decoder == "decord"
    assert_same_frames(decoding, expected)
    assert decoding.decoder == "pyav"
    assert decoding.fallback_reason == "decord failed after 16 frames: made to fail"
    assert decoding.num_decoded == 40


def test_decord_that_starts_elsewhere_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does in MPEG-TS, where count and timestamps look right."""
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    path = write_video(tmp_path / "a.mp4", moving_square(40))
    read = decord_frames._read
    monkeypatch.setattr(decord_frames, "_read", lambda reader, wanted: read(reader, [k + 3 for k in wanted if k < 37]))
    monkeypatch.setattr(reading, "_CHUNK_FRAMES", 8)
    decoding = decode(path)
    assert_same_frames(decoding, all_frames(decode(path, "pyav")))
    assert decoding.fallback_reason == "decord failed after 0 frames: its first frame is not the video's"


def test_decord_does_not_repeat_frames_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it loses the first frames it fills up the end with the last one; it must fail instead."""
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    path = write_made(tmp_path, "h264.ts")
    monkeypatch.setattr(reading, "starts_as", lambda *_: True)
    monkeypatch.setattr(decord_frames, "FIRST_FRAME_LEVELS", 255)
    decoding = decode(path)
    assert decoding.decoder == "decord"
    assert len(list(decoding)) == 30
    assert decoding.decoder == "pyav"
    assert "duplicate frames" in str(decoding.fallback_reason)


def test_without_decord_pyav_is_used_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(5))
    monkeypatch.setitem(sys.modules, "decord", None)  # what `import` finds of a package that is not installed
    decoding = decode(path)
    assert (decoding.decoder, decoding.fallback_reason) == ("pyav", "decord refused: it is not installed")
    assert len(list(decoding)) == 5


def test_decord_gets_no_long_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads ahead without a bound, and would hold thousands of decoded frames."""
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    path = write_video(tmp_path / "a.mp4", moving_square(40))
    assert decode(path).decoder == "decord"
    monkeypatch.setattr(decord_frames, "_MAX_BYTES", 39 * 64 * 48)
    decoding = decode(path)
    assert decoding.decoder == "pyav"
    assert decoding.fallback_reason == "decord refused: it keeps thousands of decoded frames of a long video in memory"


def test_skipped_decoders(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(5))
    decoding = decode(path, skip_decoders={"decord": "decord crashed", "torchcodec": "torchcodec crashed"})
    assert (decoding.decoder, decoding.fallback_reason) == ("pyav", "decord crashed"), "torchcodec was not in line"
    with pytest.raises(HrproError, match=r"^a.mp4: no decoder is left: decord crashed; pyav crashed$"):
        decode(path, skip_decoders={"decord": "decord crashed", "pyav": "pyav crashed"})
    assert decode(path, "pyav", skip_decoders={"decord": "decord crashed"}).fallback_reason is None


def test_no_decoder_is_left_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    path = write_video(tmp_path / "a.mp4", moving_square(40))
    monkeypatch.setattr(reading, "_CHUNK_FRAMES", 8)
    read = decord_frames._read
    monkeypatch.setattr(decord_frames, "_read", lambda reader, wanted: read(reader, wanted)[: 24 - wanted.start])
    reason = "no decoder is left: pyav crashed; decord failed after 24 frames: 0 frames instead of 8"
    with pytest.raises(HrproError, match=reason):
        list(decode(path, skip_decoders={"pyav": "pyav crashed"}))
    decoding = decode(path, skip_decoders={"pyav": "pyav crashed"}, keep_partial=True)
    assert len(list(decoding)) == 24
    assert decoding.partial_reason == reason


def test_unknown_decoder(tmp_path: Path) -> None:
    assert ("auto", *OPENERS) == DECODERS
    with pytest.raises(HrproError, match="decoder 'ffmpeg'; expected one of auto, decord, pyav, torchcodec"):
        decode(write_video(tmp_path / "a.mp4", moving_square(2)), "ffmpeg")


def test_frames_larger_than_the_limit_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container may say less than its frames are."""
    path = write_video(tmp_path / "a.mp4", moving_square(5))
    info = probe(path)
    monkeypatch.setattr(pyav_frames, "MAX_PIXELS", info.width * info.height - 1)
    with pytest.raises(HrproError, match="a.mp4: decoding stopped after 0 of 5 frames"):
        list(decode(path, "pyav"))


def two_streams(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for stream in streams:
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(10):
            for seed, stream in enumerate(streams):
                image = np.ascontiguousarray(moving_square(10, seed=seed)[k])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    return path


def test_of_two_video_streams_all_decode_the_same(tmp_path: Path, torchcodec: None) -> None:
    path = two_streams(tmp_path / "two.mkv")
    expected = all_frames(decode(path, "pyav"))
    decoding = decode(path, "torchcodec")
    assert_same_frames(decoding, expected)
    assert decoding.decoder == "torchcodec"
    decoding = decode(path)
    assert_same_frames(decoding, expected)
    assert decoding.fallback_reason == "decord refused: it may choose another of the video streams"


def frames_with_holes(count: int, missing: set[int]) -> Iterator[tuple[int, SimpleNamespace]]:
    for k in range(count):
        if k not in missing:
            yield k, SimpleNamespace(time=k / 25)


def test_missing_frames_keep_the_others_in_place(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "a.mkv", moving_square(40), fps=25))
    gap = [frame for _, frame in frames_with_holes(40, {10, 11})]
    found = [index for index, _ in pyav_frames._with_numbers(gap, info)]  # type: ignore[arg-type]
    assert found[:3] == [0, 1, 2]
    assert found[-20:] == list(range(20, 40))
    swapped = [frame for _, frame in frames_with_holes(40, set())]
    swapped[7], swapped[8] = swapped[8], swapped[7]  # labels of neighbors exchanged, as in AVI files with B-frames
    found = [index for index, _ in pyav_frames._with_numbers(swapped, info)]  # type: ignore[arg-type]
    assert found == list(range(40))


def test_nearest() -> None:
    times = np.array([0, 0.04, 0.08, 0.08, 0.2])
    for seconds, expected in [(-1, 0), (0, 0), (0.03, 1), (0.06, 1), (0.07, 2), (0.09, 2), (0.15, 4), (9, 4)]:
        assert pyav_frames._nearest(times, seconds) == expected == int(np.abs(times - seconds).argmin())
