"""Which of a file's video streams is the video."""

from pathlib import Path

import av
from av.stream import Disposition

from hrpro_pipeline.errors import HrproError

# Codecs of still pictures; those of a cover, where a file does not mark it as one.
_PICTURE_CODECS = {"apng", "bmp", "gif", "jpegls", "mjpeg", "png", "ppm", "tiff", "webp"}
_LEAST_DELAY_SECONDS = 0.1
_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails


def video_stream(path: Path, container: "av.container.InputContainer") -> av.VideoStream:
    """The video stream that players show: FFmpeg's choice, but no cover picture beside a video.

    A cover is marked as one, or it is a still picture in a file that has a video as well. A stream of a codec that
    FFmpeg does not know is none.

    Raises:
        HrproError: there is none.
    """
    streams = [stream for stream in container.streams.video if is_known(stream) and not stream.disposition & _NO_VIDEO]
    videos = [stream for stream in streams if not _is_picture(stream)] or streams
    if not videos:
        is_unknown = bool(container.streams.video) and not any(map(is_known, container.streams.video))
        unknown = "its codec is not known; re-encode or remove it"
        raise HrproError(f"{path.name}: {unknown if is_unknown else 'no video stream; expected a video'}")
    best = container.streams.best("video")
    if isinstance(best, av.VideoStream) and any(stream is best for stream in videos):
        return best
    return max(videos, key=lambda stream: (bool(stream.disposition & Disposition.default), stream.bit_rate or 0))


def is_known(stream: "av.stream.Stream") -> bool:
    """Whether FFmpeg has a decoder for a stream."""
    return stream.codec_context is not None


def sound_stream(container: "av.container.InputContainer") -> av.AudioStream | None:
    """The sound that players play; None for none that FFmpeg knows."""
    best = container.streams.best("audio")
    return best if isinstance(best, av.AudioStream) and is_known(best) else None


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
