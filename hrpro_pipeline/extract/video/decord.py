"""Frames by decord, which is fast, and used only where it gives the frames and colors that PyAV gives."""

from functools import partial
from typing import Any

import av
import numpy as np

from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.pyav import (
    FIRST_FRAME_LEVELS,
    first_frame_difference,
    has_halved_chroma,
    num_bits,
)
from hrpro_pipeline.extract.video.reading import OpenedVideo, check_container, frames_in_chunks

# Decoded frames of a whole video that decord may hold: it reads ahead without a bound.
_MAX_BYTES = 128 << 20

# decord raises when it would give a neighbor for more than this share of the frames: for any at all.
_REPEATED_SHARE = 1e-9


def open_decord(info: VideoInfo, first: int, device: str = "cpu") -> OpenedVideo:
    """Frames on the CPU whatever the device, from the start alone. Raises an exception that says why not."""
    try:
        import decord
    except ImportError:
        raise RuntimeError("it is not installed") from None
    if first:
        raise RuntimeError("it is not trusted to start in the middle")
    check_container(info)
    if info.num_video_streams > 1:
        raise RuntimeError("it may choose another of the video streams")
    pixels = av.VideoFormat(info.pixel_format)
    if has_halved_chroma(pixels) and (num_bits(pixels) > 8 or info.height % 2 or not _is_420(pixels)):
        raise RuntimeError(f"it interpolates color otherwise ({info.pixel_format}, {info.width} x {info.height})")
    if info.num_packets * info.width * info.height * 1.5 > _MAX_BYTES:
        raise RuntimeError("it keeps thousands of decoded frames of a long video in memory")
    decord.logging.set_level(decord.logging.QUIET)  # FFmpeg's own messages; errors arrive as exceptions
    reader = decord.VideoReader(str(info.path), ctx=decord.cpu(0), fault_tol=_REPEATED_SHARE)
    _check_timestamps(reader, info)
    return OpenedVideo(frames_in_chunks(partial(_read_checked, reader, info), info, first))


def _is_420(pixels: av.VideoFormat) -> bool:
    """Whether color has half as many columns as brightness, and half as many rows."""
    return (pixels.chroma_width(4), pixels.chroma_height(4)) == (2, 2)


def _check_timestamps(reader: Any, info: VideoInfo) -> None:
    """Raise RuntimeError unless decord has the container's frames at the container's times."""
    if len(reader) != info.num_packets:
        raise RuntimeError(f"it counts {len(reader)} frames, the container {info.num_packets}")
    stamps = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64)[:, 0]
    plausible = np.isfinite(stamps) & (np.abs(stamps) < 1e9)  # some AVI files: -3.7e17 for a frame without a timestamp
    difference = (stamps - info.timestamps - info.start_seconds)[plausible]
    interval = float(np.median(np.diff(info.timestamps))) if info.num_packets > 1 else info.duration_seconds
    if not plausible.any() or np.abs(difference - np.median(difference)).max() > interval / 2:
        raise RuntimeError("its timestamps disagree with the container's")


def _read_checked(reader: Any, info: VideoInfo, numbers: range) -> np.ndarray:
    frames = _read(reader, numbers)
    if numbers.start == 0 and np.max(first_frame_difference(frames[0], info)) > FIRST_FRAME_LEVELS:
        raise RuntimeError("its first frame is not the video's")
    return frames


def _read(reader: Any, numbers: range) -> np.ndarray:
    return reader.get_batch(numbers).asnumpy()
