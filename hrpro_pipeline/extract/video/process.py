"""Decoding in a process of its own: what crashes or hangs there costs a restart, and the next decoder takes over.

`python -m hrpro_pipeline.extract.video.process` is the process; `DecoderProcess` speaks to it.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline.base.child import Channel, Child, ChildError, answer_requests
from hrpro_pipeline.data.frame_times import Steps, frame_steps
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.clock import MAX_CLOCK_FPS, num_clock_frames, resample
from hrpro_pipeline.extract.video.decoding import decode, decoder_chain
from hrpro_pipeline.extract.video.frames import FrameChunk, frame_chunks
from hrpro_pipeline.extract.video.probe import MAX_HOURS

log = logging.getLogger(__name__)

_NO_MEMORY = "torchcodec stopped: out of GPU memory"
# A decoder that gives nothing for so long hangs.
SILENCE_SECONDS = 120.0
_SLOW_BYTES_PER_SECOND = 10e6
_MOST_TICKS = MAX_HOURS * 3600 * MAX_CLOCK_FPS
# A process that was killed did not crash by itself: only when it is so often on one video, the decoder is to blame.
_BLAMED_KILLS = 3


@dataclass(frozen=True)
class DecodeRequest:
    """A video to decode, and how to decode it.

    Attributes:
        decoder: as for `decoding.decode`.
        fps: of the clock.
        resize: short side, or width and height.
        keep_partial: a video that stops in the middle ends there, without an error.
    """

    path: Path
    decoder: str
    fps: float
    resize: int | tuple[int, int]
    keep_partial: bool = False


@dataclass(frozen=True)
class VideoFacts:
    """Facts that are known before a video's first frame: ticks on the clock, seconds, average rate.

    Attributes:
        frame_steps: the times of frames whose rate is not constant, as `frame_times.frame_steps` gives them.
        first_frame: seconds.
    """

    total_ticks: int
    duration_seconds: float
    fps: float
    frame_steps: Steps
    first_frame: float


@dataclass(frozen=True)
class DecodeRecord:
    """How decoding went, for the feature file.

    Attributes:
        ticks: on the clock up to the last decoded frame's end.
        seconds: up to there.
        partial_reason: why decoding stopped in the middle; None if it did not.
        mirrored, time_note: as in `VideoInfo`.
    """

    decoder: str
    decoder_device: str
    fallback_reason: str | None
    frames_decoded: int
    frames_in_container: int
    codec: str
    rotation: int
    ticks: int
    seconds: float
    partial_reason: str | None
    mirrored: bool
    time_note: str | None


StreamItem = VideoFacts | FrameChunk | DecodeRecord


def stream_video(
    request: DecodeRequest, device: str = "cpu", *, alone: bool = False, skip_decoders: Mapping[str, str] | None = None
) -> Iterator[StreamItem]:
    """Decode in this process: the facts, the chunks, the record. Raises HrproError for a video that cannot be read.

    Args:
        device: where torchcodec decodes.
        alone: no other decoder takes over.
        skip_decoders: decoders that are not to be tried, each with the reason.
    """
    decoding = decode(
        request.path,
        request.decoder,
        device,
        alone=alone,
        keep_partial=request.keep_partial,
        skip_decoders=skip_decoders,
    )
    info = decoding.info
    first_frame = float(info.timestamps[0])
    steps = frame_steps(info.timestamps - first_frame, info.fps)
    yield VideoFacts(num_clock_frames(info, request.fps), info.duration_seconds, info.fps, steps, round(first_frame, 6))
    ticks = 0
    clock_frames = resample(decoding, info, request.fps, lambda: decoding.partial_reason is not None)
    for chunk in frame_chunks(clock_frames, request.resize):
        ticks += sum(chunk.ticks)
        yield chunk
    yield DecodeRecord(
        decoder=decoding.decoder,
        decoder_device=decoding.decoder_device.partition(":")[0],  # not which of several GPUs
        fallback_reason=decoding.fallback_reason,
        frames_decoded=decoding.num_decoded,
        frames_in_container=info.num_packets,
        codec=info.codec,
        rotation=info.rotation,
        ticks=ticks,
        seconds=decoding.decoded_part.duration_seconds,
        partial_reason=decoding.partial_reason,
        mirrored=info.mirrored,
        time_note=info.time_note,
    )


class DecoderProcess:
    """A process that decodes one video after another. It is started when it is needed, and again when it died.

    Args:
        silence_seconds: a decoder that gives nothing for so long hangs.
    """

    def __init__(self, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._silence_seconds = silence_seconds
        self._child: Child | None = None
        self._no_memory = False  # on the device

    def stream(self, request: DecodeRequest, device: str = "cpu") -> Iterator[StreamItem]:
        """As `stream_video`; a decoder that crashes or hangs is left out, and the next one goes on.

        On a CUDA device torchcodec decodes in this process, so that frames stay on the device, where it can. After it
        has been out of memory, it does not any more.
        """
        progress = _Progress()
        if device == "cpu" or request.decoder not in ("auto", "torchcodec"):
            yield from self._retried(request, progress, {})
            return
        failure = _NO_MEMORY
        try:
            if not self._no_memory:
                by_torchcodec = replace(request, decoder="torchcodec", keep_partial=False)
                yield from progress.new_items(stream_video(by_torchcodec, device, alone=True))
                return
        except HrproError as error:
            text = str(error).removeprefix(f"{request.path.name}: ")
            failure = text.removeprefix("no decoder is left: ")
        except RuntimeError as error:
            from hrpro_pipeline.models.device import is_out_of_memory  # imports torch, which a decoder has no use for

            if not is_out_of_memory(error):
                raise
            self._no_memory = True
            log.warning("%s: %s; from here on the CPU decodes", request.path.name, _NO_MEMORY)
        for item in self._retried(request, progress, {"torchcodec": failure}):
            if isinstance(item, DecodeRecord) and request.decoder == "auto":
                # Put torchcodec's failure first: the process did not try it.
                reasons = [failure, item.fallback_reason]
                yield replace(item, fallback_reason="; ".join(filter(None, reasons)))
            else:
                yield item

    def close(self) -> None:
        """End the process; it is started anew when it is needed."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _retried(
        self, request: DecodeRequest, progress: "_Progress", known_failures: Mapping[str, str]
    ) -> Iterator[StreamItem]:
        """Items of the process, in as many attempts as it takes; decoders that failed are not tried again."""
        failures = dict(known_failures)
        kills = 0
        while True:
            try:
                yield from progress.new_items(self._attempt(request, failures))
                return
            except _DecoderError as error:
                kills += error.killed
                if error.killed and kills < _BLAMED_KILLS:
                    continue
                if error.decoder in failures:
                    raise HrproError(f"{request.path.name}: decoding {error}; re-encode or remove it") from None
                failures[error.decoder] = f"{error.decoder} {error}"

    def _attempt(self, request: DecodeRequest, skip_decoders: dict[str, str]) -> Iterator[StreamItem]:
        # Should it be another one that fails, the next attempt will tell.
        chain = decoder_chain(request.decoder)
        decoder = next((name for name in chain if name not in skip_decoders), "pyav")
        finished = False
        try:
            self._child = self._child or Child(__name__, self._silence_seconds)
            self._child.ask(asdict(request) | {"path": str(request.path), "skip_decoders": skip_decoders})
            # Before its first word it reads the file through, to learn its timestamps; decord does so again.
            extra_seconds = request.path.stat().st_size / _SLOW_BYTES_PER_SECOND
            while not finished:
                item = _parsed_item(*self._child.answer(extra_seconds))
                extra_seconds = 0.0
                finished = not isinstance(item, VideoFacts | FrameChunk)
                if isinstance(item, HrproError):
                    raise item
                yield item
        except ChildError as error:
            raise _DecoderError(decoder, str(error), error.killed) from None
        finally:
            if not finished:  # died, or the reader has stopped
                self.close()


def _parsed_item(header: dict[str, Any], payload: bytearray) -> StreamItem | HrproError:
    """A message of the process, which an evil file may have taken over. Raises ChildError for any other content."""
    try:
        kind = header.pop("kind")
        if kind == "failed":
            return HrproError(str(header["reason"]))
        if kind == "facts":
            return VideoFacts(**header)
        if kind == "record":
            return DecodeRecord(**header)
        return _parsed_chunk(header, payload)
    except (KeyError, TypeError, ValueError) as error:
        raise ChildError(f"sent what is no message ({type(error).__name__})") from None


def _parsed_chunk(header: dict[str, Any], payload: bytearray) -> FrameChunk:
    frames = np.frombuffer(payload, np.uint8).reshape(header["shape"])
    ticks = [int(count) for count in header["ticks"]]
    fits = frames.ndim == 4 and frames.shape[-1] == 3 and len(frames) == len(ticks)
    if not fits or not all(0 < count <= _MOST_TICKS for count in ticks):
        raise ValueError("a chunk of another shape")
    return FrameChunk(frames, ticks)


class _DecoderError(Exception):
    """The process died or hung while a decoder was at work; the text says how."""

    def __init__(self, decoder: str, reason: str, killed: bool) -> None:
        super().__init__(reason)
        self.decoder, self.killed = decoder, killed


class _Progress:
    """Which items of a video the reader has: another attempt gives only new ones."""

    def __init__(self) -> None:
        self._has_facts = False
        self._num_frames = 0

    def new_items(self, items: Iterable[StreamItem]) -> Iterator[StreamItem]:
        """The items of an attempt that starts at the beginning, without those that the reader has."""
        known_frames = self._num_frames
        for item in items:
            if isinstance(item, FrameChunk):
                known = min(known_frames, len(item.ticks))
                known_frames -= known
                if known == len(item.ticks):
                    continue
                self._num_frames += len(item.ticks) - known
                yield FrameChunk(item.frames[known:], item.ticks[known:])
            elif not isinstance(item, VideoFacts):
                yield item
            elif not self._has_facts:
                self._has_facts = True
                yield item


def main() -> None:
    """Answer requests until there are no more."""
    answer_requests(_answer)


def _answer(fields: dict[str, Any], channel: Channel) -> None:
    skip_decoders = fields.pop("skip_decoders")
    resize = fields.pop("resize")
    request = DecodeRequest(
        **fields | {"path": Path(fields["path"]), "resize": resize if isinstance(resize, int) else tuple(resize)}
    )
    for item in stream_video(request, skip_decoders=skip_decoders):
        if isinstance(item, FrameChunk):
            header = {"kind": "frames", "shape": item.frames.shape, "ticks": item.ticks}
            channel.send(header, np.ascontiguousarray(item.frames).reshape(-1).data)
        else:
            channel.send({"kind": "facts" if isinstance(item, VideoFacts) else "record", **asdict(item)})


if __name__ == "__main__":
    main()
