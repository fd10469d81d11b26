"""Film strips: the frames are those of their times, whether decoded through or sought."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from make_videos import moving_square, write_video

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.show import thumbnails
from hrpro_pipeline.show.thumbnails import FilmStrip, film_strip

FPS = 10


def frames_of(strip: FilmStrip) -> np.ndarray:
    """RGB [N, h, w, 3] of the picture."""
    sheet = cv2.imdecode(np.frombuffer(strip.jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    rows, columns = sheet.shape[0] // strip.height, sheet.shape[1] // strip.width
    grid = sheet.reshape(rows, strip.height, columns, strip.width, 3).swapaxes(1, 2)
    return grid.reshape(rows * columns, strip.height, strip.width, 3)[: len(strip.seconds)]


def square_left(image: np.ndarray) -> float:
    """Where the bright yellow square of `moving_square` begins, in pixels of the video, which is 64 wide."""
    columns = (image[:, :, 0].astype(int) - image[:, :, 2] > 90).sum(axis=0)
    return float(np.flatnonzero(columns > columns.max() / 2)[0]) * 64 / image.shape[1]


def check(strip: FilmStrip) -> None:
    lefts = [square_left(image) for image in frames_of(strip)]
    expected = [(4 + 2 * round(time * FPS)) % 48 for time in strip.seconds]
    assert lefts == pytest.approx(expected, abs=2.5)


def test_frames_are_those_of_their_times(tmp_path: Path) -> None:
    strip = film_strip(write_video(tmp_path / "a.mp4", moving_square(100), FPS), 20)
    assert (strip.width, strip.height, strip.codec) == (107, 80, "mpeg4")
    assert strip.seconds == pytest.approx(np.arange(0.25, 10, 0.5), abs=0.1)
    check(strip)


def test_key_frames_of_long_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(100), FPS)
    monkeypatch.setattr(thumbnails, "_MOST_PIXELS", 0)
    strip = film_strip(path, 30)
    assert strip.seconds == pytest.approx(np.arange(9) * 1.2), "MPEG-4 has a key frame each 12 frames"
    check(strip)
    assert film_strip(path, 3).seconds == pytest.approx((1.2, 4.8, 7.2))


def test_fewer_frames_than_wanted(tmp_path: Path) -> None:
    strip = film_strip(write_video(tmp_path / "a.mp4", moving_square(3), FPS), 20)
    assert len(strip.seconds) == len(set(strip.seconds)) <= 3
    assert len(frames_of(strip)) == len(strip.seconds)


def test_upright_frames_fit_the_box(tmp_path: Path) -> None:
    strip = film_strip(write_video(tmp_path / "a.mp4", moving_square(10, width=48, height=96), FPS), 4)
    assert (strip.width, strip.height) == (40, 80)


def test_a_file_that_ends_early_gives_what_it_has(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", moving_square(100), FPS, codec="mpeg2video")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    strip = film_strip(path, 20)
    assert 3 <= len(strip.seconds) <= 20 and strip.seconds[-1] < 7


@pytest.mark.parametrize("content", [b"", b"no video", b"#EXTM3U\nhttp://127.0.0.1/a.ts\n"])
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(HrproError, match="^a.mp4: not a video that can be read"):
        film_strip(path, 4)
    with pytest.raises(HrproError, match="^b.mp4: not a video that can be read .No such file"):
        film_strip(tmp_path / "b.mp4", 4)
