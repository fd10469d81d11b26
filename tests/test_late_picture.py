"""Videos whose sound starts before the picture: second 0 is where players start, everywhere."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from make_videos import moving_square
from players import decoded_by_each, levels_apart
from small_extraction import CPU, RGB_ONLY, extract

from hrpro_pipeline.data.dataset import load_training_set
from hrpro_pipeline.data.detections import Detection
from hrpro_pipeline.data.features import read_header, store_features
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.extract.backbones import load_backbones
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.show.render import RenderJob, render
from hrpro_pipeline.show.thumbnails import film_strip

FPS = 25


def write_late(
    path: Path, picture_ms: int, sound_ms: int = 0, time_of: Callable[[int], int] = lambda k: 40 * k
) -> Path:
    """100 frames and 8 s of a tone, from these milliseconds on; `time_of` a frame, from the first one on."""
    with av.open(str(path), "w") as container:
        video, sound = container.add_stream("libx264", rate=FPS), container.add_stream("aac", rate=48000)
        assert isinstance(video, av.VideoStream) and isinstance(sound, av.AudioStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        tone = np.sin(np.arange(8 * 48000) / 20).astype(np.float32)
        for start in range(0, len(tone), 1024):
            part = np.stack([tone[start : start + 1024]] * 2)
            heard = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            heard.sample_rate, heard.time_base = 48000, Fraction(1, 48000)
            heard.pts = start + 48 * sound_ms
            container.mux(sound.encode(heard))
        container.mux(sound.encode())
        for k, image in enumerate(moving_square(100)):
            shown = av.VideoFrame.from_ndarray(image, format="rgb24")
            shown.pts, shown.time_base = picture_ms + time_of(k), Fraction(1, 1000)
            container.mux(video.encode(shown))
        container.mux(video.encode())
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
@pytest.mark.parametrize(("picture_ms", "sound_ms"), [(2000, 0), (700, 0), (3500, 1000)])
def test_frames_are_timed_from_where_players_start(tmp_path: Path, suffix: str, picture_ms: int, sound_ms: int) -> None:
    path = write_late(tmp_path / f"late.{suffix}", picture_ms, sound_ms)
    delay = (picture_ms - sound_ms) / 1000
    info = probe(path)
    assert info.duration_seconds == pytest.approx(delay + 4.0, abs=0.05)
    assert info.fps == pytest.approx(FPS, abs=0.3)
    results = decoded_by_each(path)
    for name, (_, seconds, frames) in results.items():
        np.testing.assert_allclose(seconds, delay + np.arange(100) / FPS, atol=0.03, err_msg=name)
        assert levels_apart(frames, results["pyav"][2]) == 0, name


@pytest.mark.parametrize(("picture_ms", "sound_ms"), [(0, 0), (60, 0), (0, 2000)])
def test_the_picture_starts_at_0_elsewhere(tmp_path: Path, picture_ms: int, sound_ms: int) -> None:
    """With the sound, a little after it, before it."""
    info = probe(write_late(tmp_path / "a.mkv", picture_ms, sound_ms))
    assert info.timestamps[0] == 0
    assert info.duration_seconds == pytest.approx(4.0, abs=0.05)


def test_pictures_are_those_of_the_detection(tmp_path: Path) -> None:
    path = write_late(tmp_path / "late.mp4", 2000)
    frames = [frame.astype(int) for _, frame in decode(path, "pyav")]
    detection = Detection("run", 1.0, 3.0, 4.0)
    render(path, RenderJob(tmp_path / "over.mp4", tmp_path / "clips", (), (detection,), {"run": "#4477AA"}))
    (clip,) = (tmp_path / "clips").iterdir()
    assert np.abs(next(iter(decode(clip)))[1] - frames[25]).mean() < 6
    assert probe(tmp_path / "over.mp4").duration_seconds == pytest.approx(6.0, abs=0.05)
    with av.open(str(clip)) as container:
        (sound,) = container.streams.audio
        assert float((sound.start_time or 0) * (sound.time_base or 1)) == pytest.approx(0.0, abs=0.05)
    strip = film_strip(path, 6)
    assert strip.seconds[0] >= 2.0 - 0.05
    assert strip.seconds[-1] == pytest.approx(5.5, abs=0.05)


def test_points_in_seconds_and_in_frames_mean_the_same_moment(tmp_path: Path) -> None:
    backbones = load_backbones(RGB_ONLY, "random", CPU)
    steady = write_late(tmp_path / "steady.mp4", 2000)
    slowing = write_late(tmp_path / "slowing.mp4", 2000, time_of=lambda k: 40 * k if k < 50 else 200 * (k - 40))
    for path in (steady, slowing):
        store_features(tmp_path / "features", extract(path, backbones, RGB_ONLY))
    points = tmp_path / "points.csv"
    points.write_text(
        "video_id,class,time,point\nsteady,a,3,\nsteady,a,,25\nslowing,a,3,\nslowing,a,,25\nslowing,b,,60\n"
    )
    header = read_header(tmp_path / "features" / "steady.h5")
    assert header.source["first_frame"] == pytest.approx(2.0, abs=0.03)
    assert header.duration_seconds == pytest.approx(6.0, abs=0.05)
    slow, constant = load_training_set(tmp_path / "features", read_points(points), {}).videos
    moments = header.clock.to_positions(np.array([3.0, 3.0, 6.0]))
    np.testing.assert_allclose(constant.positions, moments[:2], atol=0.06)
    np.testing.assert_allclose(slow.positions, moments, atol=0.06)
