"""A video on its way through the stages: its state, the items that stages hand on, and errors of one video."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.preprocess import Windows
from hrpro_pipeline.extract.rows import Rows
from hrpro_pipeline.extract.video.process import DecodeRecord, StreamItem, VideoFacts
from hrpro_pipeline.models.device import is_out_of_memory

# Input of the networks for one frame of the clock: uint8 [crops, channels, side, side] by kind, rgb or flow.
Inputs = dict[str, Tensor]


@dataclass(eq=False)
class Passage:
    """A video on its way through the stages; each stage writes its own fields.

    Attributes:
        failed: set by a stage that gives the video up: the stages before it stop.
        reported: its features, or what is wrong with it, are out.
    """

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
    num_in_batch: int = 0
    reported: bool = False


Decoded = tuple[Passage, StreamItem | HrproError]
# Inputs, each with its number of frames on the clock; or the end of a video.
Prepared = tuple[Passage, list[tuple[Inputs, int]] | DecodeRecord | HrproError]


def make_current(device: torch.device) -> None:
    """Make a GPU the current one of this thread: kernels go there."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def raise_if_broken(error: BaseException, device: torch.device) -> None:
    """Raise an error after which a GPU fails at everything: the process must end, and its videos go to another one."""
    broken = isinstance(error, RuntimeError) and not is_out_of_memory(error)
    if device.type == "cuda" and broken:
        raise error


def as_hrpro_error(video_id: str, error: BaseException) -> HrproError:
    """An unforeseen error of one video in a line; an HrproError as it is."""
    if isinstance(error, HrproError):
        return error
    return HrproError(f"{video_id}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
