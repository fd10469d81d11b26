"""Timestamps, the clock and finding videos: real files, made files, broken files."""

import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from make_videos import MADE, X264_B, moving_square, write_damaged, write_made, write_sound, write_video

from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video import probe as probing
from hrpro_pipeline.extract.video.clock import cut_at, num_clock_frames, resample
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.probe import probe

# Frames on the clock of 25 fps: of real videos (in ../shared), and of made ones of 30 frames.
CLOCK_FRAMES = {
    "arm_wrestling.mp4": 250,
    "flipping_a_pancake.mkv": 259,
    "mm_test.avi": 164,
    "structuralize.mp4": 251,
    "unordered.mov": 4,
    "v_GGSY1Qvo990.mp4": 452,
    "video_0.mov": 3,
    "video_90.mov": 3,
    "video_180.mov": 3,
}
STEADY = ("h264.mkv", "h264.mov", "hevc.mp4", "late.mkv", "mpeg4.avi", "rotated_90.mp4", "rotated_180.mov", "vp9.webm")
MADE_CLOCK_FRAMES = dict.fromkeys(STEADY, 30) | {"irregular.mp4": 65, "ntsc.mkv": 26}


def clock_indices(timestamps: np.ndarray, duration: float, fps: float, tolerance: float = 1e-6) -> np.ndarray:
    """Which frame is shown at k / fps seconds, for every k with k / fps < duration."""
    facts = {"start_seconds": 0.0, "tolerance_seconds": tolerance, "width": 1, "height": 1, "rotation": 0}
    names = {"codec": "", "container": "", "pixel_format": "", "stream_index": 0, "num_video_streams": 1}
    info = VideoInfo(Path("made"), timestamps, last_frame_seconds=duration - timestamps[-1], **facts, **names)
    return np.array(list(resample([(seconds, index) for index, seconds in enumerate(timestamps)], info, fps)))


def test_clock_indices_with_plain_numbers() -> None:
    steady = np.arange(10) / 10
    assert clock_indices(steady, 1.0, 10).tolist() == list(range(10))
    assert clock_indices(steady, 1.0, 5).tolist() == [0, 2, 4, 6, 8]
    assert clock_indices(steady, 1.0, 20).tolist() == [k // 2 for k in range(20)]
    assert clock_indices(np.array([0.0]), 0.04, 25).tolist() == [0]
    assert clock_indices(np.array([0.0]), 0.001, 25).tolist() == [0], "at least one"
    assert clock_indices(np.array([0, 0.5, 0.52, 0.53]), 1.0, 4).tolist() == [0, 0, 1, 3]
    # 30 fps stamped in whole milliseconds: 67 ms is meant to be 2 / 30 s.
    stamps = np.round(np.arange(300) / 30, 3)
    assert clock_indices(stamps, 10.0, 30, tolerance=0.0005).tolist() == list(range(300))
    # The definition itself, on irregular times.
    times = np.concatenate([[0], np.sort(np.random.default_rng(0).uniform(0, 3, 70))])
    expected = [int(np.flatnonzero(times <= k / 25 + 1e-6)[-1]) for k in range(75)]
    assert clock_indices(times, 3.0, 25).tolist() == expected


def on_the_clock_and_decoders_agree(path: Path, frames_on_clock: int) -> None:
    info = probe(path)
    assert num_clock_frames(info, 25) == frames_on_clock
    assert info.timestamps[0] == 0
    assert (np.diff(info.timestamps) > 0).all()
    automatic, plain = decode(path), decode(path, "pyav")
    count = 0
    for (time_a, frame_a), (time_b, frame_b) in zip(automatic, plain, strict=True):
        assert time_a == time_b == info.timestamps[count]
        assert np.array_equal(frame_a, frame_b)
        count += 1
    assert count == info.num_packets == automatic.num_decoded == plain.num_decoded
    assert plain.decoder == "pyav"
    assert plain.fallback_reason is None
    assert (automatic.decoder == "decord") == (automatic.fallback_reason is None)
    assert sum(1 for _ in resample(decode(path), info, 25)) == frames_on_clock


@pytest.mark.shared
@pytest.mark.parametrize("name", CLOCK_FRAMES)
def test_real_videos_on_the_clock_and_decoders_agree(shared: Path, name: str) -> None:
    on_the_clock_and_decoders_agree(shared / "videos" / name, CLOCK_FRAMES[name])


@pytest.mark.parametrize("name", MADE_CLOCK_FRAMES)
def test_made_videos_on_the_clock_and_decoders_agree(tmp_path: Path, name: str) -> None:
    on_the_clock_and_decoders_agree(write_made(tmp_path, name), MADE_CLOCK_FRAMES[name])


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


@pytest.fixture(params=["made", pytest.param("real", marks=pytest.mark.shared)])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """50 frames at 10 fps of which the 29th cannot be decoded."""
    if request.param == "made":
        return write_damaged(tmp_path / "damaged.mov")
    return request.getfixturevalue("shared") / "videos" / "corrupted.mp4"


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_a_corrupted_video_fails_in_one_line(damaged: Path, decoder: str) -> None:
    decoding = decode(damaged, decoder)
    with pytest.raises(HrproError) as caught:
        for _ in decoding:
            pass
    text = str(caught.value)
    assert text.startswith(f"{damaged.name}: decoding stopped after 28 of 50 frames (2.8 s): ")
    assert text.endswith("; re-encode it, or keep what there is by `keep_partial`")
    assert "\n" not in text


def test_variable_frame_rate_follows_the_timestamps(tmp_path: Path) -> None:
    frames = moving_square(6, step=7)
    stamps = [0, 40, 400, 440, 480, 1000]
    path = write_video(tmp_path / "vfr.mkv", frames, milliseconds=stamps)
    info = probe(path)
    np.testing.assert_allclose(info.timestamps, np.array(stamps) / 1000, atol=1e-9)
    decoded = [frame for _, frame in decode(path)]
    shown = list(resample(decode(path), info, 25))
    indices = clock_indices(info.timestamps, info.duration_seconds, 25)
    assert len(shown) == len(indices) == num_clock_frames(info, 25)
    assert indices[:25].tolist() == [0] + [1] * 9 + [2, 3] + [4] * 13
    for image, index in zip(shown, indices, strict=True):
        assert np.array_equal(image, decoded[index])


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
@pytest.mark.parametrize("fps", [10, 15, 20, 24, 30, 50])
def test_every_tick_shows_the_frame_of_its_time(tmp_path: Path, suffix: str, fps: int) -> None:
    """Frame k of the clock is the one shown at k / 25 s, in containers whose own clock is coarse as well."""
    path = write_video(tmp_path / f"a{suffix}", moving_square(2 * fps, step=1), fps=fps)
    decoded = [frame for _, frame in decode(path)]
    shown = list(resample(decode(path), probe(path), 25))
    assert len(shown) == 50
    for k, image in enumerate(shown):
        assert np.array_equal(image, decoded[k * fps // 25]), f"tick {k}"


def test_start_time_and_odd_sizes(tmp_path: Path) -> None:
    frames = moving_square(5, width=62, height=46)
    late = probe(write_video(tmp_path / "late.mkv", frames, milliseconds=[700 + 40 * k for k in range(5)]))
    assert late.timestamps.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert next(iter(decode(late.path)))[1].shape == (46, 62, 3)


def test_missing_frames_on_the_clock(tmp_path: Path) -> None:
    """The frame before a gap stays."""
    info = probe(write_video(tmp_path / "a.mkv", moving_square(40), fps=25))
    left = [(float(info.timestamps[i]), np.full(1, i)) for i in range(40) if i not in (10, 11)]
    shown = [int(image[0]) for image in resample(left, info, 25)]
    assert shown == [9 if i in (10, 11) else i for i in range(40)]


def test_one_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "one.mp4", moving_square(1))
    assert num_clock_frames(probe(path), 25) == 1
    assert [time for time, _ in decode(path)] == [0.0]


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


def test_play_lists_and_addresses_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.mp4", moving_square(5))
    concat = tmp_path / "list.mp4"
    concat.write_text("ffconcat version 1.0\nfile secret.mp4\n")
    play_list = tmp_path / "list.mkv"
    play_list.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    for path in (concat, play_list):
        with pytest.raises(HrproError, match="not a video that can be read"):
            probe(path)
    with pytest.raises(HrproError, match="only local files are read"):
        find_videos([Path("http://127.0.0.1/video.mp4")])
    with pytest.raises(HrproError, match="no such file"):
        probe(Path("concat:secret.mp4|secret.mp4"))


def test_find_videos(tmp_path: Path) -> None:
    folder, other, empty = tmp_path / "videos", tmp_path / "other", tmp_path / "empty"
    for path in (folder, other, empty):
        path.mkdir()
    for name in ("b.MP4", "a.mkv", "notes.txt", ".hidden.mp4"):
        (folder / name).touch()
    (other / "a.avi").touch()
    (other / "clip.bin").touch()
    assert find_videos([folder]) == {"a": (folder / "a.mkv"), "b": folder / "b.MP4"}
    assert find_videos([other / "clip.bin"]) == {"clip": other / "clip.bin"}, "taken as named"
    assert list(find_videos([folder, folder / "a.mkv"])) == ["a", "b"], "the same file twice is one video"
    with pytest.raises(HrproError, match="a.mkv and .*a.avi: both would be video 'a'; rename one"):
        find_videos([folder, other])
    with pytest.raises(HrproError, match="empty: no videos in this folder"):
        find_videos([empty])
    with pytest.raises(HrproError, match="nowhere: no such file"):
        find_videos([tmp_path / "nowhere"])


def test_links_are_the_users_own(tmp_path: Path) -> None:
    """Linked data sets are usual; a link that leads nowhere costs only itself."""
    folder, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    write_video(elsewhere / "real.mp4", moving_square(5))
    (folder / "a.mp4").symlink_to(elsewhere / "real.mp4")
    (folder / "b.mp4").symlink_to(elsewhere / "nowhere.mp4")
    (folder / "c.mp4").mkdir()
    found = find_videos([folder])
    assert list(found) == ["a", "b", "c"]
    assert len(list(decode(found["a"]))) == 5
    with pytest.raises(HrproError, match="b.mp4: no such file"):
        probe(found["b"])
    with pytest.raises(HrproError, match="c.mp4: not a file; expected a video"):
        probe(found["c"])


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


def cut_bytes(path: Path, share: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


@pytest.mark.parametrize("name", ["h264.mkv", "vp9.webm", "mpeg4.avi", "raw.avi", "odd_444.mkv", "faststart.mp4"])
def test_a_file_that_was_cut_off_is_not_taken_for_a_shorter_video(tmp_path: Path, name: str) -> None:
    if name in MADE:
        path = write_made(tmp_path, name)
    else:
        options = {"movflags": "faststart"}
        path = write_video(tmp_path / name, moving_square(30, step=5), **X264_B, container_options=options)
    whole = [frame for _, frame in decode(path, "pyav")]
    assert probe(path).incomplete is None
    size = path.stat().st_size
    cut_bytes(path)
    have = path.stat().st_size
    with pytest.raises(HrproError, match=rf"{name}: cut off: {have} of {size} bytes; copy or download it again"):
        decode(path)
    decoding = decode(path, keep_partial=True)
    frames = [frame for _, frame in decoding]
    assert 0 < len(frames) < 30
    assert decoding.partial_reason is not None
    # The last packet may be in the file by half.
    assert all(np.array_equal(a, b) for a, b in zip(frames[:-1], whole, strict=False))


def test_a_damaged_structure_is_not_taken_for_a_shorter_video(tmp_path: Path) -> None:
    """Matroska whose reader loses its way ends early without an error."""
    path = write_made(tmp_path, "h264.mkv")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = np.random.default_rng(0).integers(0, 256, 200, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    with pytest.raises(HrproError, match=r"h264.mkv: 0.5 of 1.2 s are in the file; copy or download it again"):
        decode(path)


@pytest.mark.parametrize("name", ["h264.mp4", "mjpeg.mov"])
def test_a_file_without_its_index(tmp_path: Path, name: str) -> None:
    path = cut_bytes(write_made(tmp_path, name))
    with pytest.raises(HrproError, match=f"{name}: not a video that can be read"):
        decode(path, keep_partial=True)


@pytest.mark.parametrize("name", ["h264.ts", "mpeg2.mpg"])
def test_streams_end_where_they_end(tmp_path: Path, name: str) -> None:
    """They have no length that says otherwise; what is there is decoded or the error says how far."""
    path = cut_bytes(write_made(tmp_path, name), 0.6)
    decoding = decode(path, keep_partial=True)
    assert 10 <= len(list(decoding)) < 30


def test_the_part_before_the_damage_is_kept_if_asked_for(damaged: Path) -> None:
    decoding = decode(damaged, keep_partial=True)
    info = decoding.info
    shown = list(resample(decoding, info, 25, lambda: decoding.partial_reason is not None))
    assert decoding.num_decoded == 28
    reason = "decoding stopped after 28 of 50 frames (2.8 s): Invalid data found when processing input"
    assert decoding.partial_reason == reason
    part = decoding.decoded_part
    assert part.num_packets == 28
    assert part.duration_seconds == pytest.approx(info.timestamps[28])
    assert len(shown) == num_clock_frames(part, 25) == round(25 * info.timestamps[28])
    assert num_clock_frames(info, 25) > len(shown)
    with pytest.raises(HrproError, match="decoding stopped after 28 of 50 frames"):
        list(decode(damaged))


def test_a_complete_video_is_the_same_with_keep_partial(tmp_path: Path) -> None:
    path = write_made(tmp_path, "irregular.mkv")
    decoding = decode(path, keep_partial=True)
    kept = list(resample(decoding, decoding.info, 25, lambda: decoding.partial_reason is not None))
    whole = list(resample(decode(path), probe(path), 25))
    assert decoding.partial_reason is None
    assert decoding.decoded_part is decoding.info
    assert len(kept) == len(whole)
    assert all(np.array_equal(a, b) for a, b in zip(kept, whole, strict=True))


def test_a_video_without_any_frame_is_no_partial_one(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving_square(30), codec="ffv1")
    data = bytearray(path.read_bytes())
    first = data.index(b"\xa3", len(data) // 40)
    data[first + 20 :] = bytes(len(data) - first - 20)
    path.write_bytes(data)
    with pytest.raises(HrproError, match="^a.mkv: "):
        list(decode(path, keep_partial=True))


def test_frames_on_the_clock_end_with_the_last_decoded_frame(tmp_path: Path) -> None:
    """Up to that frame's own end, for every place to stop: the beginning of what the whole video gives."""
    info = probe(write_made(tmp_path, "irregular.mkv"))
    frames = [(float(seconds), np.full(1, k)) for k, seconds in enumerate(info.timestamps)]
    whole = [int(image[0]) for image in resample(frames, info, 25)]
    for count in range(1, 31):
        kept = [int(image[0]) for image in resample(frames[:count], info, 25, lambda: True)]
        part = cut_at(info, frames[count - 1][0])
        assert kept == whole[: len(kept)]
        assert len(kept) == num_clock_frames(part, 25)
        end = info.timestamps[count] if count < 30 else info.duration_seconds
        assert part.duration_seconds == pytest.approx(end)
        assert abs(len(kept) - 25 * end) <= 1
        assert set(kept) <= set(range(count))
    assert kept == whole
    # Otherwise the last one stays to the end.
    assert len(list(resample(frames[:5], info, 25))) == len(whole)


PEAK = r"""
import re, sys
from pathlib import Path
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
path, what = Path(sys.argv[1]), sys.argv[2]
if what == "probe":
    probe(path)
else:
    decoding = decode(path, what)
    assert sum(1 for _ in decoding) > 1000
    assert decoding.decoder == what, decoding.fallback_reason
# Not `ru_maxrss`, which counts the process that started this one.
print(int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """1 and 7 minutes of raw frames: 7 and 48 MB of file, 14 and 97 MB decoded. (decord grows: it gets short ones.)"""
    square = moving_square(50, step=5)
    short = write_video(tmp_path / "short.avi", np.tile(square, (30, 1, 1, 1)), codec="rawvideo")
    long = write_video(tmp_path / "long.avi", np.tile(square, (210, 1, 1, 1)), codec="rawvideo")
    assert long.stat().st_size > 48e6

    def peak(path: Path, what: str) -> float:
        command = [sys.executable, "-c", PEAK, str(path), what]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    growth = {what: peak(long, what) - peak(short, what) for what in ("probe", "pyav")}
    assert all(megabytes < 20 for megabytes in growth.values()), growth
