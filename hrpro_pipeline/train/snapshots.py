"""Snapshots of what is reliable while stage 1 trains: `reliability/<step>.json` of a run, for a few of its videos."""

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
    """Reliable snippets and proposals of a video, as (start, end, class) on the snippet axis.

    Attributes:
        action: runs of action seeds, the points among them. background: runs of background seeds, class -1.
        proposals: the reliable proposal of each point that has one.
    """

    action: list[tuple[float, float, int]]
    background: list[tuple[float, float, int]]
    proposals: list[tuple[float, float, int]]


def find_reliable(model: SnippetModel, video: TrainingVideo, features: Tensor, settings: Settings) -> Reliable:
    """Seeds and reliable proposals of a training video, by a model in eval mode; features [T, D] on its device."""
    result = or_on_cpu(
        lambda on_device: find_candidates(model, on_device, settings), model, features, features.device, video.video_id
    )
    action, background = video_seeds(result.background, video, len(model.prototypes), settings)
    labels, starts, ends = runs(action.T)
    _, first, last = runs(background[None])
    rows = reliable_proposals(result.proposals, video.positions, video.labels)
    proposals = result.proposals[rows[rows >= 0]]
    return Reliable(
        action=[(float(start), float(end), int(label)) for label, start, end in zip(labels, starts, ends, strict=True)],
        background=[(float(start), float(end), -1) for start, end in zip(first, last, strict=True)],
        proposals=[(float(start), float(end), int(label)) for start, end, label, _ in proposals],
    )


def observed_videos(videos: Sequence[TrainingVideo]) -> list[int]:
    """Indices of the videos in snapshots: a few, evenly spaced from the fewest points to the most."""
    order = np.argsort([len(video.positions) for video in videos], kind="stable")
    places = np.linspace(0, len(order) - 1, min(_NUM_VIDEOS, len(order)))
    return [int(order[round(place)]) for place in places]


def write_snapshot(run: Path, step: int, videos: Mapping[str, Reliable]) -> None:
    """Write the snapshot of a step, by video."""
    content = {"step": step, "videos": {video_id: asdict(reliable) for video_id, reliable in videos.items()}}
    write_text(run / _FOLDER / f"{step:06d}.json", json.dumps(content) + "\n")


def read_snapshots(run: Path) -> dict[int, dict[str, Reliable]]:
    """The snapshots of a run by step and video; empty for a run without any. Raises HrproError for a damaged one."""
    snapshots = {}
    for file in sorted((run / _FOLDER).glob("*.json")):
        try:
            content = json.loads(read_text(file, "a snapshot of what is reliable"))
            videos = {
                str(video_id): Reliable(**{name: _intervals(reliable[name]) for name in Reliable.__annotations__})
                for video_id, reliable in content["videos"].items()
            }
            snapshots[int(content["step"])] = videos
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise HrproError(f"{file}: damaged ({type(error).__name__}); delete it") from None
    return snapshots


def _intervals(rows: list[list[float]]) -> list[tuple[float, float, int]]:
    return [(float(start), float(end), int(label)) for start, end, label in rows]
