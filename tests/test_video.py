"""Decoding, timestamps and the clock: real files, made files, broken files."""

import sys
from pathlib import Path

import numpy as np
import pytest
from make_videos import moving_square, write_video

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract import decoders
from hrpro_pipeline.extract.decoders import decode
from hrpro_pipeline.extract.video import clock_indices, find_videos, num_clock_frames, probe, resample

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


@pytest.mark.shared
@pytest.mark.parametrize("name", CLOCK_FRAMES)
def test_real_videos_on_the_clock_and_decoders_agree(shared: Path, name: str) -> None:
    path = shared / "videos" / name
    info = probe(path)
    assert num_clock_frames(info, 25) == CLOCK_FRAMES[name]
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
    assert sum(1 for _ in resample(decode(path), info, 25)) == CLOCK_FRAMES[name]


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


@pytest.mark.shared
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_a_corrupted_video_fails_in_one_line(shared: Path, decoder: str) -> None:
    decoding = decode(shared / "videos" / "corrupted.mp4", decoder)
    with pytest.raises(HrproError) as caught:
        for _ in decoding:
            pass
    text = str(caught.value)
    assert text.startswith("corrupted.mp4: decoding stopped after 28 of 50 frames (2.8 s): ")
    assert text.endswith("; re-encode or remove it")
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


def test_missing_frames_keep_the_others_in_place(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving_square(40), fps=25)
    info = probe(path)

    class Frame:
        def __init__(self, time: float) -> None:
            self.time = time

    times = info.timestamps + info.start_seconds
    gap = [Frame(times[i]) for i in range(40) if i not in (10, 11)]
    found = [index for index, _ in decoders._with_indices(gap, info)]  # type: ignore[arg-type]
    assert found[:3] == [0, 1, 2]
    assert found[-20:] == list(range(20, 40))
    swapped = list(range(40))
    swapped[7], swapped[8] = 8, 7  # labels of neighbours exchanged, as in AVI files with B-frames
    found = [index for index, _ in decoders._with_indices([Frame(times[i]) for i in swapped], info)]  # type: ignore[arg-type]
    assert found == list(range(40))
    # On the clock, the frame before a gap stays.
    left = [(float(info.timestamps[i]), np.full(1, i)) for i in range(40) if i not in (10, 11)]
    shown = [int(image[0]) for image in resample(left, info, 25)]
    assert shown == [9 if i in (10, 11) else i for i in range(40)]


def test_one_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "one.mp4", moving_square(1))
    assert num_clock_frames(probe(path), 25) == 1
    assert [time for time, _ in decode(path)] == [0.0]


def test_decord_that_fails_on_the_way_is_continued_by_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    path = write_video(tmp_path / "a.mp4", moving_square(40))
    expected = list(decode(path, "pyav"))
    monkeypatch.setattr(decoders, "_CHUNK_FRAMES", 8)
    read = decoders._read_batch

    def failing(reader: object, wanted: range) -> np.ndarray:
        if wanted.start >= 16:
            raise RuntimeError("made to fail")
        return read(reader, wanted)

    monkeypatch.setattr(decoders, "_read_batch", failing)
    decoding = decode(path)
    assert decoding.decoder == "decord"
    found = list(decoding)
    assert decoding.decoder == "pyav"
    assert decoding.fallback_reason == "decord failed after 16 frames: made to fail"
    assert [time for time, _ in found] == [time for time, _ in expected]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(found, expected, strict=True))


def test_decord_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    path = write_video(tmp_path / "a.mp4", moving_square(5))
    decoding = decode(path)
    monkeypatch.setattr(decoders, "_DECORD_SECONDS", 0.2)
    monkeypatch.setattr(decoders, "_read_batch", lambda reader, wanted: decoders.threading.Event().wait(20))
    assert len(list(decoding)) == 5
    assert decoding.fallback_reason == "decord failed after 0 frames: no answer within 0.2 s"


def test_without_decord_pyav_is_used_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(5))
    monkeypatch.setitem(sys.modules, "decord", None)  # what `import` finds of a package that is not installed
    decoding = decode(path)
    assert (decoding.decoder, decoding.fallback_reason) == ("pyav", "decord refused: it is not installed")
    assert len(list(decoding)) == 5


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    text, empty, sound = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "sound.mkv"
    text.write_text("this is not a video\n" * 50)
    empty.touch()
    import av

    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
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


def test_unknown_decoder(tmp_path: Path) -> None:
    with pytest.raises(HrproError, match="decoder 'ffmpeg'; expected one of auto, decord, pyav"):
        decode(write_video(tmp_path / "a.mp4", moving_square(2)), "ffmpeg")


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
