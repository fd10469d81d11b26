"""`hrpro train --seeds`: one training for each of several seeds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline.base import launch
from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.commands.train import Training
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.errors import UsageError
from hrpro_pipeline.models.checkpoint import TrainedModel


@dataclass(frozen=True)
class SeedScores:
    """Scores of one training with several seeds: by name (`average`, `mAP@0.5`, `point_mAP`), one for each seed."""

    seeds: tuple[int, ...]
    scores: dict[str, list[float]]
    checkpoint: str

    @classmethod
    def of(cls, seeds: Sequence[int], models: Sequence[TrainedModel]) -> "SeedScores":
        """From the evaluations of the checkpoints that became the models."""
        evaluations = [model.notes.evaluation for model in models]
        names = [name for name in evaluations[0] if name in ("average", "point_mAP") or name.startswith("mAP@")]
        scores = {name: [float(values[name]) for values in evaluations] for name in names}
        return cls(tuple(seeds), scores, models[0].notes.checkpoint)

    def mean(self, name: str) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.scores[name]))

    def std(self, name: str) -> float:
        """Standard deviation over the seeds, of a sample; 0 for one seed."""
        return float(np.std(self.scores[name], ddof=1)) if len(self.seeds) > 1 else 0.0

    def as_json(self) -> dict[str, Any]:
        """The content of `seeds.json`."""
        summary = {name: {"mean": self.mean(name), "deviation": self.std(name)} for name in self.scores}
        return {"seeds": list(self.seeds), "checkpoint": self.checkpoint, "scores": self.scores, "summary": summary}


def train_seeds(training: Training, seeds: Sequence[int]) -> SeedScores:
    """Train with each of several seeds, into `seed_N` in the training's `out`; write `seeds.json` there.

    Args:
        training: what `train_detector` takes, with something to score by (`evaluate_on` or `validate_on`).
        seeds: different whole numbers.

    Raises:
        UsageError: nothing to score by.
    """
    if training.evaluate_on is None and training.validate_on is None:
        raise UsageError("`seeds` reports a mean score: it needs `evaluate_on` or `validate_on`")
    if launch.num_processes() > 1:
        raise UsageError("`seeds` does not go with torchrun; start it once for each `seed`")
    out = Path(training.out)
    models = []
    with progress("seeds", len(seeds), "runs") as task:
        for seed in seeds:
            models.append(replace(training, out=out / f"seed_{seed}", seed=seed).run())
            task.advance()
    scores = SeedScores.of(seeds, models)
    write_text(out / "seeds.json", json.dumps(scores.as_json(), indent=1) + "\n")
    return scores
