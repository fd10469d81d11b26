"""Which of a file's video streams is the video."""

import av
from av.stream import Disposition

# Codecs of still pictures; those of a cover, where a file does not mark it as one.
_PICTURE_CODECS = {"apng", "bmp", "gif", "jpegls", "mjpeg", "png", "ppm", "tiff", "webp"}
_LEAST_DELAY_SECONDS = 0.1
_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails


def video_stream(container: "av.container.InputContainer") -> av.VideoStream | None:
    """The video stream that players show: FFmpeg's choice, but no cover picture beside a video; None for none.

    A cover is marked as one, or it is a still picture in a file that has a video as well.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & _NO_VIDEO]
    videos = [stream for stream in streams if not _is_picture(stream)] or streams
    best = container.streams.best("video")
    if not videos or any(stream is best for stream in videos):
        return best if videos and isinstance(best, av.VideoStream) else None
    return max(videos, key=lambda stream: (bool(stream.disposition & Disposition.default), stream.bit_rate or 0))


def picture_delay(container: "av.container.InputContainer", first_seconds: float) -> float:
    """By how many seconds the picture, which starts at a time of the container, is later than the sound.

    0 for no sound before it, and for so little that nobody notices: encoders start sound a little early.
    """
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in container.streams.audio
        if stream.start_time is not None and stream.time_base is not None
    ]
    delay = first_seconds - min(starts, default=first_seconds)
    return delay if delay >= _LEAST_DELAY_SECONDS else 0.0


def _is_picture(stream: av.VideoStream) -> bool:
    """Whether a stream is a single picture, as far as its container tells (0 frames: it does not)."""
    return stream.codec_context.name in _PICTURE_CODECS and stream.frames <= 1
