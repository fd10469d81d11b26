"""`hrpro ablate`."""

from pathlib import Path

import click

from hrpro_pipeline.base import progress
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
        "--annotations",
        required=True,
        type=options.ExistingFile,
        help="Segments: ActivityNet-style JSON, or a labeling tool's file.",
    ),
    options.training_videos,
    click.option("--ambiguous", type=options.ExistingFile, help="Ambiguous segments for the evaluation (THUMOS14)."),
)
@click.option("--evaluate-on", default="Test", show_default=True, metavar="SUBSET", help="Subset to evaluate on.")
@click.option("--out", required=True, type=options.Folder, help="Folder for the runs and the table.")
@click.option("--seeds", type=options.Seeds(), default="0,1,2", show_default=True)
@options.preset_with("thumos14")
@options.device
def ablate(
    inputs: Inputs, evaluate_on: str, out: Path, seeds: tuple[int, ...], preset: PresetOptions, device: str
) -> None:
    """Train without parts of the method, over seeds, and print what each is worth (the paper's Table 3).

    Run again, it does what is missing. The last checkpoint of each run counts.

    \b
    Example:
      hrpro ablate features/ --points points.csv --annotations gt.json --evaluate-on Test --out ablation/
    """
    from hrpro_pipeline.commands.ablation import run_ablation
    from hrpro_pipeline.commands.train import Training

    training = Training(
        inputs.features,
        inputs.points,
        out,
        annotations=inputs.annotations,
        videos=inputs.videos,
        ambiguous=inputs.ambiguous,
        evaluate_on=evaluate_on,
        preset=preset.preset,
        overrides=preset.overrides,
        device=device,
    )
    for line in run_ablation(training, seeds):
        progress.say(line)
