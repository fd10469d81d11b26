"""The decoders: frames of a video with their timestamps, and which decoder gave them."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video import Timed, VideoInfo, one_line, open_video, probe

DECODERS = ("auto", "decord", "pyav")

# decord is known to hang at the end of some files: a chunk that takes longer is given to PyAV.
_DECORD_SECONDS = 120.0
_DECORD_CHUNK_BYTES = 64 << 20
_DECORD_CHUNK_FRAMES = 32

# Frames over which timestamps must agree before frames count as missing.
_LOOKAHEAD = 8

Result = TypeVar("Result")


@dataclass
class Decoding:
    """Frames of one video in presentation order, to be iterated once, and how they came about.

    Attributes:
        decoder: "decord" or "pyav": the one in use; may change while iterating.
        fallback_reason: why PyAV took over from decord; None if it did not.
        num_decoded: frames given so far.
    """

    info: VideoInfo
    decoder: str
    fallback_reason: str | None = None
    num_decoded: int = 0
    _reader: Any = field(default=None, repr=False)

    def __iter__(self) -> Iterator[Timed]:
        if self.decoder == "decord":
            yield from self._from_decord()
        if self.decoder == "pyav":
            yield from self._from_pyav(skip=self.num_decoded)

    def _from_decord(self) -> Iterator[Timed]:
        """Frames until the end or until decord fails; in the latter case PyAV is made the decoder."""
        info, reader = self.info, self._reader
        self._reader = None
        step = max(1, min(_DECORD_CHUNK_FRAMES, _DECORD_CHUNK_BYTES // (info.width * info.height * 3)))
        for start in range(0, info.num_packets, step):
            wanted = range(start, min(start + step, info.num_packets))
            try:
                batch = _with_deadline(partial(_read_batch, reader, wanted))
                if len(batch) != len(wanted):
                    raise RuntimeError(f"{len(batch)} frames instead of {len(wanted)}")
            except Exception as error:  # noqa: BLE001  decord raises many types; PyAV judges the video
                self.decoder = "pyav"
                self.fallback_reason = f"decord failed after {self.num_decoded} frames: {one_line(error)}"
                return
            for index, frame in zip(wanted, batch, strict=True):
                self.num_decoded += 1
                yield float(info.timestamps[index]), frame

    def _from_pyav(self, skip: int) -> Iterator[Timed]:
        """Frames from number `skip` on."""
        info = self.info
        count = 0

        def counted(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
            nonlocal count
            for count, frame in enumerate(frames, 1):  # noqa: B007  read by the caller
                yield frame

        try:
            with open_video(info.path) as container:
                stream = container.streams.video[0]
                for index, frame in _with_indices(counted(container.decode(stream)), info):
                    if index >= skip:
                        self.num_decoded += 1
                        image = np.rot90(frame.to_ndarray(format="rgb24"), info.rotation // 90)
                        yield float(info.timestamps[index]), np.ascontiguousarray(image)
        except (av.FFmpegError, OSError) as error:
            raise self._stopped(count, one_line(error)) from None
        if info.num_packets - count > max(2, 0.05 * info.num_packets):
            raise self._stopped(count, "the other frames cannot be decoded")

    def _stopped(self, count: int, reason: str) -> HrproError:
        info = self.info
        seconds = float(info.timestamps[min(count, info.num_packets - 1)])
        done = f"{count} of {info.num_packets} frames ({seconds:.1f} s)"
        return HrproError(f"{info.path.name}: decoding stopped after {done}: {reason}; re-encode or remove it")


def decode(path: Path, decoder: str = "auto") -> Decoding:
    """Open a video; iterate the result for (seconds, RGB uint8 [H, W, 3]), rotation applied.

    decord is the fastest and comes first; PyAV takes over where decord is absent, refuses the file, disagrees with
    the container on the frames, or fails on the way. With `decoder` "pyav" decord is not tried.

    Raises:
        HrproError: as `probe`; while iterating, a video that cannot be decoded to its end.
    """
    if decoder not in DECODERS:
        raise HrproError(f"decoder {decoder!r}; expected one of {', '.join(DECODERS)}")
    info = probe(path)
    if decoder == "pyav":
        return Decoding(info, "pyav")
    try:
        reader = _open_decord(info)
    except Exception as error:  # noqa: BLE001  decord raises many types; PyAV judges the video
        return Decoding(info, "pyav", fallback_reason=one_line(error))
    return Decoding(info, "decord", _reader=reader)


def _with_indices(frames: Iterable[av.VideoFrame], info: VideoInfo) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decoded frames with their number among the container's timestamps.

    Counting gives it, as some files (B-frames in AVI) label frames with each other's timestamps. But where frames are
    missing, the timestamps of all the following ones run ahead of the count, and tell by how many.
    """
    waiting: deque[tuple[int, int, av.VideoFrame]] = deque()
    missing = None
    for count, frame in enumerate(frames):
        lead = 0
        if frame.time is not None:
            lead = int(np.abs(info.timestamps - (frame.time - info.start_seconds)).argmin()) - count
        waiting.append((count, lead, frame))
        if len(waiting) == _LOOKAHEAD:
            missing = max(missing or 0, min(lead for _, lead, _ in waiting))
            first, _, shown = waiting.popleft()
            yield min(first + missing, info.num_packets - 1), shown
    if missing is None:
        missing = max(0, min((lead for _, lead, _ in waiting), default=0))
    for count, _, frame in waiting:
        yield min(count + missing, info.num_packets - 1), frame


def _open_decord(info: VideoInfo) -> Any:
    """A reader whose frames are those of the container. Raises an exception that says why not."""
    try:
        import decord
    except ImportError:
        raise RuntimeError("decord is not installed") from None
    decord.logging.set_level(decord.logging.QUIET)  # FFmpeg's own messages; errors arrive as exceptions
    reader = _with_deadline(lambda: decord.VideoReader(str(info.path), ctx=decord.cpu(0)))
    if len(reader) != info.num_packets:
        raise RuntimeError(f"decord counts {len(reader)} frames, the container {info.num_packets}")
    stamps = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64)[:, 0]
    plausible = np.isfinite(stamps) & (np.abs(stamps) < 1e9)  # some AVI files: -3.7e17 for a frame without a timestamp
    difference = (stamps - info.timestamps - info.start_seconds)[plausible]
    interval = info.duration_seconds / info.num_packets
    if not plausible.any() or np.abs(difference - np.median(difference)).max() > interval / 2:
        raise RuntimeError("decord's timestamps disagree with the container's")
    return reader


def _read_batch(reader: Any, wanted: range) -> np.ndarray:
    return reader.get_batch(wanted).asnumpy()


def _with_deadline(function: Callable[[], Result]) -> Result:
    """The function's result; TimeoutError if it takes too long, and its thread is then left behind."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append((function(), None))
        except Exception as error:  # noqa: BLE001  handed over to the caller's thread
            outcome.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_DECORD_SECONDS)
    if not outcome:
        raise TimeoutError(f"decord did not answer within {_DECORD_SECONDS:g} s")
    result, error = outcome[0]
    if error is not None:
        raise error
    return result
