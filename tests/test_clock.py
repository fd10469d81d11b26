"""Clocks: frames of a video at a constant rate, and snippets in seconds."""

from pathlib import Path

import numpy as np
import pytest
from make_videos import moving_square, write_made, write_video

from hrpro_pipeline.data.snippets import SnippetClock
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
CLOCK = SnippetClock()  # of snippets: 25 fps, 16 frames each


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


class TestClock:
    def test_seconds_and_positions_are_inverse(self) -> None:
        for clock in (CLOCK, SnippetClock(30, 16, 4), SnippetClock(15, 64, 8)):
            positions = np.array([0.0, 0.5, 7.25])
            np.testing.assert_allclose(clock.to_positions(clock.to_seconds(positions)), positions)

    @pytest.mark.parametrize(("frames", "count"), [(1, 1), (15, 1), (16, 1), (31, 1), (32, 2), (250, 15), (452, 28)])
    def test_number_of_snippets(self, frames: int, count: int) -> None:
        assert CLOCK.num_snippets(frames) == count

    def test_overlapping_snippets_are_centered_on_their_windows(self) -> None:
        clock = SnippetClock(25, 16, 4)
        middle = clock.to_seconds(np.array([10.5]))[0]
        assert middle == pytest.approx(sum(clock.window_seconds(10)) / 2)

    def test_a_time_on_a_border_belongs_to_the_later_snippet(self) -> None:
        times = np.arange(1, 50) * 0.64
        np.testing.assert_array_equal(CLOCK.index_at(times, 100), np.arange(1, 50))

    def test_times_in_the_dropped_tail_belong_to_the_last_snippet(self) -> None:
        assert CLOCK.index_at(np.array([6.9]), 10)[0] == 9
