"""Decoding in a process of its own: what crashes or hangs there costs a restart, and the next decoder takes over.

`python -m hrpro_pipeline.extract.video.process` is the process; `DecoderProcess` is who speaks to it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline.base.child import Channel, Child, ChildError, serve
from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.extract.video.clock import MAX_CLOCK_FPS, num_clock_frames, resample
from hrpro_pipeline.extract.video.decoding import decode, decoder_chain
from hrpro_pipeline.extract.video.frames import FrameChunk, frame_chunks
from hrpro_pipeline.extract.video.probe import MAX_HOURS

# A decoder that gives nothing for so long hangs.
SILENCE_SECONDS = 120.0
_SLOW_BYTES_PER_SECOND = 10e6
_MOST_TICKS = MAX_HOURS * 3600 * MAX_CLOCK_FPS
# A process that was killed did not crash by itself: only when it is so often on one video, the decoder is to blame.
_BLAMED_KILLS = 3


@dataclass(frozen=True)
class DecodeRequest:
    """What to decode, and how.

    Attributes:
        decoder: as for `decoders.decode`.
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
    """What is known of a video before its first frame: ticks on the clock, seconds, average rate."""

    total_ticks: int
    duration_seconds: float
    fps: float


@dataclass(frozen=True)
class DecodeRecord:
    """How decoding went: what a feature file keeps of it.

    Attributes:
        ticks: on the clock up to the last decoded frame's end.
        seconds: up to there.
        partial_reason: why decoding stopped in the middle; None if it did not.
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


StreamItem = VideoFacts | FrameChunk | DecodeRecord


def stream_video(
    request: DecodeRequest, device: str = "cpu", *, alone: bool = False, without: dict[str, str] | None = None
) -> Iterator[StreamItem]:
    """Decode in this process: the facts, the chunks, the record. Raises HrproError for a video that cannot be read.

    Args:
        device: where torchcodec decodes.
        alone: no other decoder takes over.
        without: decoders to leave out, and why.
    """
    decoding = decode(
        request.path,
        request.decoder,
        device=device,
        alone=alone,
        skip_decoders=without or {},
        keep_partial=request.keep_partial,
    )
    info = decoding.info
    yield VideoFacts(num_clock_frames(info, request.fps), info.duration_seconds, info.fps)
    ticks = 0
    shown = resample(decoding, info, request.fps, lambda: decoding.partial_reason is not None)
    for chunk in frame_chunks(shown, request.resize):
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
    )


class DecoderProcess:
    """A process that decodes one video after another. It is started when it is needed, and again when it died.

    Args:
        silence_seconds: a decoder that gives nothing for so long hangs.
    """

    def __init__(self, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._silence_seconds = silence_seconds
        self._child: Child | None = None

    def stream(self, request: DecodeRequest, device: str = "cpu") -> Iterator[StreamItem]:
        """As `stream_video`; a decoder that crashes or hangs is left out, and the next one goes on.

        On a CUDA device torchcodec decodes in this process, so that frames stay on the device, where it can.
        """
        without: dict[str, str] = {}
        progress = _Progress()
        kills = 0
        if device != "cpu" and request.decoder in ("auto", "torchcodec"):
            here = replace(request, decoder="torchcodec", keep_partial=False)
            try:
                yield from progress.news(stream_video(here, device, alone=True))
                return
            except HrproError as error:
                text = str(error).removeprefix(f"{request.path.name}: ")
                without["torchcodec"] = text.removeprefix("no decoder is left: ")
        while True:
            try:
                for item in progress.news(self._attempt(request, without)):
                    # A chain that never was to have torchcodec does not know why it is not there.
                    if isinstance(item, DecodeRecord) and request.decoder == "auto" and "torchcodec" in without:
                        reasons = [without["torchcodec"], item.fallback_reason]
                        yield replace(item, fallback_reason="; ".join(filter(None, reasons)))
                    else:
                        yield item
                return
            except _DecoderError as failure:
                kills += failure.killed
                if failure.killed and kills < _BLAMED_KILLS:
                    continue
                if failure.decoder in without:
                    raise HrproError(
                        f"{request.path.name}: decoding {failure.reason}; re-encode or remove it"
                    ) from None
                without[failure.decoder] = f"{failure.decoder} {failure.reason}"

    def close(self) -> None:
        """End the process; it is started anew when it is needed."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _attempt(self, request: DecodeRequest, without: dict[str, str]) -> Iterator[StreamItem]:
        # Should it be another one that fails, the next attempt will tell.
        first = next((decoder for decoder in decoder_chain(request.decoder) if decoder not in without), "pyav")
        finished = False
        try:
            self._child = self._child or Child(__name__, self._silence_seconds)
            self._child.ask(asdict(request) | {"path": str(request.path), "without": without})
            # Before its first word it reads the file through, to learn its timestamps; decord does so again.
            extra_seconds = request.path.stat().st_size / _SLOW_BYTES_PER_SECOND
            while not finished:
                item = _parsed(*self._child.answer(extra_seconds))
                extra_seconds = 0.0
                finished = not isinstance(item, VideoFacts | FrameChunk)
                if isinstance(item, HrproError):
                    raise item
                yield item
        except ChildError as error:
            raise _DecoderError(first, str(error), error.killed) from None
        finally:
            if not finished:  # died, or nobody wants the rest
                self.close()


def _parsed(header: dict[str, Any], payload: bytearray) -> StreamItem | HrproError:
    """A message of the process, which an evil file may have taken over. Raises ChildError for what is none."""
    try:
        kind = header.pop("kind")
        if kind == "failed":
            return HrproError(str(header["reason"]))
        if kind == "facts":
            return VideoFacts(**header)
        if kind == "record":
            return DecodeRecord(**header)
        frames = np.frombuffer(payload, np.uint8).reshape(header["shape"])
        ticks = [int(count) for count in header["ticks"]]
        right = frames.ndim == 4 and frames.shape[-1] == 3 and len(frames) == len(ticks)
        if not right or not all(0 < count <= _MOST_TICKS for count in ticks):
            raise ValueError("a chunk of another shape")
        return FrameChunk(frames, ticks)
    except (KeyError, TypeError, ValueError) as error:
        raise ChildError(f"sent what is no message ({type(error).__name__})") from None


class _DecoderError(Exception):
    def __init__(self, decoder: str, reason: str, killed: bool) -> None:
        super().__init__(reason)
        self.decoder, self.reason, self.killed = decoder, reason, killed


class _Progress:
    """What has been given of a video: another attempt gives only what is new."""

    def __init__(self) -> None:
        self._facts = False
        self._frames = 0

    def news(self, items: Iterable[StreamItem]) -> Iterator[StreamItem]:
        again = self._frames
        for item in items:
            if isinstance(item, FrameChunk):
                known = min(again, len(item.ticks))
                again -= known
                if known == len(item.ticks):
                    continue
                self._frames += len(item.ticks) - known
                yield FrameChunk(item.frames[known:], item.ticks[known:])
            elif not isinstance(item, VideoFacts):
                yield item
            elif not self._facts:
                self._facts = True
                yield item


def main() -> None:
    """Answer requests until there are no more."""
    channel = serve()
    while (message := channel.receive()) is not None:
        fields, _ = message
        without = fields.pop("without")
        resize = fields.pop("resize")
        request = DecodeRequest(
            **fields | {"path": Path(fields["path"]), "resize": resize if isinstance(resize, int) else tuple(resize)}
        )
        try:
            _answer(channel, request, without)
        except BrokenPipeError:
            return
        except HrproError as error:
            channel.send({"kind": "failed", "reason": str(error)})
        except Exception as error:  # noqa: BLE001  a file of an unforeseen kind: the next one may be better
            reason = f"{request.path.name}: {type(error).__name__}: {one_line(error)}"
            channel.send({"kind": "failed", "reason": reason})


def _answer(channel: Channel, request: DecodeRequest, without: dict[str, str]) -> None:
    for item in stream_video(request, without=without):
        if isinstance(item, FrameChunk):
            header = {"kind": "frames", "shape": item.frames.shape, "ticks": item.ticks}
            channel.send(header, np.ascontiguousarray(item.frames).reshape(-1).data)
        else:
            channel.send({"kind": "facts" if isinstance(item, VideoFacts) else "record", **asdict(item)})


if __name__ == "__main__":
    main()
