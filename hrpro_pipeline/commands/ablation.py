"""What each part of the method is worth: the runs of the paper's Table 3, over seeds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from hrpro_pipeline.base import launch
from hrpro_pipeline.base.progress import Task, progress
from hrpro_pipeline.commands.seeds import SeedScores
from hrpro_pipeline.commands.train import Training
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


def run_ablation(training: Training, seeds: Sequence[int]) -> Iterator[str]:
    """Train and evaluate every row with every seed; write `ablation.json` and `ablation.md` in the training's `out`.

    Rows that differ in stage 2 alone share their stage 1. A run that is there already is not repeated.

    Args:
        training: what `train_detector` takes, with `annotations` and `evaluate_on`; its settings hold for all rows.
        seeds: different whole numbers.

    Yields:
        Lines of the table, each when its runs are done.
    """
    if launch.num_processes() > 1:
        raise UsageError("ablate does not go with torchrun; run it on one GPU")
    out = Path(training.out)
    table = ["| | average mAP | deviation | seeds | paper |", "|---|---|---|---|---|"]
    yield from table
    content = []
    with progress("ablation", len(ROWS) * len(seeds), "runs") as task:
        for number, row in enumerate(ROWS, start=1):
            scores = SeedScores.of(seeds, [_train_row(training, number, row, seed, task) for seed in seeds])
            values = ", ".join(f"{100 * value:.1f}" for value in scores.scores["average"])
            mean, std = 100 * scores.mean("average"), 100 * scores.std("average")
            table.append(f"| {row.name} | {mean:.1f} | {std:.1f} | {values} | {row.paper} |")
            yield table[-1]
            content.append({"name": row.name, "settings": [*row.stage1, *row.stage2], **scores.as_json()})
    write_text(out / "ablation.json", json.dumps(content, indent=1) + "\n")
    write_text(out / "ablation.md", "\n".join(table) + "\n")


def _train_row(training: Training, number: int, row: Row, seed: int, task: Task) -> TrainedModel:
    """The model of one row and seed, trained unless it is there.

    Raises:
        HrproError: it is there, but was made with other arguments.
    """
    runs = Path(training.out) / f"seed_{seed}"
    folder = runs / f"{number:02d}"
    stage1 = None
    if row.stage2 != (_STAGE_1_ALONE,):
        shared = next(place for place, other in enumerate(ROWS, start=1) if other.stage1 == row.stage1)
        stage1 = load_model(runs / f"{shared:02d}")
    overrides = (*training.overrides, *row.stage1, *row.stage2)
    training = replace(training, out=folder, overrides=overrides, seed=seed, resume=folder.exists(), stage1=stage1)
    varied = ("out", "resume", "stage1")
    arguments = {field.name: getattr(training, field.name) for field in fields(training) if field.name not in varied}
    made_with = json.dumps(arguments, default=str, sort_keys=True)
    done = folder / _DONE
    if done.is_file():
        if done.read_text(encoding="utf-8") != made_with:
            raise HrproError(f"{folder}: was made with other arguments; repeat them, or choose another `out`")
        task.skip()
        return load_model(folder)
    model = training.run()
    write_text(done, made_with)
    task.advance()
    return model
