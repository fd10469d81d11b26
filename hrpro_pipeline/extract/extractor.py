"""Videos to features, streaming: decode and resize, flow, networks, each running ahead of the next by a few chunks.

Memory does not grow with a video's length. Snippets of several videos share a batch; a batch is always filled up to
the same size, so that features do not depend on what else was in it.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline._version import __version__
from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import FeatureHeader, VideoFeatures
from hrpro_pipeline.data.files import safe_id, sha256
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.data.storage import local_copy, name_of, version
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.ahead import Shared, ahead
from hrpro_pipeline.extract.backbones import Backbone, load_backbones
from hrpro_pipeline.extract.flow import flow_levels, resolve_backend, tvl1
from hrpro_pipeline.extract.preprocess import Windows, clip, crop_views, gray
from hrpro_pipeline.extract.rows import Rows
from hrpro_pipeline.extract.video.decoding import DECODERS
from hrpro_pipeline.extract.video.frames import FrameChunk
from hrpro_pipeline.extract.video.process import DecodeRecord, DecodeRequest, DecoderProcess, StreamItem, VideoFacts
from hrpro_pipeline.models.device import resolve_device, send

log = logging.getLogger(__name__)

# Clips that go through a network together.
_BATCH = {"cpu": 2, "cuda": 16}
# Chunks of frames that wait before flow, and of network inputs before the networks.
_WAITING = 2
# Videos that are decoded at once; a network on a GPU is faster than any one decoder.
_MOST_LANES = 8

# Between signs of life while a video is copied and read through.
_ALIVE_SECONDS = 5.0

OnFrames = Callable[[str, int, int], None]  # video id, frames of its clock done, and their total (0: not known yet)

# What one frame of the clock gives each network: uint8 [crops, channels, side, side] by stream.
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Extractor:
    """What all videos of a run have in common.

    Attributes:
        backbones: the network of each stream in the settings, on `device`.
        flow_backend: "torch" or "opencv"; not used without the flow stream.
        lanes: videos that are decoded at once.
        batch: clips that go through a network together.
        keep_partial: a video that cannot be decoded to its end gives the features of what could be.
        decodes_here: torchcodec may decode on the GPU in this process, which can be replaced if that crashes.
    """

    settings: ExtractSettings
    backbones: dict[str, Backbone]
    flow_backend: str
    device: torch.device
    decoder: str = "auto"
    lanes: int = 1
    batch: int = 2
    keep_partial: bool = False
    decodes_here: bool = False


@dataclass(frozen=True)
class Job:
    """A video to extract: a path or URL, and how often a worker has died on it."""

    video_id: str
    source: str
    deaths: int = 0


def load_extractor(settings: ExtractSettings, weights: str, flow: str, decoder: str, device: str) -> Extractor:
    """Load the networks. Raises HrproError for weights, device, decoder or flow that cannot be had."""
    where = resolve_device(device)
    backend = resolve_backend(flow)
    check_decoder(decoder)
    lanes = 1
    if where.type == "cuda":
        lanes = max(1, min(_MOST_LANES, len(os.sched_getaffinity(0)) // torch.cuda.device_count()))
    backbones = load_backbones(settings, weights, where)
    return Extractor(settings, backbones, backend, where, decoder, lanes, _BATCH.get(where.type, 2))


def check_decoder(decoder: str) -> None:
    """Raise HrproError for a decoder that there is not."""
    if decoder not in DECODERS:
        raise HrproError(f"decoder {decoder!r}; expected one of {', '.join(DECODERS)}")


def extract_videos(
    jobs: Iterable[Job], extractor: Extractor, on_frames: OnFrames = lambda *_: None
) -> Iterator[tuple[str, VideoFeatures | HrproError]]:
    """Features of each video with the header that says how they were made, or what is wrong with it, as they finish.

    Args:
        jobs: taken one by one, as there is room for them, from other threads.
        on_frames: called from any thread.

    Returns:
        streams [T, D] in the settings' storage type, T = `clock.num_snippets(frames)`, the same for all streams.
    """
    waiting = Shared(jobs)
    chunks = ahead([_decode_stage(waiting, extractor, on_frames) for _ in range(extractor.lanes)], _WAITING)
    inputs = ahead([_input_stage(chunks, extractor)], _WAITING)
    with closing(inputs):  # type: ignore[type-var]
        yield from _network_stage(inputs, extractor, on_frames)


def extract_video(
    path: Path, extractor: Extractor, video_id: str | None = None, on_frames: OnFrames = lambda *_: None
) -> VideoFeatures:
    """Features of one video. Raises HrproError if it cannot be read to its end."""
    ((_, features),) = extract_videos([Job(video_id or safe_id(path.stem), str(path))], extractor, on_frames)
    if isinstance(features, HrproError):
        raise features
    return features


def stored_settings(settings: ExtractSettings, flow_backend: str) -> dict[str, Any]:
    """Everything that shapes the numbers, as feature files keep it."""
    stored = settings.model_dump(mode="json")
    if "flow" in settings.streams:
        stored["flow_algorithm"] = f"tvl1-{flow_backend}"
    return stored


@dataclass(eq=False)
class _Video:
    """A video on its way through the stages; each writes its own fields, and `failed` when it gives the video up."""

    video_id: str
    windows: Windows[Inputs]
    # Decoding.
    source: dict[str, Any] = field(default_factory=dict)
    facts: VideoFacts | None = None
    # Flow: the last frame waits for the next one.
    last_gray: Tensor | None = None
    last_image: Tensor | None = None
    last_ticks: int = 0
    last_flow: Tensor | None = None
    failed: bool = False
    # Networks.
    record: DecodeRecord | None = None
    rows: dict[str, Rows] = field(default_factory=dict)
    ticks: int = 0
    in_batch: int = 0
    reported: bool = False


_Decoded = tuple[_Video, StreamItem | HrproError]
# Inputs, and for how many frames of the clock; or the end of a video.
_Prepared = tuple[_Video, list[tuple[Inputs, int]] | DecodeRecord | HrproError]


def _decode_stage(jobs: Iterable[Job], extractor: Extractor, on_frames: OnFrames) -> Iterator[_Decoded]:
    """First stage: one video after another as chunks of frames."""
    settings = extractor.settings
    _use(extractor.device)
    process = DecoderProcess()
    with closing(process):
        for job in jobs:
            video = _Video(job.video_id, Windows(settings.snippet_frames, settings.stride))
            alive = _now_and_then(partial(on_frames, job.video_id, 0, 0))
            # On the GPU in this process, unless one has died on the video before.
            here = extractor.decodes_here and job.deaths == 0
            try:
                facts = version(job.source)  # before it is read: a change meanwhile shows next time
                with local_copy(job.source, alive) as path:
                    video.source = {"name": name_of(job.source), **facts, "sha256": sha256(path, alive)}
                    request = DecodeRequest(
                        path, extractor.decoder, settings.fps, settings.resize, keep_partial=extractor.keep_partial
                    )
                    stream = process.stream(request, str(extractor.device) if here else "cpu")
                    with closing(stream) as items:  # type: ignore[type-var]
                        for item in items:
                            if video.failed:  # further down: nobody wants the rest
                                break
                            yield video, item
            except (HrproError, OSError) as error:
                yield video, _unforeseen(job.video_id, error)


def _input_stage(items: Iterable[_Decoded], extractor: Extractor) -> Iterator[_Prepared]:
    """Second stage: frames and flow as the networks take them."""
    settings, device = extractor.settings, extractor.device
    _use(device)
    still = _flow_inputs(torch.zeros(1, 2, settings.crop, settings.crop, device=device), settings)[0]
    for video, item in items:
        if video.failed:
            continue
        try:
            if isinstance(item, VideoFacts):
                video.facts = item
            elif isinstance(item, FrameChunk):
                yield video, _of_chunk(video, item, still, extractor)
            else:
                if isinstance(item, DecodeRecord):
                    yield video, _of_last_frame(video, still)
                yield video, item
        except (ValueError, RuntimeError, MemoryError, cv2.error, HrproError) as error:
            # A video of an unforeseen kind, or one too large for the device: the others go on.
            _raise_if_broken(error, device)
            video.failed = True
            yield video, _unforeseen(video.video_id, error)


def _of_chunk(video: _Video, chunk: FrameChunk, still: Tensor, extractor: Extractor) -> list[tuple[Inputs, int]]:
    settings = extractor.settings
    # [n, H, W, 3]: each frame is uploaded here, once.
    frames = send(chunk.frames, extractor.device) if isinstance(chunk.frames, np.ndarray) else chunk.frames
    images: Sequence[Tensor | None] = [None] * len(chunk.ticks)
    if "rgb" in settings.streams:
        views = crop_views(frames.permute(0, 3, 1, 2), settings.crop, settings.crops)
        images = list(torch.stack(views, dim=1))  # n times [crops, 3, side, side]
    if "flow" not in settings.streams:
        return [(_inputs(image, None), ticks) for image, ticks in zip(images, chunk.ticks, strict=True)]
    grays = gray(frames)
    owners = list(zip(images, chunk.ticks, strict=True))
    if video.last_gray is not None:
        grays = torch.cat([video.last_gray[None], grays])
        owners = [(video.last_image, video.last_ticks), *owners]
    flows = tvl1(grays, extractor.flow_backend, extractor.device, settings.flow_variant).to(extractor.device)
    found: list[tuple[Inputs, int]] = []
    for (image, ticks), flow in zip(owners, _flow_inputs(flows, settings), strict=False):
        # A frame that is shown again has not moved.
        found += [(_inputs(image, still), ticks - 1), (_inputs(image, flow), 1)]
        video.last_flow = flow
    video.last_gray, (video.last_image, video.last_ticks) = grays[-1], owners[-1]
    return found


def _of_last_frame(video: _Video, still: Tensor) -> list[tuple[Inputs, int]]:
    """N frames have N - 1 flows: the last flow is repeated. That of a video of one frame is 0."""
    if video.last_gray is None:
        return []
    last_flow = still if video.last_ticks > 1 or video.last_flow is None else video.last_flow
    return [(_inputs(video.last_image, still), video.last_ticks - 1), (_inputs(video.last_image, last_flow), 1)]


def _flow_inputs(flow: Tensor, settings: ExtractSettings) -> Tensor:
    """Flow in pixels [n, 2, H, W] -> uint8 levels [n, crops, 2, side, side]. Mirrored, motion to the right is left."""
    views = crop_views(flow, settings.crop, settings.crops)
    if settings.crops == "ten":
        views[5:] = [torch.stack([-view[:, 0], view[:, 1]], dim=1) for view in views[5:]]
    return flow_levels(torch.stack(views, dim=1), settings.flow_clamp, settings.flow_rounding)


def _inputs(image: Tensor | None, flow: Tensor | None) -> Inputs:
    return {name: value for name, value in (("rgb", image), ("flow", flow)) if value is not None}


def _network_stage(
    items: Iterable[_Prepared], extractor: Extractor, on_frames: OnFrames
) -> Iterator[tuple[str, VideoFeatures | HrproError]]:
    """Third stage: windows of all videos to rows of features."""
    crops = {"center": 1, "five": 5, "ten": 10}[extractor.settings.crops]
    size = max(1, extractor.batch // crops)  # windows
    batch: list[tuple[_Video, list[Inputs]]] = []

    _use(extractor.device)

    def add(video: _Video, window: list[Inputs]) -> Iterator[tuple[str, VideoFeatures | HrproError]]:
        if video.reported:
            return
        batch.append((video, window))
        video.in_batch += 1
        if len(batch) == size:
            yield from flush()

    def flush() -> Iterator[tuple[str, VideoFeatures | HrproError]]:
        full = batch.copy()
        batch.clear()
        yield from _of_batch(full, size * crops, extractor)

    for video, item in items:
        if video.reported:
            continue
        if isinstance(item, list):
            for inputs, ticks in item:
                for _ in range(ticks):
                    if window := video.windows.push(inputs):
                        yield from add(video, window)
                video.ticks += ticks
            if video.facts is not None:
                on_frames(video.video_id, video.ticks, video.facts.total_ticks)
        elif isinstance(item, DecodeRecord):
            if rest := video.windows.rest():
                yield from add(video, rest)
            video.record = item
            if video.in_batch == 0 and not video.reported:
                yield video.video_id, _finished(video, extractor)
        else:
            batch[:] = [(owner, window) for owner, window in batch if owner is not video]
            video.reported = True
            yield video.video_id, item
    if batch:
        yield from flush()


def _of_batch(
    batch: Sequence[tuple[_Video, list[Inputs]]], clips: int, extractor: Extractor
) -> Iterator[tuple[str, VideoFeatures | HrproError]]:
    """Rows for the windows of a batch, filled up to `clips` clips; then the videos that are finished with them."""
    videos = list(dict.fromkeys(video for video, _ in batch if not video.reported))
    try:
        windows = [window for _, window in batch]
        rows = {stream: _rows(windows, stream, clips, extractor) for stream in extractor.backbones}
    except (ValueError, RuntimeError, MemoryError) as error:
        _raise_if_broken(error, extractor.device)
        for video in videos:
            video.failed = video.reported = True
            yield video.video_id, _unforeseen(video.video_id, error)
        return
    for index, (video, _) in enumerate(batch):
        video.in_batch -= 1
        if video.reported:
            continue
        try:
            for stream, found in rows.items():
                # A copy: the row would keep its batch alive.
                video.rows.setdefault(stream, Rows()).append(found[index].astype(extractor.settings.dtype))
        except HrproError as error:  # no room for more
            video.failed = video.reported = True
            yield video.video_id, error
    for video in videos:
        if video.record is not None and video.in_batch == 0 and not video.reported:
            yield video.video_id, _finished(video, extractor)


def _rows(windows: Sequence[list[Inputs]], stream: str, clips: int, extractor: Extractor) -> np.ndarray:
    """Features of one stream, float32 [windows, D]; crops averaged, or one after the other."""
    levels = torch.cat([clip([inputs[stream] for inputs in window]) for window in windows])  # [windows x crops, ...]
    filled = torch.cat([levels, levels.new_zeros(clips - len(levels), *levels.shape[1:])])
    # Plain float32: by default convolutions on recent GPUs round to 10 bits of mantissa.
    plain = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), plain:
        features = _that_fit(extractor.backbones[stream], filled)[: len(levels)]  # [windows x crops, D]
        by_crop = features.view(len(windows), -1, features.shape[1])
        fused = by_crop.mean(dim=1) if extractor.settings.crop_fusion == "mean" else by_crop.flatten(1)
    return fused.cpu().numpy()


def _that_fit(backbone: Backbone, levels: Tensor) -> Tensor:
    """Features of clips [B, ...]; in halves where the device has no memory for all of them."""
    try:
        return backbone.features(levels)
    except torch.OutOfMemoryError:
        if len(levels) == 1:
            raise
    log.warning("out of GPU memory with %d clips: trying %d", len(levels), len(levels) // 2)
    torch.cuda.empty_cache()
    half = len(levels) // 2
    return torch.cat([_that_fit(backbone, levels[:half]), _that_fit(backbone, levels[half:])])


def _finished(video: _Video, extractor: Extractor) -> VideoFeatures | HrproError:
    settings, record, facts = extractor.settings, video.record, video.facts
    assert record is not None
    assert facts is not None
    video.reported = True
    if video.ticks != record.ticks:
        return HrproError(f"{video.video_id}: its decoders disagree on its frames; re-encode it")
    try:
        streams = {str(stream): video.rows.pop(stream).array() for stream in settings.streams}
    except HrproError as error:
        return error
    header = FeatureHeader(
        video_id=video.video_id,
        num_snippets=len(next(iter(streams.values()))),
        widths={stream: array.shape[1] for stream, array in streams.items()},
        clock=SnippetClock(settings.fps, settings.snippet_frames, settings.stride),
        duration_seconds=record.seconds,
        num_frames=record.ticks,
        source=video.source | {"fps": round(facts.fps, 6)},
        settings=stored_settings(settings, extractor.flow_backend),
        weights={stream: extractor.backbones[stream].digest for stream in settings.streams},
        record=_record(record, extractor),
    )
    return VideoFeatures(streams, header)


def _record(record: DecodeRecord, extractor: Extractor) -> dict[str, Any]:
    facts = asdict(record)
    return {name: facts[name] for name in facts if name not in ("ticks", "seconds")} | {
        # Not which of several: files are the same whichever it was.
        "device": extractor.device.type,
        "precision": {
            stream: str(backbone.dtype).removeprefix("torch.") for stream, backbone in extractor.backbones.items()
        },
        "versions": {
            "hrpro": __version__,
            "torch": torch.__version__,
            "av": av.__version__,
            "opencv": cv2.__version__,
        },
    }


def _use(device: torch.device) -> None:
    """Make a GPU the current one of this thread: kernels go there."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def _raise_if_broken(error: BaseException, device: torch.device) -> None:
    """A GPU in error fails whatever comes next: the process must end, and its videos go to another one."""
    broken = isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)
    if device.type == "cuda" and broken:
        raise error


def _now_and_then(call: Callable[[], object]) -> Callable[[], None]:
    last = time.monotonic()

    def called() -> None:
        nonlocal last
        if time.monotonic() - last > _ALIVE_SECONDS:
            last = time.monotonic()
            call()

    return called


def _unforeseen(name: str, error: BaseException) -> HrproError:
    if isinstance(error, HrproError):
        return error
    return HrproError(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
