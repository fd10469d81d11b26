"""Videos as frames with timestamps, and one constant-rate clock over them whatever the decoder."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import numpy as np

from hrpro_pipeline.data.files import safe_id
from hrpro_pipeline.errors import HrproError

SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".ts", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv")

# Containers that hold their own data. Play lists (hls, concat, dash) would read other files or the network.
_FORMATS = "mov,mp4,m4a,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,m4v,gif,3gp,mj2,ivf,nut,mxf"
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}

# Timestamps of coarse clocks are exact (a tick of AVI is a frame); Matroska's, in ms, are rounded by half of one.
_MOST_ROUNDING = 0.5005e-3

Timed = tuple[float, np.ndarray]


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
    return av.open(str(path), options=_OPEN_OPTIONS)


def probe(path: Path) -> VideoInfo:
    """Read a video's timestamps from its container.

    Raises:
        HrproError: no such file, empty, not a media file, without a video stream or without frames.
    """
    path = _local_file(path)
    try:
        with open_video(path) as container:
            if not container.streams.video:
                raise HrproError(f"{path.name}: no video stream; expected a video")
            stream = container.streams.video[0]
            if stream.time_base is None:
                raise HrproError(f"{path.name}: its video stream has no clock; re-encode or remove it")
            tick = float(stream.time_base)
            # Frames of discarded packets (before the start of an edit) are never shown.
            packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
            stamps = [packet.pts if packet.pts is not None else packet.dts for packet in packets]
            known = np.sort(np.array([stamp for stamp in stamps if stamp is not None], np.float64)) * tick
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            if len(known) != len(packets) or (len(known) > 1 and known[0] == known[-1]):
                # A raw stream without timestamps: its nominal rate is all there is.
                if rate <= 0:
                    raise HrproError(f"{path.name}: frames without timestamps or rate; re-encode or remove it")
                known = np.arange(len(packets)) / rate
            if len(known) == 0:
                raise HrproError(f"{path.name}: no video frames; re-encode or remove it")
            last = max(packets, key=lambda packet: packet.pts or 0)
            info = VideoInfo(
                path=path,
                timestamps=known - known[0],
                start_seconds=float(known[0]),
                last_frame_seconds=_last_frame_seconds(known, last, stream, tick, rate),
                tolerance_seconds=min(tick / 2, _MOST_ROUNDING),
                width=stream.codec_context.width,
                height=stream.codec_context.height,
                rotation=0,
                codec=stream.codec_context.name,
            )
    except (av.FFmpegError, ValueError) as error:
        raise HrproError(f"{path.name}: not a video that can be read ({one_line(error)})") from None
    if info.width < 1 or info.height < 1:
        raise HrproError(f"{path.name}: its video stream has no size; re-encode or remove it")
    return _with_rotation(info)


def one_line(error: Exception) -> str:
    """An exception in a line of at most 160 characters."""
    # FFmpeg's errors carry a number that tells nobody anything.
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


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
    """Frames of a video on the clock."""
    return len(clock_indices(info.timestamps, info.duration_seconds, fps, info.tolerance_seconds))


def resample(frames: Iterable[Timed], info: VideoInfo, fps: float) -> Iterator[np.ndarray]:
    """The frame shown at k / fps seconds, for every k: `num_clock_frames` of them.

    A frame that is shown for several ticks is the same object each time. Where a frame is missing, the one before it
    stays; at the start, the first one serves.
    """
    total = num_clock_frames(info, fps)
    shown: np.ndarray | None = None
    given = 0
    for seconds, frame in frames:
        tick = int(clock_ticks(np.array([seconds]), fps, info.tolerance_seconds)[0])
        while given < min(tick, total):
            yield frame if shown is None else shown
            given += 1
        shown = frame
    if shown is None:
        raise HrproError(f"{info.path.name}: no frame can be decoded; re-encode or remove it")
    while given < total:
        yield shown
        given += 1


def find_videos(paths: Sequence[Path]) -> dict[str, Path]:
    """Video id -> file, for files and folders (not their sub-folders), in the order given.

    A file given by name is taken whatever its suffix; in folders, those with the suffix of a video.

    Raises:
        HrproError: a path that does not exist, a folder without videos, two files with the same id.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
            if not files:
                raise HrproError(f"{path}: no videos in this folder; expected files such as {', '.join(SUFFIXES[:4])}")
        else:
            files = [_local_file(path, must_be_video=False)]
        for file in files:
            video_id = safe_id(file.stem)
            other = found.setdefault(video_id, file)
            if other.resolve() != file.resolve():
                raise HrproError(f"{other} and {file}: both would be video {video_id!r}; rename one of them")
    return found


def _local_file(path: Path, must_be_video: bool = True) -> Path:
    if not path.exists():
        hint = "; only local files are read" if ":/" in str(path) else ""
        raise HrproError(f"{path}: no such file{hint}")
    if not path.is_file():
        raise HrproError(f"{path}: not a file; expected a video")
    if must_be_video and path.stat().st_size == 0:
        raise HrproError(f"{path.name}: empty file (0 bytes); copy or download it again")
    return path.absolute()  # a name such as `concat:a` is then never taken for a protocol


def _last_frame_seconds(
    timestamps: np.ndarray, last: av.Packet, stream: av.VideoStream, tick: float, rate: float
) -> float:
    """The container's figure, the smaller one if the packet and the end of the stream differ; else the median."""
    candidates = []
    if last.duration:
        candidates.append(last.duration * tick)
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
            for frame in container.decode(container.streams.video[0]):
                return replace(info, rotation=round(frame.rotation / 90) * 90 % 360)
    except (av.FFmpegError, OSError):
        pass
    return info
