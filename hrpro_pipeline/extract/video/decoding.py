"""Frames of a video with their times, by a chain of decoders, and which of them gave the frames."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.options import DECODERS
from hrpro_pipeline.extract.video.clock import cut_at
from hrpro_pipeline.extract.video.decord import open_decord
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.extract.video.pyav import open_pyav
from hrpro_pipeline.extract.video.reading import (
    DecoderFailedError,
    DecodingStoppedError,
    Frame,
    NumberedFrame,
    OpenedVideo,
    Opener,
    decoder_error,
)
from hrpro_pipeline.extract.video.torchcodec import open_torchcodec

OPENERS: dict[str, Opener] = {"decord": open_decord, "pyav": open_pyav, "torchcodec": open_torchcodec}


class Decoding:
    """Frames of one video in presentation order, to be iterated once, and how they came about.

    Args:
        info: of the video.
        decoders: names of those to try, in order.
        device: where torchcodec decodes.
        keep_partial: as for `decode`.
        refusals: why decoders before these are not tried.

    Attributes:
        decoder: "torchcodec", "decord" or "pyav": the one in use; may change while iterating.
        decoder_device: where it decodes: "cpu", or the CUDA device of NVDEC.
        partial_reason: why iteration ended before the video's end (only with `keep_partial`); None if it did not.
        num_decoded: frames given so far.

    Raises:
        HrproError: every decoder refuses the video.
    """

    def __init__(
        self,
        info: VideoInfo,
        decoders: Iterable[str],
        device: str = "cpu",
        *,
        keep_partial: bool = False,
        refusals: Iterable[str] = (),
    ) -> None:
        self.info = info
        self.decoder = ""
        self.decoder_device = "cpu"
        self.partial_reason: str | None = None
        self.num_decoded = 0
        self._last_seconds = 0.0
        self._remaining = list(decoders)
        self._device = device
        self._keep_partial = keep_partial
        self._refusals = list(refusals)
        try:
            self._opened = self._open_next()
        except DecodingStoppedError as error:
            raise HrproError(f"{info.path.name}: {error}") from None

    @property
    def fallback_reason(self) -> str | None:
        """Why decoders before the one in use, or NVDEC, refused or failed; None if none did."""
        return "; ".join(self._refusals) or None

    @property
    def decoded_part(self) -> VideoInfo:
        """The decoded part, once iteration has ended: `info`, or if it ended early, `info` cut at the last frame."""
        return self.info if self.partial_reason is None else cut_at(self.info, self._last_seconds)

    def __iter__(self) -> Iterator[tuple[float, Frame]]:
        """Seconds and RGB frames [H, W, 3]. Raises HrproError for a video that cannot be decoded to its end."""
        try:
            for number, frame in self._frames():
                self.num_decoded += 1
                self._last_seconds = float(self.info.timestamps[number])
                yield self._last_seconds, frame
            if self.info.incomplete is not None:
                raise DecodingStoppedError(self.info.incomplete)
        except DecodingStoppedError as error:
            if not self._keep_partial or not self.num_decoded:
                remedy = "re-encode or remove it"
                if self.num_decoded:
                    remedy = "re-encode it, or keep what there is by `keep_partial`"
                raise HrproError(f"{self.info.path.name}: {error}; {remedy}") from None
            self.partial_reason = str(error)

    def _frames(self) -> Iterator[NumberedFrame]:
        """Frames to the end; where a decoder fails, the next one goes on."""
        while True:
            try:
                for item in self._opened.frames:
                    self._ask_hardware(self._opened)
                    yield item
                return
            except DecoderFailedError as error:
                self._refusals.append(f"{self.decoder} failed after {self.num_decoded} frames: {error}")
            self._opened = self._open_next()

    def _ask_hardware(self, opened: OpenedVideo) -> None:
        """Note where the hardware turns out not to decode the video."""
        if self.decoder_device != "cpu" and (refusal := opened.hardware_refusal()) is not None:
            self.decoder_device = "cpu"
            self._refusals.append(refusal)

    def _open_next(self) -> OpenedVideo:
        """Open the video with the next decoder that accepts it, from the first frame that is still to come."""
        while self._remaining:
            self.decoder, self.decoder_device = self._remaining.pop(0), "cpu"
            try:
                opened = OPENERS[self.decoder](self.info, self.num_decoded, self._device)
            except Exception as error:  # noqa: BLE001  decord and torchcodec raise many types; PyAV judges the video
                self._refusals.append(f"{self.decoder} refused: {decoder_error(error, self.info)}")
                continue
            self.decoder_device = opened.device
            self._ask_hardware(opened)
            return opened
        raise DecodingStoppedError(f"no decoder is left: {self.fallback_reason}")


def check_decoder(decoder: str) -> None:
    """Raise HrproError for an unknown decoder."""
    if decoder not in DECODERS:
        raise HrproError(f"decoder {decoder!r}; expected one of {', '.join(DECODERS)}")


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
    check_decoder(decoder)
    info = probe(path)
    if info.incomplete is not None and not keep_partial:
        raise HrproError(
            f"{info.path.name}: {info.incomplete}; copy or download it again, or keep what there is by `keep_partial`"
        )
    chain = decoder_chain(decoder, device, alone=alone)
    refusals = {name: reason for name, reason in (skip_decoders or {}).items() if name in chain}
    decoders = [name for name in chain if name not in refusals]
    return Decoding(info, decoders, device, keep_partial=keep_partial, refusals=refusals.values())
