"""Videos as frames with timestamps, and one constant-rate clock over them whatever the decoder."""

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

import av
import numpy as np
from av.stream import Disposition

from hrpro_pipeline.data.files import VIDEO_SUFFIXES, is_video_name, safe_id
from hrpro_pipeline.data.storage import Location, is_url, list_remote, name_of
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.containers import cut_off

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
MAX_CLOCK_FPS = 1000

Found = TypeVar("Found")
Image = TypeVar("Image")


@dataclass(frozen=True)
class VideoInfo:
    """What the container says, without decoding.

    Attributes:
        timestamps: presentation times in seconds, float64 [num_packets], sorted, the first at 0.
        start_seconds: the container's time of the first frame.
        last_frame_seconds: how long the last frame is shown.
        tolerance_seconds: by so much the container rounds its timestamps.
        fps: frames a second on average.
        width, height: in pixels, before rotation.
        rotation: degrees counter-clockwise by which frames are turned for display; a multiple of 90.
        container, pixel_format: FFmpeg's names.
        stream_index: which of the container's streams it is.
        incomplete: how the container says that a part of the video is not in the file; None if it does not.
    """

    path: Path
    timestamps: np.ndarray = field(repr=False)
    start_seconds: float
    last_frame_seconds: float
    tolerance_seconds: float
    width: int
    height: int
    rotation: int
    codec: str
    container: str
    pixel_format: str
    stream_index: int
    num_video_streams: int
    incomplete: str | None = None

    @property
    def num_packets(self) -> int:
        return len(self.timestamps)

    @property
    def duration_seconds(self) -> float:
        return float(self.timestamps[-1]) + self.last_frame_seconds

    @property
    def fps(self) -> float:
        return self.num_packets / self.duration_seconds


def open_video(path: Path) -> "av.container.InputContainer":
    """A media file as PyAV opens it, with what it may open limited to itself."""
    # As `options`, they would go to the streams as well, where PyAV before 17 crashes on MPEG-PS.
    return av.open(str(path), container_options=_OPEN_OPTIONS)


def probe(path: Path) -> VideoInfo:
    """Read a video's timestamps from its container.

    Raises:
        HrproError: no such file, empty, not a media file, without a video stream or without frames, or over a limit.
    """
    path = _local_file(path)
    try:
        with open_video(path) as container:
            info = _read_info(path, container)
    except (av.FFmpegError, ValueError) as error:
        raise HrproError(f"{path.name}: not a video that can be read ({one_line(error)})") from None
    return _with_rotation(info)


def _read_info(path: Path, container: "av.container.InputContainer") -> VideoInfo:
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.disposition & Disposition.attached_pic:
        raise HrproError(f"{path.name}: no video stream; expected a video")
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
    tick = float(stream.time_base)
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    packets = _read_packets(path, container, stream)
    known = np.sort(packets.stamps) * tick
    if packets.num_untimed or (len(known) > 1 and known[0] == known[-1]):
        # A raw stream without timestamps: its nominal rate is all there is.
        if rate <= 0:
            raise HrproError(f"{path.name}: frames without timestamps or rate; re-encode or remove it")
        known = np.arange(len(known) + packets.num_untimed) / rate
    if len(known) == 0:
        raise HrproError(f"{path.name}: no video frames; re-encode or remove it")
    info = VideoInfo(
        path=path,
        timestamps=known - known[0],
        start_seconds=float(known[0]),
        last_frame_seconds=_last_frame_seconds(known, packets.last_duration, stream, tick, rate),
        tolerance_seconds=min(tick / 2, _MOST_ROUNDING),
        width=width,
        height=height,
        rotation=0,
        codec=stream.codec_context.name,
        container=container.format.name,
        pixel_format=stream.codec_context.pix_fmt,
        stream_index=stream.index,
        num_video_streams=len(container.streams.video),
    )
    if not info.duration_seconds <= MAX_HOURS * 3600:
        raise HrproError(f"{path.name}: {info.duration_seconds / 3600:.0f} hours long; longer than {MAX_HOURS}; cut it")
    return replace(info, incomplete=_what_is_missing(info, container, stream, packets))


@dataclass(frozen=True)
class _Packets:
    """Of the packets with a frame: times in ticks, float64 [timed packets]; how long the last one is shown, or 0.

    `num_read` counts the others as well; `stopped_by` is the error at which reading stopped.
    """

    stamps: np.ndarray
    num_untimed: int
    last_duration: int
    num_read: int
    stopped_by: str | None


def _read_packets(path: Path, container: "av.container.InputContainer", stream: av.VideoStream) -> _Packets:
    stamps = array("q")  # eight bytes a packet, whatever its size
    num_untimed = num_read = last = last_duration = 0
    stopped_by = None
    try:
        for packet in container.demux(stream):
            num_read += bool(packet.size)
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
    return _Packets(np.array(stamps, np.float64), num_untimed, last_duration, num_read, stopped_by)


def _what_is_missing(
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
    if info.container.startswith("mov") and stream.frames - packets.num_read > max(2, 0.05 * stream.frames):
        return f"{packets.num_read} of {stream.frames} frames are in the file"
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


def one_line(error: Exception, limit: int = 160) -> str:
    """An exception in a line of at most `limit` characters."""
    # FFmpeg's errors carry a number that tells nobody anything.
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def clock_ticks(timestamps: np.ndarray, fps: float, tolerance: float = 1e-6) -> np.ndarray:
    """The first frame of the clock at or after each time: int64, the smallest k with k / fps >= time - tolerance."""
    return np.ceil((np.asarray(timestamps, np.float64) - tolerance) * fps - 1e-9).clip(min=0).astype(np.int64)


def clock_indices(timestamps: np.ndarray, duration: float, fps: float, tolerance: float = 1e-6) -> np.ndarray:
    """Which frame is shown at k / fps seconds, for every k with k / fps < duration.

    Args:
        timestamps: sorted seconds [frames], the first at 0.
        duration: seconds.
        tolerance: rounding of the timestamps, in seconds: a frame that comes late by no more is in time.

    Returns:
        int64 [N], indices of frames, never decreasing. At least one.
    """
    end = max(1, int(clock_ticks(np.array([duration]), fps, tolerance)[0]))
    bounds = np.minimum(np.append(clock_ticks(timestamps, fps, tolerance), end), end)
    bounds[0] = 0
    return np.repeat(np.arange(len(timestamps)), np.diff(bounds))


def num_clock_frames(info: VideoInfo, fps: float) -> int:
    """Frames of a video on the clock: every k with k / fps < its duration, at least one."""
    if not 0 < fps <= MAX_CLOCK_FPS:
        raise HrproError(f"a clock of {fps:g} frames a second; expected more than 0 and at most {MAX_CLOCK_FPS}")
    return max(1, int(clock_ticks(np.array([info.duration_seconds]), fps, info.tolerance_seconds)[0]))


def cut_at(info: VideoInfo, seconds: float) -> VideoInfo:
    """The part of a video up to the end of the frame that is shown at a time: until the next one, or its own end."""
    count = max(1, int(np.searchsorted(info.timestamps, seconds, side="right")))
    if count == info.num_packets:
        return info
    shown = float(info.timestamps[count] - info.timestamps[count - 1])
    return replace(info, timestamps=info.timestamps[:count], last_frame_seconds=shown)


def resample(
    frames: Iterable[tuple[float, Image]],
    info: VideoInfo,
    fps: float,
    stopped_early: Callable[[], bool] = lambda: False,
) -> Iterator[Image]:
    """The frame shown at k / fps seconds, for every k: `num_clock_frames` of them.

    A frame that is shown for several ticks is the same object each time. Where a frame is missing, the one before it
    stays; at the start, the first one serves, and at the end, the last one.

    Args:
        stopped_early: asked after the last frame. If so, that frame is not repeated beyond its own end: what is given
            is the first `num_clock_frames(cut_at(info, seconds of the last frame), fps)` frames of the clock.
    """
    total = num_clock_frames(info, fps)
    shown: Image | None = None
    seconds = 0.0
    given = 0
    for seconds, frame in frames:
        tick = int(clock_ticks(np.array([seconds]), fps, info.tolerance_seconds)[0])
        while given < min(tick, total):
            yield frame if shown is None else shown
            given += 1
        shown = frame
    if shown is None:
        raise HrproError(f"{info.path.name}: no frame can be decoded; re-encode or remove it")
    if stopped_early():
        total = num_clock_frames(cut_at(info, seconds), fps)
    while given < total:
        yield shown
        given += 1


def find_videos(paths: Sequence[Location]) -> dict[str, Location]:
    """Video id -> file, for files and folders (not their sub-folders), in the order given; the same for URLs.

    A file given by name is taken whatever its suffix; in folders, those with the suffix of a video. Symbolic links are
    followed, as they are the user's own; what a media file names is never opened.

    Raises:
        HrproError: a path that does not exist, a folder without videos, two files with the same id.
    """
    found: dict[str, Location] = {}
    for path in paths:
        for file in _remote_videos(str(path)) if is_url(path) else _local_videos(Path(path)):
            video_id = safe_id(PurePosixPath(name_of(file)).stem)
            other = found.setdefault(video_id, file)
            if other != file and (is_url(other) or is_url(file) or Path(other).resolve() != Path(file).resolve()):
                raise HrproError(f"{other} and {file}: both would be video {video_id!r}; rename one of them")
    return found


def _local_videos(path: Path) -> list[Path]:
    if not path.is_dir():
        return [_local_file(path, must_be_video=False)]
    return _not_empty(path, sorted(file for file in path.iterdir() if _is_shown_video(file.name)))


def _remote_videos(url: str) -> list[str]:
    files = list_remote(url)
    return [url] if files is None else _not_empty(url, [file for file in files if _is_shown_video(name_of(file))])


def _is_shown_video(name: str) -> bool:
    return is_video_name(name) and not name.startswith(".")


def _not_empty(folder: Location, files: list[Found]) -> list[Found]:
    if not files:
        hint = "" if is_url(folder) else _instead(Path(folder))
        raise HrproError(
            f"{folder}: no videos in this folder; expected files such as {', '.join(VIDEO_SUFFIXES[:4])}{hint}"
        )
    return files


def _instead(folder: Path) -> str:
    """What a folder holds instead of videos, and what to do with that."""
    if any(folder.glob("*.h5")):
        return "; it holds features: give it to `hrpro train` or `hrpro detect`"
    below = [inner for inner in sorted(folder.iterdir()) if inner.is_dir()]
    with_videos = [inner for inner in below if any(_is_shown_video(file.name) for file in inner.iterdir())]
    return f"; give the folders that hold them, such as {with_videos[0]}" if with_videos else ""


def _local_file(path: Path, must_be_video: bool = True) -> Path:
    try:
        if not path.exists():
            hint = "; only local files are read" if ":/" in str(path) else "; expected a video or a folder of videos"
            raise HrproError(f"{path}: no such file{hint}")
        if not path.is_file():
            raise HrproError(f"{path}: not a file; expected a video")
        if must_be_video:
            with path.open("rb") as file:
                if not file.read(1):
                    raise HrproError(f"{path.name}: empty file (0 bytes); copy or download it again")
    except OSError as error:
        raise HrproError(f"{path}: cannot be read ({one_line(error)}); check its permissions") from None
    return path.absolute()  # a name such as `concat:a` is then never taken for a protocol


def _last_frame_seconds(
    timestamps: np.ndarray, last_duration: int, stream: av.VideoStream, tick: float, rate: float
) -> float:
    """The container's figure, the smaller one if the packet and the end of the stream differ; else the median."""
    candidates = []
    if last_duration:
        candidates.append(last_duration * tick)
    if stream.duration:
        end = ((stream.start_time or 0) + stream.duration) * tick
        candidates.append(end - float(timestamps[-1]))
    positive = [seconds for seconds in candidates if seconds > tick / 2]
    if positive:
        return min(positive)
    if len(timestamps) > 1:
        return float(np.median(np.diff(timestamps)))
    return 1 / rate if rate > 0 else 0.04


def _with_rotation(info: VideoInfo) -> VideoInfo:
    """The first frame tells the rotation; a video whose first frame cannot be decoded keeps 0 and fails later."""
    try:
        with open_video(info.path) as container:
            stream = container.streams[info.stream_index]
            assert isinstance(stream, av.VideoStream)
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            for frame in container.decode(stream):
                return replace(info, rotation=round(frame.rotation / 90) * 90 % 360)
    except (av.FFmpegError, OSError):
        pass
    return info
