"""Small frames of a video; of long videos key frames, by seeking."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.extract.video.continuous import JOINABLE
from hrpro_pipeline.extract.video.orientation import orientation, upright
from hrpro_pipeline.extract.video.probe import open_video, probe
from hrpro_pipeline.extract.video.pyav import numbered_frames, with_known_matrix
from hrpro_pipeline.extract.video.streams import picture_delay, video_stream

# The box that a thumbnail is fitted into, in pixels.
_WIDTH, _HEIGHT = 112, 80
_COLUMNS = 8
_QUALITY = 70
# Videos of more pixels (some seconds of work) are not decoded from end to end: they give key frames.
_MOST_PIXELS = 1e9


@dataclass(frozen=True)
class FilmStrip:
    """Frames of a video, row by row in one picture.

    Attributes:
        seconds: time of each frame, [N], increasing, from second 0 of the video on.
        width, height: of one frame in the picture, in pixels.
        columns: frames in a row.
        jpeg: the picture.
        codec: of the video.
    """

    seconds: tuple[float, ...]
    width: int
    height: int
    columns: int
    jpeg: bytes
    codec: str


def film_strip(path: Path, count: int) -> FilmStrip:
    """About `count` frames spread over a video; fewer if it has fewer, or fewer key frames.

    Raises:
        HrproError: not a video, or none of its frames can be decoded.
    """
    seconds: list[float] = []
    images: list[np.ndarray] = []
    problem = "no frame can be decoded"
    codec = ""
    try:
        with open_video(path) as container:
            stream = video_stream(path, container)
            codec = stream.codec_context.name
            for time, frame in _spread_frames(container, stream, path, count):
                images.append(thumbnail(frame, float(stream.sample_aspect_ratio or 1)))
                seconds.append(round(time, 3))
    except (av.FFmpegError, OSError, ValueError) as error:
        problem = one_line(error)
    if not images:
        raise HrproError(f"{path.name}: not a video that can be read ({problem})")
    jpeg = sheet(images, _COLUMNS)
    height, width = images[0].shape[:2]
    return FilmStrip(tuple(seconds), width, height, _COLUMNS, jpeg, codec)


def sheet(images: Sequence[np.ndarray], columns: int) -> bytes:
    """Images [h, w, 3], RGB uint8, side by side, row by row, as a JPEG; all in the size of the first one."""
    # A stream may change its size.
    height, width = images[0].shape[:2]
    images = [cv2.resize(image, (width, height)) if image.shape[:2] != (height, width) else image for image in images]
    rows = -(-len(images) // columns)
    picture = np.zeros((rows * height, min(len(images), columns) * width, 3), np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * height, index % columns * width
        picture[top : top + height, left : left + width] = image
    _, jpeg = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return jpeg.tobytes()


def _spread_frames(
    container: "av.container.InputContainer", stream: av.VideoStream, path: Path, count: int
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames and their seconds, at the middles of `count` equal parts of the video or at key frames near them."""
    if stream.time_base is None:
        raise ValueError("its video stream has no clock")
    tick = float(stream.time_base)
    start = (stream.start_time or 0) * tick
    delay = picture_delay(container, start)
    start -= delay
    duration = delay + stream.duration * tick if stream.duration else (container.duration or 0) / 1e6
    if duration <= 0 or container.format.name in JOINABLE:
        info = probe(path)
        duration = info.duration_seconds
        if info.time_note is not None:  # what FFmpeg takes for a frame's time is not to be sought
            frames = ((float(info.timestamps[number]), frame) for number, frame in numbered_frames(info))
            return _first_frames(frames, _middles(duration, count))
    middles = _middles(duration, count)
    rate = float(stream.average_rate or 30)
    num_pixels = duration * rate * stream.codec_context.width * stream.codec_context.height
    read = _decoded_frames if num_pixels <= _MOST_PIXELS else _key_frames
    return read(container, stream, start, middles)


def _middles(duration: float, count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) * duration / count


def _first_frames(
    frames: Iterable[tuple[float, av.VideoFrame]], middles: np.ndarray
) -> Iterator[tuple[float, av.VideoFrame]]:
    """The first frame from each time on; a frame is given once."""
    index = 0
    for seconds, frame in frames:
        if index < len(middles) and seconds >= middles[index]:
            yield seconds, frame
            index = int(np.searchsorted(middles, seconds, "right"))


def _decoded_frames(
    container: "av.container.InputContainer", stream: av.VideoStream, start: float, middles: np.ndarray
) -> Iterator[tuple[float, av.VideoFrame]]:
    """As `_first_frames`, by decoding all."""
    stream.thread_type = "AUTO"
    return _first_frames((((frame.time or 0.0) - start, frame) for frame in container.decode(stream)), middles)


def _key_frames(
    container: "av.container.InputContainer", stream: av.VideoStream, start: float, middles: np.ndarray
) -> Iterator[tuple[float, av.VideoFrame]]:
    """The key frame before each time, by seeking; a frame is given once."""
    assert stream.time_base is not None
    stream.codec_context.skip_frame = "NONKEY"
    last = -1.0
    for middle in middles:
        container.seek(int((middle + start) / float(stream.time_base)), stream=stream)
        frame = next(container.decode(stream), None)
        if frame is not None and (seconds := (frame.time or 0.0) - start) > last:
            yield seconds, frame
            last = seconds


def thumbnail(frame: av.VideoFrame, pixel_width: float) -> np.ndarray:
    """The frame turned upright and fitted into the box, RGB uint8 [h, w, 3]; a pixel may be wider than high."""
    rotation, mirrored = orientation(frame)
    box = (_WIDTH, _HEIGHT) if rotation % 180 == 0 else (_HEIGHT, _WIDTH)
    sides = (frame.width * pixel_width, frame.height)
    scale = min(box[0] / sides[0], box[1] / sides[1])
    width, height = (max(2, round(side * scale)) for side in sides)
    small = with_known_matrix(frame).reformat(width=width, height=height, format="rgb24")
    return upright(small.to_ndarray(), rotation, mirrored)
