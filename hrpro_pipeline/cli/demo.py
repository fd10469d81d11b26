"""`hrpro demo`."""

from pathlib import Path

import click

from hrpro_pipeline.base import progress
from hrpro_pipeline.cli import options


@click.command()
@click.option("--out", default=Path("demo-out"), show_default=True, type=options.Folder, help="Folder for everything.")
@options.seed
def demo(out: Path, seed: int) -> None:
    """Run the whole chain on made videos: render, extract, train, detect, evaluate, report. Takes minutes.

    \b
    Example:
      hrpro demo --out demo-out
    """
    from hrpro_pipeline.commands.demo import run_demo

    run_demo(out, seed, progress.say)
