"""`hrpro points`."""

from pathlib import Path

import click

from hrpro_pipeline.cli import options
from hrpro_pipeline.data.distributions import Distribution


@click.command()
@click.option(
    "--annotations",
    required=True,
    type=options.ExistingFile,
    help="Segments: ActivityNet-style JSON, or a labeling tool's file.",
)
@click.option("--distribution", required=True, type=options.choices(Distribution))
@click.option("--subset", help="Of this subset alone.  [default: all annotated videos]")
@options.seed
@click.option("--out", required=True, type=options.OutputFile, help="The CSV to write.")
def points(annotations: Path, distribution: Distribution, subset: str | None, seed: int, out: Path) -> None:
    """Draw one point label in each annotated segment.

    \b
    Example:
      hrpro points --annotations gt.json --subset Validation --distribution uniform --out points.csv
    """
    from hrpro_pipeline.commands.points import write_points

    click.echo(f"{out}: {write_points(annotations, out, distribution, subset=subset, seed=seed)} points")
