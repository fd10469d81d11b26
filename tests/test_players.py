"""Files that are shown otherwise than they are stored: every decoder gives what a player shows, and so do pictures."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from make_videos import X264, X264_B, X265, moving_square, write_video
from players import (
    ORIENTATIONS,
    decoded_by_each,
    levels_apart,
    need_ffmpeg,
    oriented,
    shown_by_ffmpeg,
    with_edits,
    with_matrix,
)

from hrpro_pipeline.data.detections import Detection
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.show.render import RenderJob, render
from hrpro_pipeline.show.thumbnails import film_strip

# Edits (seconds, from which second on), and the frames of 250 at 25 fps that they show.
EDITS: dict[str, tuple[list[tuple[float, float | None]], list[int]]] = {
    "a part": ([(2, 4)], [*range(100, 150)]),
    "not from a key frame on": ([(1.6, 4.52)], [*range(113, 153)]),
    "two parts": ([(1, 2), (1.4, 6)], [*range(50, 75), *range(150, 185)]),
    "two parts in another order": ([(1, 6), (1, 2)], [*range(150, 175), *range(50, 75)]),
    "nothing, then a part": ([(1, None), (2, 4)], [*range(100, 150)]),
    "nothing, then two parts": ([(0.4, None), (1, 2), (1, 8)], [*range(50, 75), *range(200, 225)]),
    "beyond the end": ([(100, 4)], [*range(100, 250)]),
    "one frame": ([(0.04, 4)], [100]),
}


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("codec", ["in order", "B-frames", "hevc"])
def test_an_edit_list_shows_exactly_its_frames(tmp_path: Path, kind: str, codec: str) -> None:
    edits, numbers = EDITS[kind]
    arguments = {"in order": X264, "B-frames": X264_B, "hevc": X265}[codec]
    whole = write_video(tmp_path / "whole.mp4", moving_square(250, step=1), **arguments)
    every = np.stack([frame for _, frame in decode(whole, "pyav")])
    path = with_edits(whole, tmp_path / "edited.mp4", edits)
    info = probe(path)
    assert (info.num_packets, info.incomplete) == (len(numbers), None)
    # Where a second part begins among frames that are out of order, FFmpeg leaves a gap or an overlap of frames.
    seam_seconds = 0.13 if "two parts" in kind and codec != "in order" else 1e-3
    assert info.duration_seconds == pytest.approx(len(numbers) / 25, abs=seam_seconds)
    for name, (decoding, seconds, frames) in decoded_by_each(path).items():
        np.testing.assert_allclose(seconds, np.arange(len(numbers)) / 25, atol=seam_seconds, err_msg=name)
        # HEVC with open groups is predicted from other frames where the ones before the part are not there.
        assert levels_apart(frames, every[numbers]) <= (0 if codec != "hevc" else 40), name
        assert decoding.partial_reason is None


def test_an_edit_list_shows_what_ffmpeg_shows(tmp_path: Path) -> None:
    need_ffmpeg()
    whole = write_video(tmp_path / "whole.mp4", moving_square(250, step=1), **X264_B)
    for kind, (edits, _) in EDITS.items():
        path = with_edits(whole, tmp_path / "edited.mp4", edits)
        expected = shown_by_ffmpeg(path, 48, 64)
        for name, (_, _, frames) in decoded_by_each(path).items():
            assert levels_apart(frames, expected) <= 8, (kind, name)


def test_a_trimmed_file_that_was_cut_off_as_well(tmp_path: Path) -> None:
    """What the edit list leaves out does not hide what is missing."""
    whole = write_video(tmp_path / "whole.mp4", moving_square(250, step=1), **X264)
    path = with_edits(whole, tmp_path / "edited.mp4", [(2, 4)])
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(HrproError, match=r"edited\.mp4: "):
        decode(path)
    content = bytearray(with_edits(whole, path, [(2, 4)]).read_bytes())
    place = content.find(b"stco") - 4  # the table of chunks says that there are none
    content[place + 4 : place + 8] = b"free"
    path.write_bytes(content)
    with pytest.raises(HrproError, match=r"edited\.mp4: "):
        decode(path)


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("starts", ["a picture", "black"])
def test_eight_orientations(tmp_path: Path, name: str, starts: str) -> None:
    """The first frame need not show how it is turned."""
    drawn = moving_square(12)
    if starts == "black":
        drawn[0] = 0
    source = write_video(tmp_path / "plain.mp4", drawn, **X264_B)
    plain = [frame for _, frame in decode(source, "pyav")]
    path = with_matrix(source, tmp_path / "turned.mp4", name)
    expected = np.stack([oriented(frame, name) for frame in plain])
    for decoder, (_, _, frames) in decoded_by_each(path).items():
        assert levels_apart(frames, expected) == 0, decoder


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_pictures_are_oriented_as_players_show_them(tmp_path: Path, name: str) -> None:
    source = write_video(tmp_path / "plain.mp4", moving_square(25), **X264_B)
    path = with_matrix(source, tmp_path / "turned.mp4", name)
    detection = Detection("run", 1.0, 0.4, 0.8)
    render(path, RenderJob(tmp_path / "over.mp4", tmp_path / "clips", (), (detection,), {"run": "#4477AA"}))
    (clip,) = (tmp_path / "clips").iterdir()
    plain = [frame for _, frame in decode(source)]
    expected = oriented(plain[10], name)
    height, width = expected.shape[:2]
    shown = list(decode(tmp_path / "over.mp4"))[10][1]
    assert np.abs(shown[: height - 8].astype(int) - expected[: height - 8]).mean() < 8  # the timeline is below
    assert np.abs(next(iter(decode(clip)))[1].astype(int) - expected).mean() < 6
    strip = film_strip(path, 1)
    expected = oriented(plain[round(strip.seconds[0] * 25)], name)
    sheet = cv2.imdecode(np.frombuffer(strip.jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(cv2.resize(sheet, (width, height)).astype(int) - expected).mean() < 12


def test_orientations_are_those_of_ffmpeg(tmp_path: Path) -> None:
    need_ffmpeg()
    source = write_video(tmp_path / "plain.mp4", moving_square(3), **X264)
    for name in ORIENTATIONS:
        path = with_matrix(source, tmp_path / "turned.mp4", name)
        height, width = oriented(np.zeros((48, 64)), name).shape
        frames = np.stack([frame for _, frame in decode(path, "pyav")])
        assert levels_apart(frames, shown_by_ffmpeg(path, height, width)) <= 8, name


def write_cover_first(path: Path, codec: str, pix_fmt: str, *, attached: bool = False) -> Path:
    """A picture of 128 x 96 as the first stream, a video of 64 x 48 as the second."""
    with av.open(str(path), "w") as container:
        cover = container.add_stream(codec, rate=25)
        assert isinstance(cover, av.VideoStream)
        cover.width, cover.height, cover.pix_fmt = 128, 96, pix_fmt
        if attached:
            cover.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream("libx264", rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for stream, images in ((cover, moving_square(1, 128, 96)), (video, moving_square(50))):
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("file", "codec", "pix_fmt", "attached"),
    [
        ("png.mp4", "png", "rgb24", False),
        ("mjpeg.mp4", "mjpeg", "yuvj420p", False),
        ("mjpeg.mkv", "mjpeg", "yuvj420p", False),
        ("mjpeg.mov", "mjpeg", "yuvj420p", False),
        ("marked.mp4", "mjpeg", "yuvj420p", True),
    ],
)
def test_a_cover_picture_before_the_video(tmp_path: Path, file: str, codec: str, pix_fmt: str, attached: bool) -> None:
    path = write_cover_first(tmp_path / file, codec, pix_fmt, attached=attached)
    info = probe(path)
    assert (info.codec, info.num_packets, info.width) == ("h264", 50, 64)
    assert info.duration_seconds == pytest.approx(2.0, abs=0.01)
    results = decoded_by_each(path)
    for name, (_, _, frames) in results.items():
        assert levels_apart(frames, results["pyav"][2]) == 0, name
    strip = film_strip(path, 4)
    assert (strip.codec, len(strip.seconds)) == ("h264", 4)
    render(path, RenderJob(tmp_path / "over.mp4", None, (), (), {}))
    assert (probe(tmp_path / "over.mp4").width, probe(tmp_path / "over.mp4").num_packets) == (64, 50)


def test_a_film_of_pictures_is_a_video(tmp_path: Path) -> None:
    """Motion JPEG of many frames stays the choice where it was, and a picture alone is all there is."""
    film = write_video(tmp_path / "film.mov", moving_square(30), codec="mjpeg", pix_fmt="yuvj422p")
    assert (probe(film).codec, probe(film).num_packets) == ("mjpeg", 30)
    picture = write_video(tmp_path / "one.mov", moving_square(1), codec="png", pix_fmt="rgb24")
    assert (probe(picture).codec, probe(picture).num_packets) == ("png", 1)
