"""Common ground of the decoders: an opened video, frames read in chunks, and the ways in which reading fails."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hrpro_pipeline.errors import one_line
from hrpro_pipeline.extract.video.containers import starts_as
from hrpro_pipeline.extract.video.info import VideoInfo

_CHUNK_BYTES = 64 << 20
_CHUNK_FRAMES = 32

# RGB uint8 [H, W, 3], rotation applied: a NumPy array; of torchcodec on a CUDA device a tensor there.
Frame = Any
# The frame's number among the container's timestamps, and the frame.
NumberedFrame = tuple[int, Frame]


class DecoderFailedError(Exception):
    """This decoder cannot go on; the next one may. The text says why."""


class DecodingStoppedError(Exception):
    """No decoder can go on; the text says why."""


@dataclass(frozen=True)
class OpenedVideo:
    """A video that a decoder has accepted.

    Attributes:
        frames: in order, to be iterated once; raises DecoderFailedError or DecodingStoppedError.
        device: where they are decoded, "cpu" or a CUDA device, unless its hardware refuses.
        hardware_refusal: why the hardware of `device` does not decode the video, as far as is known: perhaps only when
            the first frame is there. None if it does.
    """

    frames: Iterator[NumberedFrame]
    device: str = "cpu"
    hardware_refusal: Callable[[], str | None] = lambda: None


# From the container's facts, the number of the first frame wanted, and the device to decode on. Whatever it raises
# means that the decoder refuses the video.
Opener = Callable[[VideoInfo, int, str], OpenedVideo]


def frames_in_chunks(read: Callable[[range], Any], info: VideoInfo, first: int) -> Iterator[NumberedFrame]:
    """Frames from number `first` on.

    Args:
        read: gives the frames of some numbers, [n, H, W, 3]; the numbers follow those of the call before.

    Raises:
        DecoderFailedError: `read` raises, or gives another count of frames.
    """
    step = max(1, min(_CHUNK_FRAMES, _CHUNK_BYTES // (info.width * info.height * 3)))
    for start in range(first, info.num_packets, step):
        numbers = range(start, min(start + step, info.num_packets))
        try:
            frames = read(numbers)
            if len(frames) != len(numbers):
                raise RuntimeError(f"{len(frames)} frames instead of {len(numbers)}")
        except Exception as error:  # noqa: BLE001  decord and torchcodec raise many types; PyAV judges the video
            raise DecoderFailedError(decoder_error(error, info)) from None
        yield from zip(numbers, frames, strict=True)


def check_container(info: VideoInfo) -> None:
    """Raise RuntimeError for a file that only PyAV should open, by what its container says.

    In streams without an index (MPEG-TS, MPEG-PS, raw) both other decoders lose the frames before the second key
    frame. And neither can be told what it may open, so neither is given what it could take for a play list. Neither
    mirrors frames, either, which the first one may not show.
    """
    if not starts_as(info.path, info.container):
        raise RuntimeError(f"not used for such files ({info.container})")
    if info.mirrored:
        raise RuntimeError("it does not mirror frames")


def decoder_error(error: Exception, info: VideoInfo) -> str:
    """A decoder's exception in a line, without its time and source line and without the video's folder."""
    text = one_line(error, limit=2000)
    text = re.sub(r"^.*?\.(cc|cpp|h):\d+[:,] ", "", text).replace(str(info.path), info.path.name)
    return one_line(RuntimeError(text))
