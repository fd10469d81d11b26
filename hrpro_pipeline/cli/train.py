"""`hrpro train`."""

from pathlib import Path

import click

from hrpro_pipeline.base import launch
from hrpro_pipeline.cli import options
from hrpro_pipeline.cli.options import PresetOptions
from hrpro_pipeline.data.inputs import Inputs


@click.command()
@options.as_record(
    Inputs,
    "inputs",
    click.argument("features", type=options.Folder),
    options.points,
    click.option(
        "--annotations", type=options.ExistingFile, help="ActivityNet-style JSON: classes, frame rates, segments."
    ),
    options.training_videos,
    click.option("--ambiguous", type=options.ExistingFile, help="Ambiguous segments for an evaluation (THUMOS14)."),
    click.option(
        "--warm-start",
        type=options.Existing,
        metavar="RUN",
        help="Go on from this model with other points, in a quarter of the steps.",
    ),
)
@click.option("--out", required=True, type=options.Folder, help="Folder for the run.")
@click.option("--evaluate-on", metavar="SUBSET", help="Evaluate on this subset of the annotations while training.")
@click.option(
    "--validate-on",
    type=options.ShareOrFile(),
    help="Hold out these training videos (a file of ids, or a share such as 0.2) and keep the checkpoint that finds "
    "their points best.  [default: keep the last checkpoint]",
)
@click.option(
    "--best-on-test",
    is_flag=True,
    help="Keep the checkpoint that scores best on --evaluate-on. Its score is then no honest one, and it says so.",
)
@options.preset
@click.option("--seed", type=click.IntRange(min=0), help="[default: 0]")
@click.option(
    "--seeds", type=options.Seeds(), help="Several seeds, as 0,1,2: runs in OUT/seed_N, mean and deviation of scores."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@options.device
def train(
    inputs: Inputs,
    out: Path,
    evaluate_on: str | None,
    validate_on: Path | float | None,
    best_on_test: bool,
    preset: PresetOptions,
    seed: int | None,
    seeds: tuple[int, ...] | None,
    resume: bool,
    device: str,
) -> None:
    """Train a detector on cached features and one labeled point per action.

    Several GPUs: torchrun --nproc-per-node 4 -m hrpro_pipeline train ...

    \b
    Example:
      hrpro train features/ --points points.csv --annotations gt.json --evaluate-on Test --out runs/first
    """
    from hrpro_pipeline.commands.seeds import train_seeds
    from hrpro_pipeline.commands.train import Training

    if seed is not None and seeds is not None:
        raise click.UsageError("give --seed or --seeds, not both")
    training = Training(
        inputs.features,
        inputs.points,
        out,
        annotations=inputs.annotations,
        videos=inputs.videos,
        ambiguous=inputs.ambiguous,
        warm_start=inputs.warm_start,
        evaluate_on=evaluate_on,
        validate_on=validate_on,
        best_on_test=best_on_test,
        preset=preset.preset,
        overrides=preset.overrides,
        seed=seed or 0,
        resume=resume,
        device=device,
    )
    if seeds is not None:
        scores = train_seeds(training, seeds)
        for name, values in scores.scores.items():
            listed = ", ".join(f"{100 * value:.1f}" for value in values)
            click.echo(f"{name}: {100 * scores.mean(name):.1f} +- {100 * scores.std(name):.1f} ({listed})")
        click.echo(f"{out}: seeds {', '.join(map(str, seeds))}; {_checkpoint_text(scores.checkpoint)}")
        return
    model = training.run()
    if launch.rank() > 0:  # of the processes that torchrun started, the first one speaks
        return
    later = [name for name, network in (("2", model.instance), ("3", model.pyramid)) if network is not None]
    stages = {"": "stage 1 alone", "2": "both stages", "3": "stages 1 and 3", "23": "stages 1, 2 and 3"}["".join(later)]
    checkpoint = _checkpoint_text(model.notes.checkpoint)
    click.echo(f"{out / 'model.pt'}: {stages}, {len(model.classes)} classes, {checkpoint}")


def _checkpoint_text(checkpoint: str) -> str:
    return "the last checkpoint" if checkpoint == "last" else f"the checkpoint that was {checkpoint}"
