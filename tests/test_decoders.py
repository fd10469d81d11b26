"""The decoders agree on frames and times, hand over to each other, and are given nothing that could mislead them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import skip_or_fail
from make_videos import MADE, moving_square, write_made, write_video

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.options import DECODERS
from hrpro_pipeline.extract.video import decord as decord_frames
from hrpro_pipeline.extract.video import pyav as pyav_frames
from hrpro_pipeline.extract.video import reading
from hrpro_pipeline.extract.video import torchcodec as torchcodec_frames
from hrpro_pipeline.extract.video.decoding import OPENERS, Decoding, decode
from hrpro_pipeline.extract.video.probe import probe

# Of which files each decoder refuses or fails to give PyAV's frames, and the word in its reason.
SEEKS = {"h264.ts", "mpeg2.ts", "mpeg2.mpg", "hevc.ts", "late.ts", "ntsc.ts", "sound.ts", "sound.mpg", "interlaced.ts"}
OTHER_COLOUR = {"odd.webm", "odd.avi", "odd_420.mkv", "h264_10bit.mkv", "hevc_10bit.mp4", "av1_10bit.mp4"}
DECORD_REFUSES = (
    dict.fromkeys(SEEKS, "not used for such files")
    | dict.fromkeys(OTHER_COLOUR, "interpolates color otherwise")
    | dict.fromkeys(["h264.avi", "mpeg4.avi"], "timestamps disagree")
    | dict.fromkeys(["cut.mp4", "cut.mov", "cut_hevc.mp4"], "counts 30 frames, the container 23")
    | dict.fromkeys(["rotated_90.mp4", "rotated_270.mp4"], "failed after 0 frames")
    | {"av1.mp4": "cannot find video stream"}
)
REAL = (
    *("arm_wrestling.mp4", "flipping_a_pancake.mkv", "mm_test.avi", "structuralize.mp4", "unordered.mov"),
    *("v_GGSY1Qvo990.mp4", "video_0.mov", "video_90.mov", "video_180.mov"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name in MADE:
        write_made(folder, name)
    return folder


@pytest.fixture(scope="module")
def torchcodec() -> None:
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        skip_or_fail(f"torchcodec cannot be loaded ({str(error).strip().splitlines()[0]})")


def all_frames(decoding: Decoding) -> tuple[list[float], np.ndarray]:
    """Times, and frames [N, H, W, 3]."""
    times, frames = zip(*decoding, strict=True)
    return list(times), np.stack(frames)


def assert_same(decoding: Decoding, expected: tuple[list[float], np.ndarray]) -> None:
    times, frames = all_frames(decoding)
    assert times == expected[0]
    assert frames.dtype == np.uint8
    assert frames.shape == expected[1].shape
    assert np.array_equal(frames, expected[1])


@pytest.mark.parametrize("name", MADE)
def test_pyav_gives_every_frame_at_its_time(made: Path, name: str) -> None:
    """Each decoded frame is nearest to the frame that was encoded, and its time is the one that was asked for."""
    arguments = MADE[name]
    width, height = arguments.get("size", (64, 48))
    drawn = moving_square(30, width, height, step=5).astype(np.int16)
    steady = 1000 * np.arange(30) / float(arguments.get("fps", 25))
    milliseconds = np.array(arguments.get("milliseconds", steady))
    kept = milliseconds >= 0  # an edit list cuts off the others
    decoding = decode(made / name, "pyav")
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
def test_decord_gives_the_same_or_refuses(made: Path, name: str) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    expected = all_frames(decode(made / name, "pyav"))
    for decoder in ("decord", "auto"):
        decoding = decode(made / name, decoder)
        assert_same(decoding, expected)
        if name in DECORD_REFUSES:
            assert decoding.decoder == "pyav"
            assert DECORD_REFUSES[name] in str(decoding.fallback_reason)
        else:
            assert (decoding.decoder, decoding.fallback_reason) == ("decord", None)


@pytest.mark.parametrize("name", MADE)
def test_torchcodec_gives_the_same_or_refuses(made: Path, name: str, torchcodec: None) -> None:
    """Bit for bit: on the CPU it converts color as PyAV does. Which files it refuses depends on FFmpeg's version."""
    decoding = decode(made / name, "torchcodec")
    assert_same(decoding, all_frames(decode(made / name, "pyav")))
    assert decoding.decoder_device == "cpu"
    assert (decoding.decoder == "torchcodec") == (decoding.fallback_reason is None)
    if name in SEEKS:
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


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["h264.mp4", "irregular.mkv", "hevc.mp4", "rotated_90.mp4", "raw.avi"])
def test_nvdec_agrees(made: Path, name: str, torchcodec: None) -> None:
    decoding = decode(made / name, "auto", "cuda:0")
    times, frames = all_frames_on_gpu(decoding)
    expected_times, expected = all_frames(decode(made / name, "pyav"))
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


def all_frames_on_gpu(decoding: Decoding) -> tuple[list[float], np.ndarray]:
    times, frames = [], []
    for seconds, frame in decoding:
        assert isinstance(frame, torch.Tensor)
        assert (frame.device, frame.dtype) == (torch.device("cuda:0"), torch.uint8)
        times.append(seconds)
        frames.append(frame.cpu().numpy())
    return times, np.stack(frames)


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
    assert_same(decoding, expected)
    assert decoding.decoder == "pyav"
    assert decoding.fallback_reason == (
        "torchcodec failed after 16 frames: its timestamps disagree with the container's"
    )


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_torchcodec_that_does_not_turn_frames_is_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch, torchcodec: None, device: str
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
    decoding = decode(made / "rotated_180.mov", "torchcodec", device)
    assert_same(decoding, all_frames(decode(made / "rotated_180.mov", "pyav")))
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
    assert_same(decoding, all_frames(decode(path, "pyav")))
    assert decoding.decoder in ("decord", "pyav")
    assert decoding.decoder_device == "cpu"
    assert decoding.fallback_reason == "torchcodec refused: no CUDA device"


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
    assert_same(decoding, expected)
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
    assert_same(decoding, all_frames(decode(path, "pyav")))
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
    assert_same(decoding, expected)
    assert decoding.decoder == "torchcodec"
    decoding = decode(path)
    assert_same(decoding, expected)
    assert decoding.fallback_reason == "decord refused: it may choose another of the video streams"


PLAY_LISTS = {
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile secret.mp4\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash": b'<?xml version="1.0"?>\n<MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static"></MPD>\n',
}


@pytest.mark.parametrize("tail", ["nothing", "h264.ts", "h264.mp4", "h264.mkv"])
@pytest.mark.parametrize("kind", PLAY_LISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_play_list_in_disguise_reaches_no_decoder_but_pyav(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch, kind: str, tail: str, suffix: str
) -> None:
    """A file that starts as a play list and goes on as a video: if PyAV reads it, then as that video alone."""
    (tmp_path / "secret.mp4").write_bytes((made / "mpeg4.mov").read_bytes())
    path = tmp_path / f"disguised{suffix}"
    path.write_bytes(PLAY_LISTS[kind] + (b"" if tail == "nothing" else (made / tail).read_bytes()))
    opened = spied(monkeypatch)
    for decoder in ("auto", "torchcodec"):
        try:
            decoding = decode(path, decoder)
        except HrproError as error:
            assert "\n" not in str(error)
            continue
        assert decoding.decoder == "pyav"
        assert "not used for such files" in str(decoding.fallback_reason)
        assert decoding.info.codec == "h264", "the secret is MPEG-4"
    assert opened == []


def test_decord_alone_would_follow_a_play_list(tmp_path: Path, made: Path) -> None:
    """The lure of the test above works: MPEG-TS to PyAV, a play list to decord's older FFmpeg."""
    decord = pytest.importorskip("decord", reason="decord has no wheel for this machine")
    write_video(tmp_path / "secret.mp4", moving_square(17))
    path = tmp_path / "disguised.mp4"
    path.write_bytes(PLAY_LISTS["hls"] + (made / "h264.ts").read_bytes())
    assert len(decord.VideoReader(str(path))) == 17
    assert probe(path).num_packets == 30


def spied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that decord opens from now on."""
    decord = pytest.importorskip("decord", reason="decord has no wheel for this machine")
    opened = []

    class Spy(decord.VideoReader):  # type: ignore[misc]
        def __init__(self, uri: str, **options: Any) -> None:
            opened.append(uri)
            super().__init__(uri, **options)

    monkeypatch.setattr(decord, "VideoReader", Spy)
    return opened


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "h264.flv", "mpeg4_in_order.avi", "wmv2.wmv"])
def test_a_play_list_inside_a_video_is_not_read(made: Path, tmp_path: Path, name: str, torchcodec: None) -> None:
    """Text behind the first bytes of a real container changes nothing."""
    path = tmp_path / name
    text = b"\n" + b"".join(PLAY_LISTS.values())
    path.write_bytes((made / name).read_bytes() + text)
    if name.endswith(".mp4"):  # a box that players skip, with text right after the file type
        data = (made / name).read_bytes()
        length = int.from_bytes(data[:4], "big")
        box = (len(text) + 8).to_bytes(4, "big") + b"free" + text
        # Chunks' positions are counted from the start of the file, and do not move if the box comes last.
        path.write_bytes(data[:length] + data[length:] + box)
    expected = all_frames(decode(made / name, "pyav"))
    for decoder in ("pyav", "auto", "torchcodec"):
        assert_same(decode(path, decoder), expected)


def boxes(data: bytes, path: list[bytes]) -> list[int]:
    """Where the nested MP4 boxes of these names start."""
    found, start, end = [], 0, len(data)
    for name in path:
        while data[start + 4 : start + 8] != name:
            start += int.from_bytes(data[start : start + 4], "big")
            assert start < end, name
        found.append(start)
        end = start + int.from_bytes(data[start : start + 4], "big")
        start += 8
    return found


def with_external_data(video: bytes, other: str) -> bytes:
    """An MP4 file whose samples are declared to be in another file, by a Macintosh alias."""
    data = bytearray(video)
    nested = boxes(bytes(data), [b"moov", b"trak", b"mdia", b"minf", b"dinf"])
    dref = nested[-1] + 8
    assert data[dref + 4 : dref + 8] == b"dref"
    entry = dref + 16
    length = int.from_bytes(data[entry : entry + 4], "big")
    name = other.encode()
    # FFmpeg reads: volume, file name, levels up and down, then numbered strings; 2 is the path.
    alias = bytes(10) + bytes([3]) + b"vol".ljust(27, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    alias += bytes(16) + (1).to_bytes(2, "big") * 2 + bytes(16)
    where = b"vol:" + name
    alias += (2).to_bytes(2, "big") + len(where).to_bytes(2, "big") + where + bytes(len(where) % 2) + b"\xff\xff\0\0"
    alias = alias.ljust(160, b"\0")
    replaced = (12 + len(alias)).to_bytes(4, "big") + b"alis" + bytes(4) + alias
    data[entry : entry + length] = replaced
    for start in [*nested, dref]:
        size = int.from_bytes(data[start : start + 4], "big") + len(replaced) - length
        data[start : start + 4] = size.to_bytes(4, "big")
    content = boxes(bytes(data), [b"mdat"])[0]
    end = content + int.from_bytes(data[content : content + 4], "big")
    data[content + 8 : end] = bytes(end - content - 8)
    return bytes(data)


def test_external_data_is_not_followed(tmp_path: Path) -> None:
    """A MOV file may say that its frames are in another file."""
    secret = write_video(tmp_path / "secret.mp4", moving_square(10), codec="mpeg4")
    path = tmp_path / "link.mov"
    path.write_bytes(with_external_data(secret.read_bytes(), "secret.mp4"))
    with av.open(str(path), options={"enable_drefs": "1"}) as container:
        followed = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    expected = all_frames(decode(secret, "pyav"))[1]
    assert len(followed) == 10, "the made file leads to the secret if FFmpeg is told to follow"
    assert np.abs(np.stack(followed).astype(np.int16) - expected).max() < 3
    for decoder in ("pyav", "auto", "torchcodec"):
        with pytest.raises(HrproError, match=r"link\.mov"):
            list(decode(path, decoder))


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


def test_decord_gets_no_long_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads ahead without a bound, and would hold thousands of decoded frames."""
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    path = write_video(tmp_path / "a.mp4", moving_square(40))
    assert decode(path).decoder == "decord"
    monkeypatch.setattr(decord_frames, "_MAX_BYTES", 39 * 64 * 48)
    decoding = decode(path)
    assert decoding.decoder == "pyav"
    assert decoding.fallback_reason == "decord refused: it keeps thousands of decoded frames of a long video in memory"
