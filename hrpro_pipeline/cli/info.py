"""`hrpro info`."""

from pathlib import Path

import click

from hrpro_pipeline.cli import options


@click.command()
@click.argument("path", type=options.Existing)
@click.option("--snippets", is_flag=True, help="Of a feature file: which seconds each snippet covers, as CSV.")
def info(path: Path, snippets: bool) -> None:
    """Say what a FEATURES folder, a feature file, a RUN or a model.pt holds.

    \b
    Example:
      hrpro info features/
      hrpro info features/kitchen_01.h5 --snippets
    """
    from hrpro_pipeline.commands.info import describe

    for line in describe(path, snippets):
        click.echo(line)
