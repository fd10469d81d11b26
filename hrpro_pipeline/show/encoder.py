"""H.264 MP4 from frames with their times, with the sound of the video that they come from."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from hrpro_pipeline.extract.video.decoding import Decoding
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.probe import open_video
from hrpro_pipeline.extract.video.streams import sound_stream

# An RGB image, uint8 [H, W, 3], and from when to when it is on screen, in seconds.
TimedImage = tuple[np.ndarray, float, float]

# The usual frame rates, 30000 / 1001 among them, and milliseconds are whole numbers of ticks.
TICKS = 120_000
_OPTIONS = {"preset": "veryfast", "crf": "20"}
_BT709 = 1
# Sound that goes into MP4 as it is and that players know.
_SOUND_CODECS = {"aac", "mp3", "ac3", "eac3", "alac", "opus"}
_NEED_HEADER = {"aac", "alac", "opus"}


def timed_images(decoding: Decoding) -> Iterator[TimedImage]:
    """The frames of a video, each on screen until the next one: the first from 0, the last to the video's end."""
    image: np.ndarray | None = None
    start = 0.0
    for seconds, next_image in decoding:
        if image is not None:
            yield image, start, seconds
            start = seconds
        image = next_image
    if image is not None:
        yield image, start, max(start, decoding.decoded_part.duration_seconds)


class Mp4Writer:
    """Writes the part of a video from `start` to `end` seconds as H.264; a context manager.

    Frames keep their times, counted from `start`. All get the size of the first one; a side of an odd number of pixels
    grows by one, because H.264 needs even sides. Sound is copied if MP4 takes it as it is, else left out.

    Args:
        path: written as MP4 whatever its suffix.
        source: the video that frames and sound come from.
    """

    def __init__(self, path: Path, source: VideoInfo, start: float, end: float) -> None:
        self.start, self.end = start, end
        self._source, self._last_tick = source, -1
        options = {"movflags": "+faststart"}
        self._output = av.open(str(path.absolute()), "w", format="mp4", container_options=options)
        self._stream: av.VideoStream | None = None
        self._durations: dict[int, int] = {}  # of the frames in the encoder, by time
        self._sound: _Sound | None = None

    def __enter__(self) -> "Mp4Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._stream is not None:
                self._mux(self._stream.encode())
                if self._sound is not None:
                    self._sound.copy_until(self.end - self.start, self._output)
        finally:
            if self._sound is not None:
                self._sound.close()
            self._output.close()

    def write(self, image: np.ndarray, start: float, end: float) -> None:
        """Add an RGB image, uint8 [H, W, 3], that is on screen from `start` to `end` in seconds of the source.

        Its time outside of the part is cut off.
        """
        if end <= self.start or start >= self.end:
            return
        stream = self._stream or self._open(image)
        tick = max(round((max(start, self.start) - self.start) * TICKS), self._last_tick + 1)
        height, width = stream.height, stream.width
        if abs(image.shape[0] - height) > 1 or abs(image.shape[1] - width) > 1:  # the video changes its size
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        image = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = tick, Fraction(1, TICKS)
        self._durations[tick] = max(1, round((min(end, self.end) - self.start) * TICKS) - tick)
        self._last_tick = tick
        self._mux(stream.encode(frame))
        if self._sound is not None:
            self._sound.copy_until(start - self.start, self._output)

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            if packet.pts is not None:  # without a duration, the last frame would last as long as the one before
                packet.duration = self._durations.pop(packet.pts, 0)
            self._output.mux(packet)

    def _open(self, image: np.ndarray) -> av.VideoStream:
        rate = Fraction(self._source.fps).limit_denominator(1001)
        stream = self._output.add_stream("libx264", rate=rate, options=_OPTIONS)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = image.shape[0] + image.shape[0] % 2, image.shape[1] + image.shape[1] % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, TICKS)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        context.sample_aspect_ratio = _pixel_aspect(self._source)
        self._stream = stream
        self._sound = _Sound.of(self._source, self.start, self._output)
        return stream


class _Sound:
    """Copies the packets of a video's sound into a file, piece by piece."""

    def __init__(
        self,
        container: "av.container.InputContainer",
        stream: av.AudioStream,
        target: av.AudioStream,
        start_seconds: float,
    ) -> None:
        assert stream.time_base is not None
        self._container, self._target = container, target
        self._tick = float(stream.time_base)
        self._offset = round(start_seconds / self._tick)
        self._packets = container.demux(stream)
        self._waiting: av.Packet | None = None
        self._last_pts = -1

    @classmethod
    def of(cls, source: VideoInfo, start: float, output: "av.container.OutputContainer") -> "_Sound | None":
        """The sound from `start` on, with a stream for it in `output`; None without sound that can be copied."""
        if source.num_parts > 1:  # its clock starts again as well, elsewhere
            return None
        container = open_video(source.path)
        try:
            stream = sound_stream(container)
            if stream is not None and stream.time_base:
                context = stream.codec_context
                codec = context.codec.canonical_name  # `name` is that of a decoder, such as mp3float
                has_header = bool(context.extradata) or codec not in _NEED_HEADER
                if codec in _SOUND_CODECS and has_header and context.sample_rate:
                    start_seconds = source.start_seconds + start
                    if start > 0:
                        container.seek(round(start_seconds / float(stream.time_base)), stream=stream)
                    return cls(container, stream, output.add_stream_from_template(stream), start_seconds)
        except (av.FFmpegError, ValueError):  # a video without its sound is better than none
            pass
        container.close()
        return None

    def copy_until(self, seconds: float, output: "av.container.OutputContainer") -> None:
        """Copy the packets before a time, counted from the start."""
        while (packet := self._next()) is not None:
            assert packet.pts is not None
            if packet.pts * self._tick >= seconds:
                return
            self._waiting = None
            packet.stream = self._target
            output.mux(packet)

    def _next(self) -> av.Packet | None:
        """The packet that waits, or the next one from the start on, with its time counted from there."""
        try:
            while self._waiting is None and (packet := next(self._packets, None)) is not None:
                if not packet.size or packet.pts is None or packet.pts - self._offset <= self._last_pts:
                    continue
                packet.pts = packet.dts = self._last_pts = packet.pts - self._offset
                self._waiting = packet
        except (av.FFmpegError, OSError):  # damaged sound ends here
            self._packets = iter(())
        return self._waiting

    def close(self) -> None:
        """Close the video that the sound comes from."""
        self._container.close()


def _pixel_aspect(source: VideoInfo) -> Fraction:
    """Width of a pixel over its height, of upright frames."""
    with open_video(source.path) as container:
        stream = container.streams[source.stream_index]
        assert isinstance(stream, av.VideoStream)
        aspect = stream.sample_aspect_ratio or Fraction(1)
    return 1 / aspect if source.rotation % 180 else aspect
