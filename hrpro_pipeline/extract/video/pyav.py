"""Frames by PyAV, which opens every file and judges it: what PyAV cannot decode is a damaged video."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation

from hrpro_pipeline.errors import one_line
from hrpro_pipeline.extract.video.continuous import Continuous
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.orientation import upright
from hrpro_pipeline.extract.video.probe import MAX_PIXELS, open_video
from hrpro_pipeline.extract.video.reading import DecodingStoppedError, NumberedFrame, OpenedVideo

# Levels by which another decoder's first frame may differ from PyAV's on the CPU: rounding at any pixel, but never
# another frame, or one that is not turned.
FIRST_FRAME_LEVELS = 8

# Codes of matrices. PyAV's FFmpeg refuses the second one (constant luminance); others take it for the first one.
_BT2020, _BT2020_CONSTANT = 9, 10
_UNUSUAL_MATRICES = {8: "YCgCo", 14: "ICtCp"}

# Frames over which timestamps must agree before frames count as missing.
_LOOKAHEAD = 8


def open_pyav(info: VideoInfo, first: int, device: str = "cpu") -> OpenedVideo:
    """Frames from number `first` on, decoded on the CPU whatever the device; refuses nothing."""
    return OpenedVideo(_frames_from(first, info))


def first_frame_difference(image: np.ndarray, info: VideoInfo) -> np.ndarray:
    """Levels between another decoder's first frame and PyAV's, [H, W, 3]; 255 for one of another size."""
    with closing(_decoded(info)) as frames:
        expected = _rgb(next(frames), info)
    if image.shape != expected.shape:
        return np.full(expected.shape, 255)
    return np.abs(image.astype(np.int16) - expected)


def numbered_frames(info: VideoInfo) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames as they are stored, each with its number among the container's timestamps. Raises av.FFmpegError."""
    return _with_numbers(_decoded(info), info)


def has_halved_chroma(pixels: av.VideoFormat) -> bool:
    """Whether color has fewer rows than brightness (4:2:0, 4:1:0)."""
    return pixels.chroma_height(4) < 4


def num_bits(pixels: av.VideoFormat) -> int:
    """Bits of a color component."""
    return max(component.bits for component in pixels.components)


def with_known_matrix(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame itself, labeled so that it can be converted to RGB."""
    if frame.colorspace == _BT2020_CONSTANT:
        frame.colorspace = _BT2020
    return frame


class _UntilFailure:
    """Decoded frames up to the first error.

    Attributes:
        count: frames so far.
        failure: the error in a line, once iteration has ended; None if there was none.
    """

    def __init__(self, frames: Iterable[av.VideoFrame]) -> None:
        self._frames = frames
        self.count = 0
        self.failure: str | None = None

    def __iter__(self) -> Iterator[av.VideoFrame]:
        try:
            for frame in self._frames:
                self.count += 1
                yield frame
        except (av.FFmpegError, OSError) as error:
            self.failure = one_line(error)


def _frames_from(first: int, info: VideoInfo) -> Iterator[NumberedFrame]:
    source = _UntilFailure(_decoded(info))
    num_read = first
    try:
        for number, frame in _with_numbers(source, info):
            if number >= first:
                image = _rgb(frame, info)
                num_read += 1
                yield number, image
    except (av.FFmpegError, ValueError) as error:
        matrix = _UNUSUAL_MATRICES.get(info.matrix, f"matrix {info.matrix}")
        colors = f"colors that cannot be converted ({info.pixel_format}, {matrix}: {one_line(error)})"
        raise _stopped(num_read, info, colors) from None
    if source.failure is not None:
        raise _stopped(max(source.count, num_read), info, source.failure)
    if info.num_packets - source.count > max(2, 0.05 * info.num_packets):
        raise _stopped(max(source.count, num_read), info, "the other frames cannot be decoded")


def _stopped(count: int, info: VideoInfo, reason: str) -> DecodingStoppedError:
    seconds = float(info.timestamps[min(count, info.num_packets - 1)])
    return DecodingStoppedError(
        f"decoding stopped after {count} of {info.num_packets} frames ({seconds:.1f} s): {reason}"
    )


def _decoded(info: VideoInfo) -> Generator[av.VideoFrame, None, None]:
    with open_video(info.path) as container:
        stream = container.streams[info.stream_index]
        assert isinstance(stream, av.VideoStream)
        # The size in the container may be another than in the stream, which may also change it.
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        for packet in Continuous(container.demux(stream), info.container):
            yield from packet.decode()


def _with_numbers(frames: Iterable[av.VideoFrame], info: VideoInfo) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decoded frames with their number among the container's timestamps.

    Counting gives it, as some files (B-frames in AVI) label frames with each other's timestamps. But where frames are
    missing, the timestamps of all the following ones run ahead of the count, and tell by how many.
    """
    waiting: deque[tuple[int, int, av.VideoFrame]] = deque()
    missing = None
    for count, frame in enumerate(frames):
        lead = 0
        if frame.time is not None:
            lead = _nearest(info.timestamps, frame.time - info.start_seconds) - count
        waiting.append((count, lead, frame))
        if len(waiting) == _LOOKAHEAD:
            missing = max(missing or 0, min(lead for _, lead, _ in waiting))
            first_count, _, first_frame = waiting.popleft()
            yield min(first_count + missing, info.num_packets - 1), first_frame
    if missing is None:
        missing = max(0, min((lead for _, lead, _ in waiting), default=0))
    for count, _, frame in waiting:
        yield min(count + missing, info.num_packets - 1), frame


def _nearest(timestamps: np.ndarray, seconds: float) -> int:
    """Index of the nearest of the sorted timestamps; the first of equally near ones."""
    after = int(np.searchsorted(timestamps, seconds))
    if after == 0:
        return 0
    nearest = timestamps[after - 1]
    if after < len(timestamps) and timestamps[after] - seconds < seconds - nearest:
        nearest = timestamps[after]
    return int(np.searchsorted(timestamps, nearest))


def _rgb(frame: av.VideoFrame, info: VideoInfo) -> np.ndarray:
    """RGB uint8 [H, W, 3] with the levels that torchcodec gives, and decord where it is used."""
    if has_halved_chroma(frame.format) and (frame.interlaced_frame or num_bits(frame.format) > 8):
        frame = _without_labels(frame)
    image = with_known_matrix(frame).to_ndarray(format="rgb24", interpolation=Interpolation.BICUBIC)
    return np.ascontiguousarray(upright(image, info.rotation, info.mirrored))


def _without_labels(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame as an unlabeled progressive one.

    PyAV's FFmpeg interpolates color by field, and by the position of samples, where frames are labeled so; the other
    decoders', and what published features were made with, do not.
    """
    plain = av.VideoFrame(frame.width, frame.height, frame.format.name)
    plain.colorspace, plain.color_range = frame.colorspace, frame.color_range
    for source, target in zip(frame.planes, plain.planes, strict=True):
        source_rows, target_rows = _rows(source), _rows(target)
        height, width = np.minimum(source_rows.shape, target_rows.shape)
        target_rows[:height, :width] = source_rows[:height, :width]
    return plain


def _rows(plane: Any) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
