"""Read what a video's container says: timestamps, size, rotation, and whether a part of it is missing."""

import re
from array import array
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange

from hrpro_pipeline.data.videos import video_file
from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.extract.video.containers import cut_off
from hrpro_pipeline.extract.video.continuous import Continuous
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.orientation import orientation
from hrpro_pipeline.extract.video.streams import picture_delay, video_stream

# Containers that hold their own data. Play lists (hls, concat, dash) would read other files or the network.
_FORMATS = "mov,mp4,m4a,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,m4v,gif,3gp,mj2,ivf,nut,mxf"
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}

# Timestamps of coarse clocks are exact (a tick of AVI is a frame); Matroska's, in ms, are rounded by half of one.
_MOST_ROUNDING = 0.5005e-3

# Limits on what a file may claim.
MAX_PIXELS = 2**26
MAX_SIDE = 16384
MAX_PACKETS = 10_000_000
MAX_HOURS = 100


def open_video(path: Path, **options: str) -> "av.container.InputContainer":
    """A media file as PyAV opens it, with what it may open limited to itself, and other options of FFmpeg."""
    # As `options`, they would go to the streams as well, where PyAV before 17 crashes on MPEG-PS.
    return av.open(str(path), container_options=options | _OPEN_OPTIONS)


def probe(path: Path) -> VideoInfo:
    """Read a video's timestamps from its container.

    Raises:
        HrproError: no such file, empty, not a media file, without a video stream or without frames, or over a limit.
    """
    path = video_file(path)
    try:
        with open_video(path) as container:
            info = _read_info(path, container)
    except (av.FFmpegError, ValueError) as error:
        raise HrproError(f"{path.name}: not a video that can be read ({one_line(error)})") from None
    return _with_first_frame(info)


def _read_info(path: Path, container: "av.container.InputContainer") -> VideoInfo:
    stream = _video_stream(path, container)
    context = stream.codec_context
    assert stream.time_base is not None
    assert context.pix_fmt is not None
    width, height = context.width, context.height
    tick = float(stream.time_base)
    packets = _read_packets(path, container, stream)
    # Where there are no timestamps, FFmpeg's average is a default of its own; the guess heeds the stream's header.
    average_rate = None if packets.are_untimed else stream.average_rate
    rate = float(average_rate or stream.guessed_rate or 0)
    packet_seconds = _packet_seconds(path, packets, tick, rate)
    delay = picture_delay(container, float(packet_seconds[0]))
    info = VideoInfo(
        path=path,
        timestamps=packet_seconds - packet_seconds[0] + delay,
        start_seconds=float(packet_seconds[0]) - delay,
        last_frame_seconds=_last_frame_seconds(packet_seconds, packets, stream, tick, rate),
        tolerance_seconds=min(tick / 2, _MOST_ROUNDING),
        width=width,
        height=height,
        rotation=0,
        codec=context.name,
        container=container.format.name,
        pixel_format=context.pix_fmt,
        stream_index=stream.index,
        num_video_streams=len(container.streams.video),
        num_parts=packets.num_parts,
        time_note=_time_note(packets, rate, stream),
    )
    if not info.duration_seconds <= MAX_HOURS * 3600:
        raise HrproError(f"{path.name}: {info.duration_seconds / 3600:.0f} hours long; longer than {MAX_HOURS}; cut it")
    return replace(info, incomplete=_missing_part(info, container, stream, packets))


def _video_stream(path: Path, container: "av.container.InputContainer") -> av.VideoStream:
    """The video stream to decode. Raises HrproError for none, and for one without clock or size, or over a limit."""
    stream = video_stream(path, container)
    if not stream.time_base:
        raise HrproError(f"{path.name}: its video stream has no clock; re-encode or remove it")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width < 1 or height < 1 or stream.codec_context.pix_fmt is None:
        raise HrproError(f"{path.name}: its video stream has no size or pixel format; re-encode or remove it")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise HrproError(
            f"{path.name}: frames of {width} x {height}; expected at most {MAX_PIXELS} pixels and {MAX_SIDE} a side; "
            "make it smaller"
        )
    return stream


@dataclass(frozen=True)
class _Packets:
    """Of the packets with a frame: times in ticks, float64 [timed packets]; how long the last one is shown, or 0.

    `num_read` counts the others as well; `num_parts` is as in `VideoInfo`; `stopped_by` is the error that ended it.
    `goes_back`: an edit list shows what lies before in the file.
    """

    stamps: np.ndarray
    num_untimed: int
    last_duration: int
    num_read: int
    num_parts: int
    stopped_by: str | None
    goes_back: bool

    @property
    def are_untimed(self) -> bool:
        """Whether the times of frames are unknown: a raw stream."""
        return self.num_untimed > 0 or (len(self.stamps) > 1 and float(np.ptp(self.stamps)) == 0)


def _read_packets(path: Path, container: "av.container.InputContainer", stream: av.VideoStream) -> _Packets:
    stamps = array("q")  # eight bytes a packet, whatever its size
    num_untimed = num_read = last = last_duration = 0
    stopped_by = None
    last_place, goes_back = -1, False
    continuous = Continuous(container.demux(stream), container.format.name)
    try:
        for packet in continuous:
            num_read += bool(packet.size)
            if packet.size and packet.pos is not None:
                goes_back |= packet.pos < last_place
                last_place = packet.pos
            # Frames of discarded packets (before the start of an edit) are never shown.
            if not packet.size or packet.is_discard:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                num_untimed += 1
            else:
                if not stamps or stamp >= last:
                    last, last_duration = stamp, packet.duration or 0
                stamps.append(stamp)
            if num_read > MAX_PACKETS:
                raise HrproError(f"{path.name}: more than {MAX_PACKETS} frames; cut it")
    except (av.FFmpegError, OSError) as error:
        if not num_read:
            raise
        stopped_by = one_line(error)
    times = np.array(stamps, np.float64)
    goes_back &= container.format.name.startswith("mov")
    return _Packets(times, num_untimed, last_duration, num_read, continuous.num_parts, stopped_by, goes_back)


def _packet_seconds(path: Path, packets: _Packets, tick: float, rate: float) -> np.ndarray:
    """The container's times of all frames in seconds, sorted: float64 [frames], at least one."""
    seconds = np.sort(packets.stamps) * tick
    if packets.are_untimed:
        # Its nominal rate is all there is.
        if rate <= 0:
            raise HrproError(f"{path.name}: frames without timestamps or rate; re-encode or remove it")
        seconds = np.arange(len(seconds) + packets.num_untimed) / rate
    if len(seconds) == 0:
        raise HrproError(f"{path.name}: no video frames; re-encode or remove it")
    return seconds


def _time_note(packets: _Packets, rate: float, stream: av.VideoStream) -> str | None:
    """What is assumed about the times of frames, in words."""
    if packets.are_untimed:
        if stream.codec_context.framerate:
            return f"no timestamps: taken at {rate:g} frames a second, the rate in its header"
        return f"no timestamps and no rate: taken at {rate:g} frames a second"
    if packets.num_parts > 1:
        return f"its timestamps start again: taken as {packets.num_parts} parts, one after the other"
    if packets.goes_back and stream.codec_context.name == "hevc":
        return "its edit list goes back in the video: there, HEVC frames may show parts of others; better re-encode it"
    return None


def _missing_part(
    info: VideoInfo, container: "av.container.InputContainer", stream: av.VideoStream, packets: _Packets
) -> str | None:
    """A part that the container promises and the file does not hold, in words.

    A file that was cut off, or whose structure is damaged, reads like a shorter video.
    """
    if packets.stopped_by is not None:
        return f"reading stopped after {packets.num_read} frames: {packets.stopped_by}"
    cut = cut_off(info.path, info.container)
    if cut is not None:
        return cut
    if info.container.startswith("mov") and _lacks_frames(stream, packets.num_read):
        num_held = _num_held(info)
        if _lacks_frames(stream, num_held):
            return f"{num_held} of {stream.frames} frames are in the file"
    if info.container.startswith("matroska") and container.duration:
        promised = container.duration / 1e6
        hours = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
        if hours:
            promised = min(promised, int(hours[1]) * 3600 + int(hours[2]) * 60 + float(hours[3]))
        elif len(container.streams) > 1:  # another stream may be the longer one
            return None
        end = info.start_seconds + info.duration_seconds
        if promised - end > max(0.5, 0.05 * promised):
            return f"{end:.1f} of {promised:.1f} s are in the file"
    return None


def _lacks_frames(stream: av.VideoStream, count: int) -> bool:
    return stream.frames - count > max(2, 0.05 * stream.frames)


def _num_held(info: VideoInfo) -> int:
    """Frames in a file of the MP4 family, whichever of them its edit list shows."""
    with open_video(info.path, ignore_editlist="1") as container:
        return sum(bool(packet.size) for packet in container.demux(container.streams[info.stream_index]))


def _last_frame_seconds(
    packet_seconds: np.ndarray, packets: _Packets, stream: av.VideoStream, tick: float, rate: float
) -> float:
    """How long the last frame is shown.

    By the container's last packet and by the end of its stream, the shorter of both; else the median interval.
    """
    candidates = []
    if packets.last_duration:
        candidates.append(packets.last_duration * tick)
    if stream.duration and packets.num_parts == 1:
        end = ((stream.start_time or 0) + stream.duration) * tick
        candidates.append(end - float(packet_seconds[-1]))
    positive = [seconds for seconds in candidates if seconds > tick / 2]
    if positive:
        return min(positive)
    if len(packet_seconds) > 1:
        return float(np.median(np.diff(packet_seconds)))
    return 1 / rate if rate > 0 else 0.04


def _with_first_frame(info: VideoInfo) -> VideoInfo:
    """Add orientation and colors, which the first frame tells; a video without one that can be decoded fails later."""
    try:
        with open_video(info.path) as container:
            stream = container.streams[info.stream_index]
            assert isinstance(stream, av.VideoStream)
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            for frame in container.decode(stream):
                rotation, mirrored = orientation(frame)
                full_range = frame.color_range == ColorRange.JPEG
                return replace(
                    info, rotation=rotation, mirrored=mirrored, matrix=int(frame.colorspace), full_range=full_range
                )
    except (av.FFmpegError, OSError):
        pass
    return info
