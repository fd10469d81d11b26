"""Small frames of a video for the report, found by seeking where decoding it all would take long."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.extract.video.probe import open_video, probe

# The box that a thumbnail is fitted into, in pixels.
_WIDTH, _HEIGHT = 112, 80
_COLUMNS = 8
_QUALITY = 70
# Videos of more pixels than these (some seconds of work) are not decoded from end to end: their key frames serve.
_MOST_PIXELS = 1e9


@dataclass(frozen=True)
class FilmStrip:
    """Frames of a video, row by row in one picture.

    Attributes:
        seconds: time of each frame, [N], increasing; the video's first frame is at 0.
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
    """About `count` frames spread over a video; fewer where it has fewer, or fewer key frames.

    Raises:
        HrproError: not a video, or none of its frames can be decoded.
    """
    seconds: list[float] = []
    images: list[np.ndarray] = []
    problem = "no frame can be decoded"
    codec = ""
    try:
        with open_video(path) as container:
            if not container.streams.video:
                raise HrproError(f"{path.name}: no video stream; expected a video")
            stream = container.streams.video[0]
            codec = stream.codec_context.name
            for time, frame in _spread(container, stream, path, count):
                images.append(_small(frame, float(stream.sample_aspect_ratio or 1)))
                seconds.append(round(time, 3))
    except (av.FFmpegError, OSError, ValueError) as error:
        problem = one_line(error)
    if not images:
        raise HrproError(f"{path.name}: not a video that can be read ({problem})")
    # A stream may change its size; the first frame's stands.
    height, width = images[0].shape[:2]
    images = [cv2.resize(image, (width, height)) if image.shape[:2] != (height, width) else image for image in images]
    rows = -(-len(images) // _COLUMNS)
    sheet = np.zeros((rows * height, min(len(images), _COLUMNS) * width, 3), np.uint8)
    for place, image in enumerate(images):
        top, left = place // _COLUMNS * height, place % _COLUMNS * width
        sheet[top : top + height, left : left + width] = image
    _, coded = cv2.imencode(".jpg", sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return FilmStrip(tuple(seconds), width, height, _COLUMNS, coded.tobytes(), codec)


def _spread(
    container: "av.container.InputContainer", stream: av.VideoStream, path: Path, count: int
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames and their seconds, at the middles of `count` equal parts of the video or at key frames near them."""
    if stream.time_base is None:
        raise ValueError("its video stream has no clock")
    tick = float(stream.time_base)
    start = (stream.start_time or 0) * tick
    duration = stream.duration * tick if stream.duration else (container.duration or 0) / 1e6
    if duration <= 0:
        duration = probe(path).duration_seconds
    wanted = (np.arange(count) + 0.5) * duration / count
    context = stream.codec_context
    rate = float(stream.average_rate or 30)
    if duration * rate * context.width * context.height <= _MOST_PIXELS:
        stream.thread_type = "AUTO"
        place = 0
        for frame in container.decode(stream):
            time = (frame.time or 0.0) - start
            if place < count and time >= wanted[place]:
                yield time, frame
                place = int(np.searchsorted(wanted, time, "right"))
        return
    context.skip_frame = "NONKEY"
    last = -1.0
    for time in wanted:
        container.seek(int((time + start) / tick), stream=stream)
        key_frame = next(container.decode(stream), None)
        if key_frame is not None and (shown := (key_frame.time or 0.0) - start) > last:
            yield shown, key_frame
            last = shown


def _small(frame: av.VideoFrame, pixel_width: float) -> np.ndarray:
    """The frame turned upright and fitted into the box, RGB uint8 [h, w, 3]; a pixel may be wider than high."""
    turns = round(frame.rotation / 90) % 4
    box = (_WIDTH, _HEIGHT) if turns % 2 == 0 else (_HEIGHT, _WIDTH)
    shown = (frame.width * pixel_width, frame.height)
    scale = min(box[0] / shown[0], box[1] / shown[1])
    width, height = (max(2, round(side * scale)) for side in shown)
    return np.rot90(frame.reformat(width=width, height=height, format="rgb24").to_ndarray(), turns)
