"""Files whose timestamps are none, or start again: what is assumed is what players do, it is said, and it is kept."""

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from make_videos import MPEG2_B, X264, X264_B, X265, moving_square, write_video
from players import (
    decoded_by_each,
    ffmpeg,
    levels_apart,
    need_ffmpeg,
    rate_by_ffprobe,
    shown_by_ffmpeg,
    with_edits,
)
from small_extraction import CPU, RGB_ONLY, extract

from hrpro_pipeline.extract.backbones import load_backbones
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.show.render import RenderJob, render
from hrpro_pipeline.show.thumbnails import film_strip

AGAIN = "its timestamps start again: taken as 2 parts, one after the other"
# Milliseconds at which the second part starts, where the first one takes 2 s from `FIRST_MS` on.
FIRST_MS = 7_200_000
SECOND_MS = {
    "at the same time": FIRST_MS,
    "in the middle": FIRST_MS + 1000,
    "an hour earlier": FIRST_MS - 3_600_000,
    "a day later": FIRST_MS + 86_400_000,
}


def joined(path: Path, first: Path, second: Path) -> Path:
    """Two files one after the other."""
    path.write_bytes(first.read_bytes() + second.read_bytes())
    return path


def write_part(path: Path, seed: int, start_ms: int, **arguments: object) -> Path:
    offset = {"output_ts_offset": str(start_ms / 1000)}
    return write_video(path, moving_square(50, step=1, seed=seed), container_options=offset, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", SECOND_MS)
@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_joined_recordings_follow_each_other(tmp_path: Path, start: str, suffix: str) -> None:
    arguments = X264_B if suffix == ".ts" else MPEG2_B
    parts = [
        write_part(tmp_path / f"a{suffix}", 0, FIRST_MS, **arguments),
        write_part(tmp_path / f"b{suffix}", 1, SECOND_MS[start], **arguments),
    ]
    path = joined(tmp_path / f"joined{suffix}", *parts)
    info = probe(path)
    assert (info.num_packets, info.num_parts, info.time_note) == (100, 2, AGAIN)
    assert info.duration_seconds == pytest.approx(4.0, abs=1e-3)
    expected = np.concatenate([[frame for _, frame in decode(part, "pyav")] for part in parts])
    for name, (_, seconds, frames) in decoded_by_each(path).items():
        np.testing.assert_allclose(seconds, np.arange(100) / 25, atol=1e-3, err_msg=name)
        assert levels_apart(frames, expected) == 0, name


def test_three_parts_of_other_lengths_and_codecs_of_time(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{k}.ts", moving_square(k, step=1), **X265) for k in (20, 45, 31)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    info = probe(path)
    assert (info.num_packets, info.num_parts) == (96, 3)
    assert info.duration_seconds == pytest.approx(96 / 25, abs=1e-3)


def test_parts_whose_packets_have_no_duration(tmp_path: Path) -> None:
    """Frames of no constant rate: the step before the join serves."""
    for k in (0, 1):
        times = [1000 + 40 * frame for frame in range(50)]
        write_video(tmp_path / f"{k}.ts", moving_square(50, seed=k), milliseconds=times, **X264_B)
    info = probe(joined(tmp_path / "joined.ts", tmp_path / "0.ts", tmp_path / "1.ts"))
    np.testing.assert_allclose(info.timestamps, np.arange(100) / 25, atol=1e-3)
    assert info.duration_seconds == pytest.approx(4.0, abs=1e-3)


def test_one_recording_is_one_part(tmp_path: Path) -> None:
    for name, arguments in (("a.ts", X264_B), ("a.mpg", MPEG2_B), ("b.ts", X265)):
        info = probe(write_video(tmp_path / name, moving_square(100), **arguments))
        assert (info.num_parts, info.time_note, info.num_packets) == (1, None, 100)
    # Frames that stay for seconds are no new clock.
    slow = write_video(tmp_path / "slow.ts", moving_square(4), milliseconds=[0, 4000, 9000, 18000], **X264)
    assert (probe(slow).num_parts, probe(slow).timestamps[-1]) == (1, pytest.approx(18.0, abs=1e-3))


def test_joined_recordings_as_ffmpeg_has_them(tmp_path: Path) -> None:
    need_ffmpeg()
    parts = [write_part(tmp_path / f"{k}.ts", k, FIRST_MS - k * 1000, **X264_B) for k in (0, 1)]
    path = joined(tmp_path / "joined.ts", *parts)
    assert levels_apart(np.stack([frame for _, frame in decode(path)]), shown_by_ffmpeg(path, 48, 64)) <= 8
    ffmpeg("-i", path, "-c", "copy", tmp_path / "again.mp4")
    assert probe(path).duration_seconds == pytest.approx(probe(tmp_path / "again.mp4").duration_seconds, abs=0.05)


def test_pictures_of_joined_recordings(tmp_path: Path) -> None:
    parts = [write_part(tmp_path / f"{k}.ts", k, FIRST_MS, **X264_B) for k in (0, 1)]
    path = joined(tmp_path / "joined.ts", *parts)
    assert film_strip(path, 4).seconds == pytest.approx((0.5, 1.5, 2.5, 3.5), abs=0.05)
    render(path, RenderJob(tmp_path / "over.mp4", None, (), (), {}))
    drawn = probe(tmp_path / "over.mp4")
    assert (drawn.num_packets, drawn.duration_seconds) == (100, pytest.approx(4.0, abs=1e-3))


def write_raw(path: Path, container: str, fps: int, arguments: dict[str, object]) -> Path:
    """A stream without a container."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(str(arguments["codec"]), rate=fps, options=dict(arguments["options"]))  # type: ignore[call-overload]
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k, image in enumerate(moving_square(100)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


@pytest.mark.parametrize("fps", [50, 10, 25])
@pytest.mark.parametrize(("container", "arguments"), [("h264", X264), ("h264", X264_B), ("hevc", X265)])
def test_a_stream_without_timestamps_has_its_headers_rate(
    tmp_path: Path, container: str, arguments: dict[str, object], fps: int
) -> None:
    path = write_raw(tmp_path / f"raw.{container}", container, fps, arguments)
    info = probe(path)
    assert info.duration_seconds == pytest.approx(100 / fps, abs=1e-6)
    assert info.time_note == f"no timestamps: taken at {fps} frames a second, the rate in its header"
    for name, (_, seconds, _) in decoded_by_each(path).items():
        np.testing.assert_allclose(seconds, np.arange(100) / fps, atol=1e-6, err_msg=name)
    assert film_strip(path, 4).seconds == pytest.approx((np.arange(4) + 0.5) * 25 / fps, abs=1.1 / fps)
    need_ffmpeg()
    assert rate_by_ffprobe(path) == fps


def test_what_was_assumed_is_said_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbones = load_backbones(RGB_ONLY, "random", CPU)
    raw = write_raw(tmp_path / "raw.h264", "h264", 50, X264)
    parts = [write_part(tmp_path / f"{k}.ts", k, FIRST_MS, **X264_B) for k in (0, 1)]
    for path, note, seconds in (
        (raw, "no timestamps: taken at 50 frames a second, the rate in its header", 2.0),
        (joined(tmp_path / "joined.ts", *parts), AGAIN, 4.0),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            header = extract(path, backbones, RGB_ONLY).header
        assert [record.getMessage() for record in caplog.records] == [f"{path.stem}: {note}"]
        assert header.record["time_note"] == note
        assert header.duration_seconds == pytest.approx(seconds, abs=1e-3)
    caplog.clear()
    header = extract(parts[0], backbones, RGB_ONLY).header
    assert not caplog.records and "time_note" not in header.record and "mirrored" not in header.record


def test_a_raw_stream_without_any_rate(tmp_path: Path) -> None:
    """HEVC whose header has no rate: what is assumed is what ffmpeg assumes, and it is said and kept."""
    arguments = {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:no-vui-timing-info=1"}}
    raw = write_raw(tmp_path / "raw.hevc", "hevc", 50, arguments)
    info = probe(raw)
    assert info.time_note == "no timestamps and no rate: taken at 25 frames a second"
    assert (info.num_packets, info.duration_seconds) == (100, pytest.approx(4.0))
    for name, (_, seconds, _) in decoded_by_each(raw).items():
        np.testing.assert_allclose(seconds, np.arange(100) / 25, err_msg=name)
    need_ffmpeg()
    assert rate_by_ffprobe(raw) == 25


def test_places_that_are_left_empty_in_avi(tmp_path: Path) -> None:
    """Frames lie where the file has them, also those of H.264, whose times FFmpeg makes up one place late."""
    for start in (0, 1240):
        milliseconds = [40 * k for k in range(11)] + [start + 1760]
        for arguments in (X264, {"codec": "mpeg4"}):
            path = write_video(tmp_path / "a.avi", moving_square(12, step=3), milliseconds=milliseconds, **arguments)
            for name, (_, seconds, _) in decoded_by_each(path).items():
                np.testing.assert_allclose(1000 * seconds, milliseconds, atol=1e-6, err_msg=name)


def test_hevc_whose_edit_list_goes_back_is_named(tmp_path: Path) -> None:
    """Between its groups, frames are predicted from those before, which are others there; so a line says it."""
    whole = write_video(tmp_path / "whole.mp4", moving_square(250, step=1), **X265)
    for edits in ([(2, 2), (2, 3)], [(1, 4.52), (1, 4.0)], [(1, 6), (1, 2)]):
        note = probe(with_edits(whole, tmp_path / "edited.mp4", edits)).time_note
        assert note is not None and note.startswith("its edit list goes back in the video: there, HEVC frames may")
    assert probe(with_edits(whole, tmp_path / "edited.mp4", [(2, 2.0)])).time_note is None
    in_order = write_video(tmp_path / "in_order.mp4", moving_square(250, step=1), **X264)
    assert probe(with_edits(in_order, tmp_path / "edited.mp4", [(1, 4), (1, 4)])).time_note is None
