"""The decoders: frames of a video with their timestamps, and which decoder gave them."""

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.video.reformatter import Interpolation

from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.extract.video.clock import cut_at
from hrpro_pipeline.extract.video.containers import starts_as
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.probe import MAX_PIXELS, open_video, probe

DECODERS = ("auto", "decord", "pyav", "torchcodec")

_CHUNK_BYTES = 64 << 20
# Decoded frames of a whole video that decord may hold: it reads ahead without a bound.
_DECORD_BYTES = 128 << 20
_CHUNK_FRAMES = 32

# decord raises when it would give a neighbor for more than this share of the frames: for any at all.
_DECORD_REPEATED = 1e-9

# Levels by which another decoder's first frame may differ from PyAV's: rounding at any pixel, and on average what
# NVDEC's interpolation of color comes to; but never another frame, or one that is not turned.
_FIRST_FRAME_LEVELS = 8
_FIRST_FRAME_LEVELS_CUDA = 10

# Frames over which timestamps must agree before frames count as missing.
_LOOKAHEAD = 8

# Seconds and an array, or a tensor, [H, W, 3].
Timed = tuple[float, Any]
# Frames of the given numbers, which follow those read last: [N, H, W, 3].
Reader = Callable[[range], Any]
Result = TypeVar("Result")


@dataclass
class Decoding:
    """Frames of one video in presentation order, to be iterated once, and how they came about.

    Attributes:
        decoder: "torchcodec", "decord" or "pyav": the one in use; may change while iterating.
        decoder_device: where it decodes: "cpu", or the CUDA device of NVDEC.
        fallback_reason: what the decoders before it, or NVDEC, refused or failed at; None if nothing.
        partial_reason: why iteration ended before the video's end (only with `keep_partial`); None if it did not.
        num_decoded: frames given so far.
    """

    info: VideoInfo
    decoder: str = ""
    decoder_device: str = "cpu"
    fallback_reason: str | None = None
    partial_reason: str | None = None
    num_decoded: int = 0
    _device: str = field(default="cpu", repr=False)
    _waiting: list[str] = field(default_factory=list, repr=False)
    _keep_partial: bool = field(default=False, repr=False)
    _read: Reader | None = field(default=None, repr=False)
    _last_seconds: float = field(default=0.0, repr=False)

    @property
    def decoded_part(self) -> VideoInfo:
        """What was decoded, once iteration has ended: `info`, or if it ended early, `info` cut at the last frame."""
        return self.info if self.partial_reason is None else cut_at(self.info, self._last_seconds)

    def __iter__(self) -> Iterator[Timed]:
        info = self.info
        try:
            while self._read is not None:
                complete = yield from self._in_chunks(self._read)
                if complete:
                    break
            else:
                yield from self._from_pyav(skip=self.num_decoded)
            if info.incomplete is not None:
                raise _StoppedError(info.incomplete)
        except _StoppedError as error:
            if not self._keep_partial or not self.num_decoded:
                otherwise = "it, or keep what there is by --keep-partial" if self.num_decoded else "or remove it"
                raise HrproError(f"{info.path.name}: {error}; re-encode {otherwise}") from None
            self.partial_reason = str(error)

    def _in_chunks(self, read: Reader) -> Generator[Timed, None, bool]:
        """Frames until the end (True), or until decoding fails and the next decoder is opened (False)."""
        info = self.info
        step = max(1, min(_CHUNK_FRAMES, _CHUNK_BYTES // (info.width * info.height * 3)))
        for start in range(self.num_decoded, info.num_packets, step):
            wanted = range(start, min(start + step, info.num_packets))
            try:
                batch = read(wanted)
                if len(batch) != len(wanted):
                    raise RuntimeError(f"{len(batch)} frames instead of {len(wanted)}")
            except Exception as error:  # noqa: BLE001  decord and torchcodec raise many types; PyAV judges the video
                self._note(f"{self.decoder} failed after {self.num_decoded} frames: {_reason(error, info)}")
                self._open_next()
                return False
            for index, frame in zip(wanted, batch, strict=True):
                yield self._counted(index), frame
        return True

    def _from_pyav(self, skip: int) -> Iterator[Timed]:
        """Frames from number `skip` on."""
        info = self.info
        count, failure = 0, None

        def until_failure(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
            nonlocal count, failure
            try:
                for count, frame in enumerate(frames, 1):  # noqa: B007  read by the caller
                    yield frame
            except (av.FFmpegError, OSError) as error:
                failure = one_line(error)

        try:
            for index, frame in _with_indices(until_failure(_pyav_frames(info)), info):
                if index >= skip:
                    image = _rgb(frame, info.rotation)
                    yield self._counted(index), image
        except (av.FFmpegError, ValueError) as error:  # a pixel format that cannot be converted
            raise self._stopped(count, one_line(error)) from None
        if failure is not None:
            raise self._stopped(count, failure)
        if info.num_packets - count > max(2, 0.05 * info.num_packets):
            raise self._stopped(count, "the other frames cannot be decoded")

    def _counted(self, index: int) -> float:
        """Take note of one more frame, and return its time."""
        self.num_decoded += 1
        self._last_seconds = float(self.info.timestamps[index])
        return self._last_seconds

    def _open_next(self) -> None:
        """Make the next decoder that accepts the video the one in use."""
        while self._waiting:
            self.decoder, self.decoder_device, self._read = self._waiting.pop(0), "cpu", None
            try:
                if self.decoder == "decord":
                    self._read = _open_decord(self.info, start=self.num_decoded)
                elif self.decoder == "torchcodec":
                    self._read, refused = _open_torchcodec(self.info, self._device)
                    self.decoder_device = "cpu" if refused else self._device
                    self._note(*refused)
                return
            except Exception as error:  # noqa: BLE001  decord and torchcodec raise many types; PyAV judges the video
                self._note(f"{self.decoder} refused: {_reason(error, self.info)}")
        raise _StoppedError(f"no decoder is left: {self.fallback_reason}")

    def _note(self, *reasons: str) -> None:
        self.fallback_reason = "; ".join([*([self.fallback_reason] if self.fallback_reason else []), *reasons]) or None

    def _stopped(self, count: int, reason: str) -> "_StoppedError":
        count, total = max(count, self.num_decoded), self.info.num_packets
        seconds = float(self.info.timestamps[min(count, total - 1)])
        return _StoppedError(f"decoding stopped after {count} of {total} frames ({seconds:.1f} s): {reason}")


class _StoppedError(Exception):
    """Decoding cannot go on; says why."""


def decoder_chain(decoder: str, device: str = "cpu", *, alone: bool = False) -> list[str]:
    """The decoders to try, in order; see `decode`."""
    if decoder == "auto":
        return ["torchcodec", "decord", "pyav"] if device.startswith("cuda") else ["decord", "pyav"]
    return [decoder] if alone or decoder == "pyav" else [decoder, "pyav"]


def decode(
    path: Path,
    decoder: str = "auto",
    device: str = "cpu",
    *,
    alone: bool = False,
    keep_partial: bool = False,
    skip_decoders: Mapping[str, str] | None = None,
) -> Decoding:
    """Open a video; iterate the result for (seconds, RGB uint8 [H, W, 3]), rotation applied.

    Frames are NumPy arrays; those of torchcodec on a CUDA device are tensors there. "auto" tries decord, then PyAV;
    on a CUDA device torchcodec (NVDEC) before them. A decoder given by name is tried, then PyAV. The next one takes
    over where a decoder is absent, refuses the file, disagrees with the container on the frames, or fails on the
    way; `fallback_reason` says why.

    Args:
        device: "cpu", "cuda" or "cuda:N"; only torchcodec decodes on CUDA.
        alone: no other decoder takes over from the one that is named.
        keep_partial: where decoding stops before the end, iteration ends there, and `partial_reason` says why; not
            where it gives no frame at all.
        skip_decoders: decoders that are not to be tried, each with the reason.

    Raises:
        HrproError: as `probe`, or no decoder is left; while iterating, a video that cannot be decoded to its end.
    """
    if decoder not in DECODERS:
        raise HrproError(f"decoder {decoder!r}; expected one of {', '.join(DECODERS)}")
    info = probe(path)
    if info.incomplete is not None and not keep_partial:
        raise HrproError(
            f"{info.path.name}: {info.incomplete}; copy or download it again, or keep what there is by --keep-partial"
        )
    chain = decoder_chain(decoder, device, alone=alone)
    skipped = {name: reason for name, reason in (skip_decoders or {}).items() if name in chain}
    waiting = [name for name in chain if name not in skipped]
    decoding = Decoding(info, _device=device, _waiting=waiting, _keep_partial=keep_partial)
    decoding._note(*skipped.values())
    try:
        decoding._open_next()
    except _StoppedError as error:
        raise HrproError(f"{info.path.name}: {error}") from None
    return decoding


def _pyav_frames(info: VideoInfo) -> Generator[av.VideoFrame, None, None]:
    with open_video(info.path) as container:
        stream = container.streams[info.stream_index]
        assert isinstance(stream, av.VideoStream)
        # The size in the container may be another than in the stream, which may also change it.
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        yield from container.decode(stream)


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
            lead = _nearest(info.timestamps, frame.time - info.start_seconds) - count
        waiting.append((count, lead, frame))
        if len(waiting) == _LOOKAHEAD:
            missing = max(missing or 0, min(lead for _, lead, _ in waiting))
            first, _, shown = waiting.popleft()
            yield min(first + missing, info.num_packets - 1), shown
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


def _rgb(frame: av.VideoFrame, rotation: int) -> np.ndarray:
    """RGB uint8 [H, W, 3] with the levels that torchcodec gives, and decord where it is used."""
    if _has_halved_chroma(frame.format) and (frame.interlaced_frame or _num_bits(frame.format) > 8):
        frame = _without_labels(frame)
    image = frame.to_ndarray(format="rgb24", interpolation=Interpolation.BICUBIC)
    return np.ascontiguousarray(np.rot90(image, rotation // 90))


def _without_labels(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame as an unlabeled progressive one.

    PyAV's FFmpeg interpolates color by field, and by the position of samples, where frames are labeled so; the other
    decoders', and what published features were made with, do not.
    """
    plain = av.VideoFrame(frame.width, frame.height, frame.format.name)
    plain.colorspace, plain.color_range = frame.colorspace, frame.color_range
    for source, target in zip(frame.planes, plain.planes, strict=True):
        rows, copied = _rows(source), _rows(target)
        height, width = np.minimum(rows.shape, copied.shape)
        copied[:height, :width] = rows[:height, :width]
    return plain


def _rows(plane: Any) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)


def _has_halved_chroma(pixels: av.VideoFormat) -> bool:
    """Whether color has fewer rows than brightness (4:2:0, 4:1:0)."""
    return pixels.chroma_height(4) < 4


def _num_bits(pixels: av.VideoFormat) -> int:
    return max(component.bits for component in pixels.components)


def _check_container(info: VideoInfo) -> None:
    """Raises an exception where only PyAV should open a file.

    In streams without an index (MPEG-TS, MPEG-PS, raw) both other decoders lose the frames before the second key
    frame. And neither can be told what it may open, so neither is given what it could take for a play list.
    """
    if not starts_as(info.path, info.container):
        raise RuntimeError(f"not used for such files ({info.container})")


def _open_decord(info: VideoInfo, start: int) -> Reader:
    """A reader whose frames are those of the container. Raises an exception that says why not."""
    try:
        import decord
    except ImportError:
        raise RuntimeError("it is not installed") from None
    if start:
        raise RuntimeError("it is not trusted to start in the middle")
    _check_container(info)
    if info.num_video_streams > 1:
        raise RuntimeError("it may choose another of the video streams")
    pixels = av.VideoFormat(info.pixel_format)
    if _has_halved_chroma(pixels) and (_num_bits(pixels) > 8 or info.height % 2):
        raise RuntimeError(f"it interpolates color otherwise ({info.pixel_format}, {info.width} x {info.height})")
    if info.num_packets * info.width * info.height * 1.5 > _DECORD_BYTES:
        raise RuntimeError("it keeps thousands of decoded frames of a long video in memory")
    decord.logging.set_level(decord.logging.QUIET)  # FFmpeg's own messages; errors arrive as exceptions
    reader = decord.VideoReader(str(info.path), ctx=decord.cpu(0), fault_tol=_DECORD_REPEATED)
    if len(reader) != info.num_packets:
        raise RuntimeError(f"it counts {len(reader)} frames, the container {info.num_packets}")
    stamps = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64)[:, 0]
    plausible = np.isfinite(stamps) & (np.abs(stamps) < 1e9)  # some AVI files: -3.7e17 for a frame without a timestamp
    difference = (stamps - info.timestamps - info.start_seconds)[plausible]
    interval = float(np.median(np.diff(info.timestamps))) if info.num_packets > 1 else info.duration_seconds
    if not plausible.any() or np.abs(difference - np.median(difference)).max() > interval / 2:
        raise RuntimeError("its timestamps disagree with the container's")
    return partial(_read_decord, reader, info)


def _read_decord(reader: Any, info: VideoInfo, wanted: range) -> np.ndarray:
    batch = _read_batch(reader, wanted)
    if wanted.start == 0 and np.max(_first_difference(batch[0], info)) > _FIRST_FRAME_LEVELS:
        raise RuntimeError("its first frame is not the video's")
    return batch


def _first_difference(given: np.ndarray, info: VideoInfo) -> np.ndarray:
    """Levels between a first frame and PyAV's, [H, W, 3]; 255 for one of another size."""
    with closing(_pyav_frames(info)) as frames:
        first = _rgb(next(frames), info.rotation)
    return np.abs(given.astype(np.int16) - first) if given.shape == first.shape else np.full(first.shape, 255)


def _read_batch(reader: Any, wanted: range) -> np.ndarray:
    return reader.get_batch(wanted).asnumpy()


def _open_torchcodec(info: VideoInfo, device: str) -> tuple[Reader, list[str]]:
    """A reader, and what NVDEC refused, in words. Raises an exception that says why the video is refused."""
    try:
        from torchcodec.decoders import VideoDecoder
    except ModuleNotFoundError:
        raise RuntimeError("it is not installed") from None
    except (ImportError, OSError, RuntimeError) as error:
        raise RuntimeError(f"it cannot be loaded: {_loading_error(str(error))}") from None
    _check_container(info)
    if device != "cpu":
        import torch

        if not torch.cuda.is_available():  # torchcodec would write a page to the terminal
            raise RuntimeError("no CUDA device")
    decoder = VideoDecoder(
        str(info.path),
        stream_index=info.stream_index,
        dimension_order="NHWC",
        num_ffmpeg_threads=0,
        device=device,
        seek_mode="exact",
    )
    if len(decoder) != info.num_packets:
        raise RuntimeError(f"it counts {len(decoder)} frames, the container {info.num_packets}")
    refused = []
    status = getattr(decoder, "cpu_fallback", None)  # torchcodec before 0.9 does not tell
    if device != "cpu" and status:
        refused = [f"NVDEC refused: {str(status).rpartition(': ')[2]}"]
    return partial(_read_torchcodec, decoder, info, device), refused


def _read_torchcodec(decoder: Any, info: VideoInfo, device: str, wanted: range) -> Any:
    batch = decoder.get_frames_in_range(wanted.start, wanted.stop)
    stamps = batch.pts_seconds.numpy() - info.start_seconds
    expected = info.timestamps[wanted.start : wanted.stop]
    if len(stamps) != len(expected) or np.abs(stamps - expected).max() > info.tolerance_seconds + 1e-6:
        raise RuntimeError("its timestamps disagree with the container's")
    if wanted.start == 0:
        difference = _first_difference(batch.data[0].cpu().numpy(), info)
        if difference.max() > _FIRST_FRAME_LEVELS if device == "cpu" else difference.mean() > _FIRST_FRAME_LEVELS_CUDA:
            raise RuntimeError("its first frame is not the video's")
    return batch.data.numpy() if device == "cpu" else batch.data


def _loading_error(text: str) -> str:
    """The line of torchcodec's long message that says what is wrong."""
    errors = [line.strip() for line in text.splitlines() if re.match(r"\s*\w*Error: ", line)]
    # One error for each version of FFmpeg that could be there; most are not.
    telling = [line for line in errors if "cannot open shared object file" not in line] or errors
    return telling[0] if telling else one_line(RuntimeError(text))


def _reason(error: Exception, info: VideoInfo) -> str:
    """An exception in a line, without the decoder's time and source line and without the video's folder."""
    text = one_line(error, limit=2000)
    text = re.sub(r"^.*?\.(cc|cpp|h):\d+[:,] ", "", text).replace(str(info.path), info.path.name)
    return one_line(RuntimeError(text))
