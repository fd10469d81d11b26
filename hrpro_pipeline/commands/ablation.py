"""What each part of the method is worth: the runs of the paper's Table 3, over seeds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrpro_pipeline.api import SeedScores, train_detector
from hrpro_pipeline.base import launch
from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.errors import HrproError, UsageError
from hrpro_pipeline.models.checkpoint import TrainedModel, load_model

# Says what a run was made with, once it is done.
_DONE = "done.json"
_NO_CONTRAST = "snippet.contrastive_weight=0"
_NO_BLOCK = "snippet.attention_layers=0"
_NO_SCORE = "instance.score_weight=0"
_NO_REGRESSION = "instance.regression_weight=0"
_ALL_CONTAINING = "instance.reliable_proposals=false"
_NO_NEGATIVES = "instance.negative_ratio=0"
_STAGE_1_ALONE = "instance.epochs=0"


@dataclass(frozen=True)
class Row:
    """A line of the table: the settings that take parts away, by stage, and the paper's average mAP on THUMOS14."""

    name: str
    stage1: tuple[str, ...]
    stage2: tuple[str, ...]
    paper: float


# In the order of the paper, whose last line is its tenth again.
ROWS = (
    Row("base loss", (_NO_CONTRAST, _NO_BLOCK), (_STAGE_1_ALONE,), 49.4),
    Row("+ contrastive loss", (_NO_BLOCK,), (_STAGE_1_ALONE,), 51.5),
    Row("+ attention block = stage 1", (), (_STAGE_1_ALONE,), 54.7),
    Row("stage 1 + regression", (), (_NO_SCORE, _ALL_CONTAINING, _NO_NEGATIVES), 56.1),
    Row("stage 1 + score", (), (_NO_REGRESSION, _ALL_CONTAINING, _NO_NEGATIVES), 57.1),
    Row("stage 1 + regression + score", (), (_ALL_CONTAINING, _NO_NEGATIVES), 57.8),
    Row("stage 1 + regression, RP", (), (_NO_SCORE, _NO_NEGATIVES), 56.8),
    Row("stage 1 + score, RP", (), (_NO_REGRESSION, _NO_NEGATIVES), 58.1),
    Row("stage 1 + regression + score, RP", (), (_NO_NEGATIVES,), 59.1),
    Row("all = + NP", (), (), 60.3),
    Row("all but contrastive loss and attention block", (_NO_CONTRAST, _NO_BLOCK), (), 53.9),
    Row("all but attention block", (_NO_BLOCK,), (), 56.2),
)


def run_ablation(
    features: Path,
    points: Path,
    annotations: Path,
    out: Path,
    *,
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    **options: Any,
) -> Iterator[str]:
    """Train and evaluate every row with every seed; write `ablation.json` and `ablation.md` in `out`.

    Rows that differ in stage 2 alone share their stage 1. A run that is there already is not repeated.

    Args:
        overrides: settings of all rows; options: as for `train_detector`.

    Yields:
        Lines of the table, each when its runs are done.
    """
    if launch.num_processes() > 1:
        raise UsageError("ablate does not go with torchrun; run it on one GPU")
    table = ["| | average mAP | deviation | seeds | paper |", "|---|---|---|---|---|"]
    yield from table
    content = []
    with progress("ablation", len(ROWS) * len(seeds), "runs") as task:
        for number, row in enumerate(ROWS, start=1):
            models = []
            for seed in seeds:
                stage1 = None
                if row.stage2 != (_STAGE_1_ALONE,):
                    shared = next(at for at, other in enumerate(ROWS, start=1) if other.stage1 == row.stage1)
                    stage1 = load_model(out / f"seed_{seed}" / f"{shared:02d}")
                run = {
                    "points": points,
                    "annotations": annotations,
                    "overrides": (*overrides, *row.stage1, *row.stage2),
                    "seed": seed,
                    **options,
                }
                folder = out / f"seed_{seed}" / f"{number:02d}"
                step = task.skip if (folder / _DONE).is_file() else task.advance
                models.append(_trained(folder, features, run, stage1))
                step()
            scores = SeedScores.of(seeds, models)
            values = ", ".join(f"{100 * value:.1f}" for value in scores.scores["average"])
            mean, deviation = 100 * scores.mean("average"), 100 * scores.deviation("average")
            table.append(f"| {row.name} | {mean:.1f} | {deviation:.1f} | {values} | {row.paper} |")
            yield table[-1]
            content.append({"name": row.name, "settings": [*row.stage1, *row.stage2], **scores.as_json()})
    write_text(out / "ablation.json", json.dumps(content, indent=1) + "\n")
    write_text(out / "ablation.md", "\n".join(table) + "\n")


def _trained(folder: Path, features: Path, run: dict[str, Any], stage1: TrainedModel | None) -> TrainedModel:
    """The model of one run, trained with the arguments `run` unless it is there.

    Raises:
        HrproError: what is there was made with other arguments.
    """
    done = folder / _DONE
    made_with = json.dumps({"features": str(features), **run}, default=str, sort_keys=True)
    if done.is_file():
        if done.read_text(encoding="utf-8") != made_with:
            raise HrproError(f"{folder}: was made with other arguments; repeat them, or choose another --out")
        return load_model(folder)
    model = train_detector(features, out=folder, resume=folder.exists(), stage1=stage1, **run)
    write_text(done, made_with)
    return model
