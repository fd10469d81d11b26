"""Extraction by networks with random weights, from small frames and on the CPU."""

from pathlib import Path
from typing import Any

import torch

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import VideoFeatures
from hrpro_pipeline.extract.backbones import Backbone
from hrpro_pipeline.extract.extractor import Extractor
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.extract.pipeline import extract_video

CPU = torch.device("cpu")
SMALL = ExtractSettings(precision="float32", resize=40, crop=32)
RGB_ONLY = ExtractSettings(resize=32, crop=32, streams=("rgb",))
RANDOM = ExtractOptions(weights="random", device="cpu")


def extractor_of(
    backbones: dict[str, Backbone], settings: ExtractSettings, flow: str = "opencv", **options: Any
) -> Extractor:
    """With the backbones of the streams in the settings."""
    return Extractor(settings, {stream: backbones[stream] for stream in settings.streams}, flow, CPU, **options)


def extract(path: Path, backbones: dict[str, Backbone], settings: ExtractSettings, **options: Any) -> VideoFeatures:
    return extract_video(path, extractor_of(backbones, settings, **options))
