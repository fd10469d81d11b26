"""The header of a feature file: how the features of a video were made."""

from dataclasses import asdict
from typing import Any

import av
import cv2
import numpy as np
import torch

from hrpro_pipeline._version import __version__
from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import FeatureHeader
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.extract.extractor import Extractor
from hrpro_pipeline.extract.video.process import DecodeRecord

# Kept where there is something to say.
_RARE_FACTS = ("mirrored", "time_note")


def stored_settings(settings: ExtractSettings, flow: str) -> dict[str, Any]:
    """Everything that shapes the numbers, as feature files keep it.

    Args:
        flow: who computes TV-L1, "torch" or "opencv".
    """
    stored = settings.model_dump(mode="json")
    if not settings.backbones:  # files of one RGB network have no such setting
        del stored["backbones"]
    if "flow" in settings.streams:
        stored["flow_algorithm"] = f"tvl1-{flow}"
    return stored


def feature_header(
    video_id: str,
    source: dict[str, Any],
    record: DecodeRecord,
    streams: dict[str, np.ndarray],
    extractor: Extractor,
) -> FeatureHeader:
    """The header of extracted features.

    Args:
        source: of the video, as feature files keep it.
        record: how decoding went.
        streams: features [T, D] by stream.
    """
    settings = extractor.settings
    return FeatureHeader(
        video_id=video_id,
        num_snippets=len(next(iter(streams.values()))),
        widths={stream: array.shape[1] for stream, array in streams.items()},
        clock=SnippetClock(settings.fps, settings.snippet_frames, settings.stride),
        duration_seconds=record.seconds,
        num_frames=record.ticks,
        source=source,
        settings=stored_settings(settings, extractor.flow),
        weights={stream: backbone.digest for stream, backbone in extractor.backbones.items()},
        record=_stored_record(record, extractor),
    )


def _stored_record(record: DecodeRecord, extractor: Extractor) -> dict[str, Any]:
    """Facts that did not shape the numbers, as feature files keep them."""
    stored = {name: value for name, value in asdict(record).items() if name not in ("ticks", "seconds")}
    for name in _RARE_FACTS:
        if not stored[name]:
            del stored[name]
    own_clips = {
        stream: {"frames": len(ticks), "first_tick": ticks[0], "last_tick": ticks[-1]}
        for stream, ticks in extractor.clip_ticks().items()
        if extractor.backbones[stream].network.frames is not None
    }
    if own_clips:
        stored["clips"] = own_clips
    return stored | {
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
