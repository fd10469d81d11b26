"""The networks and choices that all videos of a run share."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.extract.backbones import Backbone, load_backbones
from hrpro_pipeline.extract.flow import resolve_backend
from hrpro_pipeline.extract.flow.on_device import device_kernel
from hrpro_pipeline.extract.networks.network import clip_ticks
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.extract.video.decoding import check_decoder
from hrpro_pipeline.models.device import resolve_device

# Clips that go through a network together.
_BATCH = {"cpu": 2, "cuda": 16}
# Videos that are decoded at once; a network on a GPU is faster than any one decoder.
_MAX_LANES = 8

OnFrames = Callable[[str, int, int], None]  # video id, frames of its clock done, and their total (0: not known yet)


@dataclass(frozen=True)
class Extractor:
    """The settings, networks and options by which all videos of a run are extracted.

    Attributes:
        backbones: the network of each stream in the settings, on `device`.
        flow: who computes TV-L1, "torch" or "opencv"; not used without the flow stream.
        decoder: which one is tried first.
        lanes: videos that are decoded at once.
        batch: clips that go through a network together.
        keep_partial: a video that cannot be decoded to its end gives the features of what could be.
        apart: in a process of its own, which is replaced when it dies: torchcodec may decode on the GPU in it.
    """

    settings: ExtractSettings
    backbones: dict[str, Backbone]
    flow: str
    device: torch.device
    decoder: str = "auto"
    lanes: int = 1
    batch: int = 2
    keep_partial: bool = False
    apart: bool = False

    def clip_ticks(self) -> dict[str, tuple[int, ...]]:
        """The frames of each stream's clips, as ticks of the clock from the first frame of the snippet."""
        settings = self.settings
        networks = {stream: backbone.network for stream, backbone in self.backbones.items()}
        return {
            stream: clip_ticks(network.frames, network.rate, settings.fps, settings.snippet_frames)
            for stream, network in networks.items()
        }

    def reach(self) -> tuple[int, int]:
        """How many frames before and after a snippet its clips reach."""
        ticks = [tick for clip in self.clip_ticks().values() for tick in clip]
        return max(0, -min(ticks)), max(0, max(ticks) - self.settings.snippet_frames + 1)


@dataclass(frozen=True)
class Job:
    """A video to extract: a path or URL, and how often a worker has died on it."""

    video_id: str
    source: str
    deaths: int = 0


def load_extractor(settings: ExtractSettings, options: ExtractOptions, threads: int | None = None) -> Extractor:
    """Load the networks, and try what computes flow.

    Args:
        threads: this worker's share of the cores, where it is not the only one.

    Raises:
        HrproError: weights, device, decoder or flow that cannot be had.
    """
    device = resolve_device(options.device)
    flow = resolve_backend(options.flow)
    check_decoder(options.decoder)
    if "flow" in settings.streams and flow == "torch":
        device_kernel(torch.empty(0, device=device).device)  # by its number, as frames have it
    lanes = num_lanes(device, threads or len(os.sched_getaffinity(0)))
    return Extractor(
        settings,
        load_backbones(settings, options.weights, device, options.own),
        flow,
        device,
        options.decoder,
        lanes,
        _BATCH[device.type],
        options.keep_partial,
    )


def num_lanes(device: torch.device, threads: int) -> int:
    """Videos that a worker with so many threads decodes at once: on the CPU the networks need them all."""
    return max(1, min(_MAX_LANES, threads)) if device.type == "cuda" else 1
