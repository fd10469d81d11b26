"""One video to features, streaming: a few snippets are in memory at a time, never the whole video."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline import __version__
from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import FeatureHeader, VideoFeatures
from hrpro_pipeline.data.files import safe_id, sha256
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.extract.backbones import Backbone
from hrpro_pipeline.extract.decoders import Decoding, decode
from hrpro_pipeline.extract.flow import flow_levels, tvl1
from hrpro_pipeline.extract.preprocess import centre_crop, clips, gray, resize_frame, resized_size, windows
from hrpro_pipeline.extract.video import VideoInfo, num_clock_frames, resample

Item = TypeVar("Item")

# Frames whose flow is computed at once: enough pairs to fill a GPU, a few megabytes of frames.
_CHUNK_FRAMES = 64


@dataclass(frozen=True)
class _Frame:
    """A frame of the clock, resized: its RGB crop [3, crop, crop] and gray image [H, W], where they are needed."""

    rgb: Tensor | None
    gray: np.ndarray | None
    repeated: bool  # shown for more than one tick, and not for the first time


def extract_video(
    path: Path,
    settings: ExtractSettings,
    backbones: dict[str, Backbone],
    *,
    flow_backend: str,
    device: torch.device,
    decoder: str = "auto",
    video_id: str | None = None,
    batch: int = 4,
    chunk_frames: int = _CHUNK_FRAMES,
    on_frame: Callable[[int, int], None] | None = None,
) -> VideoFeatures:
    """Features of one video, with the header that says how they were made.

    Args:
        backbones: the network of each stream in the settings, on `device`.
        flow_backend: "torch" or "opencv"; not used without the flow stream.
        batch: snippets that go through a network together.
        chunk_frames: frames whose flow is computed together.
        on_frame: called with the number of clock frames done and their total.

    Returns:
        streams [T, D] in the settings' storage type, T = `clock.num_snippets(frames)`, the same for all streams.

    Raises:
        HrproError: the video cannot be read to its end.
    """
    decoding = decode(path, decoder)
    info = decoding.info
    total = num_clock_frames(info, settings.fps)
    shown = _reported(resample(decoding, info, settings.fps), total, on_frame)
    inputs = _network_inputs(_prepared(shown, info, settings), settings, flow_backend, device, chunk_frames)
    rows: dict[str, list[np.ndarray]] = {stream: [] for stream in settings.streams}
    # Plain float32: by default convolutions on recent GPUs round to 10 bits of mantissa.
    plain = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), plain:
        for group in _groups(windows(inputs, settings.snippet_frames, settings.stride), batch):
            for stream in settings.streams:
                levels = clips([[item[stream] for item in window] for window in group])  # [B, channels, t, H, W]
                rows[stream].append(backbones[stream].features(levels.to(device)).cpu().numpy())
    streams = {stream: np.concatenate(parts).astype(settings.dtype) for stream, parts in rows.items()}
    header = FeatureHeader(
        video_id=video_id or safe_id(path.stem),
        num_snippets=len(next(iter(streams.values()))),
        widths={stream: array.shape[1] for stream, array in streams.items()},
        clock=SnippetClock(settings.fps, settings.snippet_frames, settings.stride),
        duration_seconds=info.duration_seconds,
        num_frames=total,
        source=describe_source(path, info),
        settings=stored_settings(settings, flow_backend),
        weights={stream: backbones[stream].digest for stream in settings.streams},
        record=_record(decoding, device, backbones),
    )
    return VideoFeatures(streams, header)


def stored_settings(settings: ExtractSettings, flow_backend: str) -> dict[str, Any]:
    """Everything that shapes the numbers, as feature files keep it."""
    stored = settings.model_dump(mode="json")
    if "flow" in settings.streams:
        stored["flow_algorithm"] = f"tvl1-{flow_backend}"
    return stored


def describe_source(path: Path, info: VideoInfo) -> dict[str, Any]:
    """Name, size, digest and average frame rate of a video file."""
    return {"name": path.name, "size": path.stat().st_size, "sha256": sha256(path), "fps": round(info.fps, 6)}


def _record(decoding: Decoding, device: torch.device, backbones: dict[str, Backbone]) -> dict[str, Any]:
    return {
        "decoder": decoding.decoder,
        "decoder_fallback": decoding.fallback_reason,
        "frames_decoded": decoding.num_decoded,
        "frames_in_container": decoding.info.num_packets,
        "codec": decoding.info.codec,
        "rotation": decoding.info.rotation,
        "device": str(device),
        "precision": {stream: str(backbone.dtype).removeprefix("torch.") for stream, backbone in backbones.items()},
        "versions": {
            "hrpro": __version__,
            "torch": torch.__version__,
            "av": av.__version__,
            "opencv": cv2.__version__,
        },
    }


def _reported(
    frames: Iterable[np.ndarray], total: int, on_frame: Callable[[int, int], None] | None
) -> Iterator[np.ndarray]:
    for count, frame in enumerate(frames, 1):
        yield frame
        if on_frame is not None:
            on_frame(count, total)


def _prepared(frames: Iterable[np.ndarray], info: VideoInfo, settings: ExtractSettings) -> Iterator[_Frame]:
    """Resizes each frame once, however often the clock shows it."""
    source: np.ndarray | None = None
    size: tuple[int, int] | None = None
    for frame in frames:
        repeated = frame is source
        if not repeated:
            source = frame
            # The first frame's size holds for all: a stream may change its size on the way.
            size = size or resized_size(frame.shape[1], frame.shape[0], settings.resize)
            resized = resize_frame(frame, size)
            rgb = centre_crop(torch.from_numpy(resized).permute(2, 0, 1), settings.crop).contiguous()
            current = rgb if "rgb" in settings.streams else None, gray(resized) if "flow" in settings.streams else None
        yield _Frame(*current, repeated=repeated)


def _network_inputs(
    frames: Iterable[_Frame], settings: ExtractSettings, flow_backend: str, device: torch.device, chunk_frames: int
) -> Iterator[dict[str, Tensor]]:
    """For each frame the uint8 input of each stream: rgb [3, crop, crop], flow to the next frame [2, crop, crop]."""
    if "flow" not in settings.streams:
        for frame in frames:
            yield _inputs(frame, None)
        return
    last_flow = _levels(torch.zeros(2, settings.crop, settings.crop), settings)  # of a video of a single frame
    held: list[_Frame] = []  # one frame stays: its flow needs the next chunk
    for chunk in _groups(frames, chunk_frames):
        held += chunk
        flows = _chunk_flow(held, settings, flow_backend, device)
        for frame, flow in zip(held, flows, strict=False):
            yield _inputs(frame, flow)
            last_flow = flow
        held = held[-1:]
    for frame in held:  # N frames have N - 1 flows: the last flow is repeated
        yield _inputs(frame, last_flow)


def _inputs(frame: _Frame, flow: Tensor | None) -> dict[str, Tensor]:
    return {name: value for name, value in (("rgb", frame.rgb), ("flow", flow)) if value is not None}


def _chunk_flow(
    frames: list[_Frame], settings: ExtractSettings, flow_backend: str, device: torch.device
) -> Iterator[Tensor]:
    """uint8 flow levels between neighbours, cropped: one fewer than frames. A repeated frame has not moved."""
    distinct = [
        frame.gray for i, frame in enumerate(frames) if frame.gray is not None and (i == 0 or not frame.repeated)
    ]
    flow = tvl1(np.stack(distinct), flow_backend, device, settings.flow_variant)
    levels = iter(_levels(centre_crop(flow, settings.crop), settings).cpu())
    still = _levels(torch.zeros(2, settings.crop, settings.crop), settings)
    for frame in frames[1:]:
        yield still if frame.repeated else next(levels)


def _levels(flow: Tensor, settings: ExtractSettings) -> Tensor:
    return flow_levels(flow, settings.flow_clamp, settings.flow_rounding)


def _groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
