"""Second stage: chunks of frames to the inputs of the networks, images and flow."""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.extractor import Extractor
from hrpro_pipeline.extract.flow import tvl1
from hrpro_pipeline.extract.flow.levels import flow_levels
from hrpro_pipeline.extract.preprocess import crop_views, gray
from hrpro_pipeline.extract.stages.passage import (
    Decoded,
    Inputs,
    Passage,
    Prepared,
    as_hrpro_error,
    make_current,
    raise_if_broken,
)
from hrpro_pipeline.extract.video.frames import FrameChunk
from hrpro_pipeline.extract.video.process import DecodeRecord, VideoFacts
from hrpro_pipeline.models.device import send


def input_stage(items: Iterable[Decoded], extractor: Extractor) -> Iterator[Prepared]:
    """Frames and flow as the networks take them."""
    settings, device = extractor.settings, extractor.device
    make_current(device)
    still = _flow_inputs(torch.zeros(1, 2, settings.crop, settings.crop, device=device), settings)[0]
    for video, item in items:
        if video.failed:
            continue
        try:
            if isinstance(item, VideoFacts):
                video.facts = item
            elif isinstance(item, FrameChunk):
                yield video, _chunk_inputs(video, item, still, extractor)
            else:
                if isinstance(item, DecodeRecord):
                    yield video, _last_frame_inputs(video, still)
                yield video, item
        except (ValueError, RuntimeError, MemoryError, cv2.error, HrproError) as error:
            # A video of an unforeseen kind, or one too large for the device: the others go on.
            raise_if_broken(error, device)
            video.failed = True
            yield video, as_hrpro_error(video.video_id, error)


def _chunk_inputs(video: Passage, chunk: FrameChunk, still: Tensor, extractor: Extractor) -> list[tuple[Inputs, int]]:
    """Inputs of a chunk's frames; with flow, of the frame before the chunk up to the last but one.

    Args:
        still: the flow input of a frame that does not move.
    """
    settings = extractor.settings
    # [n, H, W, 3]: each frame is uploaded here, once.
    frames = send(chunk.frames, extractor.device) if isinstance(chunk.frames, np.ndarray) else chunk.frames
    images: Sequence[Tensor | None] = [None] * len(chunk.ticks)
    if any(stream != "flow" for stream in settings.streams):
        views = crop_views(frames.permute(0, 3, 1, 2), settings.crop, settings.crops)
        images = list(torch.stack(views, dim=1))  # n times [crops, 3, side, side]
    if "flow" not in settings.streams:
        return [(_by_kind(image, None), ticks) for image, ticks in zip(images, chunk.ticks, strict=True)]
    grays = gray(frames)
    owners = list(zip(images, chunk.ticks, strict=True))
    if video.last_gray is not None:
        grays = torch.cat([video.last_gray[None], grays])
        owners = [(video.last_image, video.last_ticks), *owners]
    flows = tvl1(grays, extractor.flow, extractor.device, settings.flow_variant).to(extractor.device)
    inputs: list[tuple[Inputs, int]] = []
    for (image, ticks), flow in zip(owners, _flow_inputs(flows, settings), strict=False):
        # A frame that is shown again has not moved.
        inputs += [(_by_kind(image, still), ticks - 1), (_by_kind(image, flow), 1)]
        video.last_flow = flow
    video.last_gray, (video.last_image, video.last_ticks) = grays[-1], owners[-1]
    return inputs


def _last_frame_inputs(video: Passage, still: Tensor) -> list[tuple[Inputs, int]]:
    """N frames have N - 1 flows: the last flow is repeated. A one-frame video gets zero flow."""
    if video.last_gray is None:
        return []
    last_flow = still if video.last_ticks > 1 or video.last_flow is None else video.last_flow
    return [
        (_by_kind(video.last_image, still), video.last_ticks - 1),
        (_by_kind(video.last_image, last_flow), 1),
    ]


def _flow_inputs(flow: Tensor, settings: ExtractSettings) -> Tensor:
    """Flow in pixels [n, 2, H, W] -> uint8 levels [n, crops, 2, side, side]. Mirrored, motion to the right is left."""
    views = crop_views(flow, settings.crop, settings.crops)
    if settings.crops == "ten":
        views[5:] = [torch.stack([-view[:, 0], view[:, 1]], dim=1) for view in views[5:]]
    return flow_levels(torch.stack(views, dim=1), settings.flow_clamp, settings.flow_rounding)


def _by_kind(image: Tensor | None, flow: Tensor | None) -> Inputs:
    return {name: value for name, value in (("rgb", image), ("flow", flow)) if value is not None}
