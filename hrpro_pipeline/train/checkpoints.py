"""Checkpoints of a run: what to resume from, and whether a run may be resumed."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.checkpoint import FILE_NAME, load_torch, save_torch
from hrpro_pipeline.train import parallel
from hrpro_pipeline.train.journal import METRICS, rewind

log = logging.getLogger(__name__)

_FILE = Path("checkpoints") / "last.pt"
# Share of the time that may go into checkpoints.
_TIME_SHARE = 0.05


@dataclass
class Checkpoint:
    """The state of a run after a round of a stage.

    Attributes:
        stage, step: name of the stage, and its last round.
        network, optimizer: state dicts of that stage.
        snippet, instance: state dicts of stages 1 and 2 while a later stage is trained.
        best: the best evaluation so far, where one is to be selected.
        parts: parts that steps are cut into, by stage.
    """

    stage: str
    step: int
    network: dict[str, Any]
    snippet: dict[str, Any] | None
    notes: dict[str, Any]
    optimizer: dict[str, Any]
    best: dict[str, Any] | None
    parts: dict[str, int]
    instance: dict[str, Any] | None = None


class Checkpoints:
    """Reads and writes `checkpoints/last.pt` of a run.

    Args:
        identity: what must be the same for a run to be resumed.
    """

    def __init__(self, run: Path, identity: dict[str, Any]) -> None:
        self._run, self._identity = run, identity
        self._saved_at = self._saving_seconds = 0.0

    def start(self, resume: bool) -> Checkpoint | None:
        """The checkpoint to go on from, if any, on all processes; the folder is ready for the run afterwards.

        Raises:
            HrproError: the folder holds a run and is not to be resumed, or one that was made otherwise.
        """
        checkpoint, problem = None, None
        if parallel.rank() == 0:
            try:
                if resume:
                    checkpoint = self._resumed()
                else:
                    check_empty(self._run)
            except HrproError as error:
                problem = str(error)
        checkpoint, problem = parallel.same_everywhere((checkpoint, problem))
        if problem is not None:
            raise HrproError(problem)
        return checkpoint

    def is_due(self) -> bool:
        """Whether this process may write a checkpoint now: not if the last one took too long for another so soon."""
        pause = (time.monotonic() - self._saved_at) * _TIME_SHARE
        return parallel.rank() == 0 and pause >= self._saving_seconds

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint over the last one."""
        started = time.monotonic()
        # Not `asdict`, which would copy every tensor.
        state = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
        save_torch(self._run / _FILE, {"identity": self._identity, **state})
        self._saved_at = time.monotonic()
        self._saving_seconds = self._saved_at - started

    def _resumed(self) -> Checkpoint | None:
        file = self._run / _FILE
        if file.is_file():
            checkpoint = self._read(file)
            rewind(self._run, checkpoint.stage, checkpoint.step)
            log.info("resuming after %s step %d", checkpoint.stage, checkpoint.step)
            return checkpoint
        if (self._run / FILE_NAME).exists():
            raise HrproError(f"{self._run}: holds a model but no checkpoint to resume from; choose another `out`")
        (self._run / METRICS).unlink(missing_ok=True)
        log.info("no checkpoint in %s: starting from the beginning", self._run)
        return None

    def _read(self, file: Path) -> Checkpoint:
        state = load_torch(file, "a checkpoint of this run")
        if not isinstance(state, dict) or not isinstance(identity := state.pop("identity", None), dict):
            raise HrproError(f"{file}: not a checkpoint of a run; delete the folder and train again")
        for name, value in self._identity.items():
            if identity.get(name) != value:
                details = _differences(identity[name], value) if name == "settings" else ""
                raise HrproError(
                    f"{self._run}: was made with other {name}{details}; resume with the same, or use another `out`"
                )
        return Checkpoint(**{"parts": {}, **state})


def check_empty(run: Path) -> None:
    """Raise HrproError if the folder holds a run."""
    if any((run / name).exists() for name in (_FILE, METRICS, FILE_NAME)):
        raise HrproError(f"{run}: already holds a run; go on with `resume`, or choose another `out`")


def run_identity(data: TrainingSet, settings: Settings, seed: int, selection: list[str] | None) -> dict[str, Any]:
    """What a run is made of: a run of something else is not resumed."""
    return {
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "classes": list(data.classes),
        "videos": [video.video_id for video in data.videos],
        "features": [list(data.widths.items()), data.weights, data.extraction],
        "points": [_points_of(video) for video in data.videos],
        "selection": selection,
    }


def _points_of(video: TrainingVideo) -> list[list[float]]:
    points = [video.positions.tolist(), video.labels.tolist()]
    return [*points, video.background.tolist()] if len(video.background) else points


def _differences(before: dict[str, Any], now: Any) -> str:
    """The first few settings of two runs that differ."""
    differences = [
        f"{section}.{name}={before.get(section, {}).get(name)}, now {value}"
        for section, values in now.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if before.get(section, {}).get(name) != value
    ]
    return f" ({'; '.join(differences[:3])})" if differences else ""
