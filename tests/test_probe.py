"""What a container says about its video, and files that are refused for it."""

import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from make_videos import X264_B, moving_square, write_sound, write_video

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video import probe as probing
from hrpro_pipeline.extract.video.clock import num_clock_frames, resample
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.label.playable import playable
from hrpro_pipeline.label.sound import sound_peaks
from hrpro_pipeline.show.thumbnails import film_strip


def test_start_time_and_odd_sizes(tmp_path: Path) -> None:
    frames = moving_square(5, width=62, height=46)
    late = probe(write_video(tmp_path / "late.mkv", frames, milliseconds=[700 + 40 * k for k in range(5)]))
    assert late.timestamps.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert next(iter(decode(late.path)))[1].shape == (46, 62, 3)


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    text, empty, sound = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "sound.mkv"
    text.write_text("this is not a video\n" * 50)
    empty.touch()
    write_sound(sound)
    for path, message in [
        (text, "text.mp4: not a video that can be read"),
        (empty, r"empty.mp4: empty file \(0 bytes\)"),
        (tmp_path / "none.mp4", "no such file"),
        (tmp_path, "not a file"),
        (sound, "sound.mkv: no video stream"),
    ]:
        with pytest.raises(HrproError, match=message) as caught:
            decode(path)
        assert "\n" not in str(caught.value)


def test_a_file_that_must_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        path = write_video(folder / "a.mp4", moving_square(5))
        path.chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may read anything
            with pytest.raises(HrproError, match=r"a.mp4: cannot be read \(Permission denied\); check its permissions"):
                probe(path)
        finally:
            os.seteuid(user)


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "song.mp4", moving_square(1), codec="mjpeg", pix_fmt="yuvj420p", audio="aac", cover=True
    )
    with pytest.raises(HrproError, match="song.mp4: no video stream; expected a video"):
        probe(path)


def test_codecs_that_nobody_knows(tmp_path: Path) -> None:
    """A stream of one is no video, and no sound."""
    path = write_video(tmp_path / "both.mp4", moving_square(10), audio="aac", **X264_B)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"mp4a", b"zzzz"))
    assert probe(path).num_packets == 10
    assert playable(path).copy_reason == ""
    assert not sound_peaks(path, 0.0, 0.4).any()
    path.write_bytes(content.replace(b"avc1", b"zzzz"))
    for read in (probe, lambda path: film_strip(path, 3)):
        with pytest.raises(HrproError, match="both.mp4: its codec is not known; re-encode or remove it"):
            read(path)


AVI = ("large.avi", "slow.avi", "fast.avi")


def patch(path: Path, chunk: bytes, offset: int, old: tuple[int, int], new: tuple[int, int]) -> None:
    """Overwrite two numbers in the header of an AVI file."""
    data = bytearray(path.read_bytes())
    where = data.index(chunk) + 8 + offset
    assert struct.unpack_from("<II", data, where) == old
    struct.pack_into("<II", data, where, *new)
    path.write_bytes(data)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file may claim, in files that claim more."""
    wide = write_video(tmp_path / "wide.mov", np.zeros((1, 64, 20000, 3), np.uint8), codec="png", pix_fmt="rgb24")
    large, slow, fast = [write_video(tmp_path / name, moving_square(3), codec="rawvideo") for name in AVI]
    patch(large, b"strf", 4, (64, 48), (9000, 9000))  # width, height
    patch(slow, b"strh", 20, (1, 25), (360_000, 1))  # seconds a frame, as a fraction
    patch(fast, b"strh", 20, (1, 25), (1, 2**31 - 1))
    hours = [0, 40, 200 * 3600 * 1000]
    gap = write_video(tmp_path / "gap.mkv", moving_square(3), milliseconds=hours, codec="ffv1")
    for path, message in [
        (wide, "wide.mov: frames of 20000 x 64; expected at most 67108864 pixels and 16384 a side; make it smaller"),
        (large, "large.avi: frames of 9000 x 9000; expected at most"),
        (gap, "gap.mkv: 200 hours long; longer than 100; cut it"),
        (slow, "slow.avi: 300 hours long; longer than 100; cut it"),
    ]:
        with pytest.raises(HrproError, match=message) as caught:
            probe(path)
        assert "\n" not in str(caught.value)
    assert num_clock_frames(probe(fast), 25) == len(list(resample(decode(fast), probe(fast), 25))) == 1
    path = write_video(tmp_path / "a.mp4", moving_square(11))
    monkeypatch.setattr(probing, "MAX_PACKETS", 11)
    info = probe(path)
    monkeypatch.setattr(probing, "MAX_PACKETS", 10)
    with pytest.raises(HrproError, match="a.mp4: more than 10 frames; cut it"):
        probe(path)
    for fps in (0.0, -1.0, float("nan"), float("inf"), 1e9):
        with pytest.raises(HrproError, match="frames a second; expected more than 0 and at most 1000"):
            num_clock_frames(info, fps)
