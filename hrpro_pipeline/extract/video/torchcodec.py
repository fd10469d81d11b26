"""Frames by torchcodec: on the CPU, or by NVDEC on a CUDA device, where they stay."""

import re
from functools import partial
from importlib.metadata import version
from typing import Any

import av
import numpy as np

from hrpro_pipeline.errors import one_line
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.pyav import FIRST_FRAME_LEVELS, first_frame_difference, num_bits
from hrpro_pipeline.extract.video.reading import OpenedVideo, check_container, frames_in_chunks

# Levels by which NVDEC's first frame may differ from PyAV's on average: what its interpolation of color comes to, but
# never another frame, or one that is not turned.
_FIRST_FRAME_MEAN_LEVELS = 10

_OLDEST_VERSION = (0, 11)

# Matrices (`VideoInfo.matrix`) that every version applies on CUDA: BT.709, BT.601, and none said, which is BT.601.
_CUDA_MATRICES = {1, 2, 5, 6}


def open_torchcodec(info: VideoInfo, first: int, device: str = "cpu") -> OpenedVideo:
    """Frames from number `first` on. Raises an exception that says why the video is refused.

    Where NVDEC does not take the video, torchcodec decodes on the CPU, and the frames are tensors on the device anyway.
    """
    decoder = _decoder(info, device)
    if len(decoder) != info.num_packets:
        raise RuntimeError(f"it counts {len(decoder)} frames, the container {info.num_packets}")
    frames = frames_in_chunks(partial(_read_checked, decoder, info, device), info, first)
    return OpenedVideo(frames, device, partial(_nvdec_refusal, decoder, device))


def _nvdec_refusal(decoder: Any, device: str) -> str | None:
    # Some versions know only when they have decoded a frame; until then they do not say that they fall back.
    status = decoder.cpu_fallback if device != "cpu" else None
    return f"NVDEC refused: {str(status).rpartition(': ')[2]}" if status else None


def _decoder(info: VideoInfo, device: str) -> Any:
    check_container(info)
    _check_colors(info, device)
    try:
        from torchcodec.decoders import VideoDecoder
    except ModuleNotFoundError:
        raise RuntimeError("it is not installed") from None
    except (ImportError, OSError, RuntimeError) as error:
        raise RuntimeError(f"it cannot be loaded: {_loading_error(str(error))}") from None
    check_version(version("torchcodec"))
    if device != "cpu":
        import torch

        if not torch.cuda.is_available():  # torchcodec would write a page to the terminal
            raise RuntimeError("no CUDA device")
    return VideoDecoder(
        str(info.path),
        stream_index=info.stream_index,
        dimension_order="NHWC",
        num_ffmpeg_threads=0,
        device=device,
        seek_mode="exact",
    )


def check_version(installed: str) -> None:
    """Raise RuntimeError for versions that turn no frames and, on CUDA, convert colors wrongly."""
    if tuple(int(part) for part in re.findall(r"\d+", installed)[:2]) < _OLDEST_VERSION:
        raise RuntimeError(f"it is of version {installed}; {'.'.join(map(str, _OLDEST_VERSION))} or later is needed")


def _check_colors(info: VideoInfo, device: str) -> None:
    """Raise RuntimeError for colors that it would convert otherwise; a first frame that is black does not tell."""
    pixels = av.VideoFormat(info.pixel_format)
    # Formats named yuvj have no other range.
    if info.full_range and not pixels.is_rgb and not info.pixel_format.startswith("yuvj"):
        raise RuntimeError(f"it takes levels of full range for limited ones ({info.pixel_format})")
    if device != "cpu" and (num_bits(pixels) > 8 or info.full_range or info.matrix not in _CUDA_MATRICES):
        raise RuntimeError(f"NVDEC converts HDR and levels of full range otherwise ({info.pixel_format})")


def _read_checked(decoder: Any, info: VideoInfo, device: str, numbers: range) -> Any:
    batch = decoder.get_frames_in_range(numbers.start, numbers.stop)
    stamps = batch.pts_seconds.numpy() - info.start_seconds
    expected = info.timestamps[numbers.start : numbers.stop]
    if len(stamps) != len(expected) or np.abs(stamps - expected).max() > info.tolerance_seconds + 1e-6:
        raise RuntimeError("its timestamps disagree with the container's")
    if numbers.start == 0 and not _is_first_frame(batch.data[0].cpu().numpy(), info, device):
        raise RuntimeError("its first frame is not the video's")
    return batch.data.numpy() if device == "cpu" else batch.data


def _is_first_frame(image: np.ndarray, info: VideoInfo, device: str) -> bool:
    difference = first_frame_difference(image, info)
    if device == "cpu":
        return bool(difference.max() <= FIRST_FRAME_LEVELS)
    return bool(difference.mean() <= _FIRST_FRAME_MEAN_LEVELS)


def _loading_error(text: str) -> str:
    """The line of torchcodec's long message that says what is wrong."""
    errors = [line.strip() for line in text.splitlines() if re.match(r"\s*\w*Error: ", line)]
    # One error for each version of FFmpeg that could be there; most are not.
    telling = [line for line in errors if "cannot open shared object file" not in line] or errors
    return telling[0] if telling else one_line(RuntimeError(text))
