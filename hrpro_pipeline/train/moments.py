"""What stage 1 takes for reliable while it trains: `reliability/<step>.json` of a run, for a few of its videos."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.data.dataset import TrainingVideo
from hrpro_pipeline.data.files import read_text, write_text
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.candidates import find_candidates
from hrpro_pipeline.models.device import or_on_cpu
from hrpro_pipeline.models.proposals import runs
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.train.instance_stage import video_seeds
from hrpro_pipeline.train.reliable import reliable_proposals

_FOLDER = "reliability"
_NUM_VIDEOS = 6


@dataclass(frozen=True)
class Reliable:
    """What is reliable in a video, as (start, end, class) on the snippet axis.

    Attributes:
        action: runs of action seeds, the points among them. background: runs of background seeds, class -1.
        proposals: the reliable proposal of each point that has one.
    """

    action: list[tuple[float, float, int]]
    background: list[tuple[float, float, int]]
    proposals: list[tuple[float, float, int]]


def find_reliable(model: SnippetModel, video: TrainingVideo, features: Tensor, settings: Settings) -> Reliable:
    """Seeds and reliable proposals of a training video, by a model in eval mode; features [T, D] on its device."""
    found = or_on_cpu(
        lambda there: find_candidates(model, there, settings), model, features, features.device, video.video_id
    )
    action, background = video_seeds(found.background, video, len(model.prototypes), settings)
    labels, starts, ends = runs(action.T)
    _, first, last = runs(background[None])
    rows = reliable_proposals(found.proposals, video.positions, video.labels)
    proposals = found.proposals[rows[rows >= 0]]
    return Reliable(
        action=[(float(start), float(end), int(label)) for label, start, end in zip(labels, starts, ends, strict=True)],
        background=[(float(start), float(end), -1) for start, end in zip(first, last, strict=True)],
        proposals=[(float(start), float(end), int(label)) for start, end, label, _ in proposals],
    )


def observed_videos(videos: Sequence[TrainingVideo]) -> list[int]:
    """Which videos are looked at: a few, evenly spaced from those with the fewest points to those with the most."""
    order = np.argsort([len(video.positions) for video in videos], kind="stable")
    at = np.linspace(0, len(order) - 1, min(_NUM_VIDEOS, len(order)))
    return [int(order[round(place)]) for place in at]


def write_moment(run: Path, step: int, videos: Mapping[str, Reliable]) -> None:
    """Write what is reliable after a step, by video."""
    content = {"step": step, "videos": {video_id: asdict(found) for video_id, found in videos.items()}}
    write_text(run / _FOLDER / f"{step:06d}.json", json.dumps(content) + "\n")


def read_moments(run: Path) -> dict[int, dict[str, Reliable]]:
    """What a run has written down, by step and video; empty for a run that did not. Raises HrproError if damaged."""
    moments = {}
    for file in sorted((run / _FOLDER).glob("*.json")):
        try:
            content = json.loads(read_text(file, "what a run found reliable"))
            videos = {
                str(video_id): Reliable(**{name: _intervals(found[name]) for name in Reliable.__annotations__})
                for video_id, found in content["videos"].items()
            }
            moments[int(content["step"])] = videos
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise HrproError(f"{file}: damaged ({type(error).__name__}); delete it") from None
    return moments


def _intervals(listed: list[list[float]]) -> list[tuple[float, float, int]]:
    return [(float(start), float(end), int(label)) for start, end, label in listed]
