"""`hrpro figures`."""

import logging
from pathlib import Path

import click

from hrpro_pipeline.cli import options

log = logging.getLogger(__name__)


@click.command()
@click.argument("run", type=options.Existing)
@click.option("--out", required=True, type=options.Folder, help="Folder for the figures, each as PNG and SVG.")
@click.option(
    "--features", type=options.Folder, help="FEATURES folder.  [default: the one that the run was trained on]"
)
@click.option("--annotations", type=options.ExistingFile, help="Ground truth.  [default: what the run was given]")
@click.option("--points", type=options.ExistingFile, help="Labeled points.  [default: what the run was given]")
@click.option(
    "--videos", type=options.ExistingFile, help="Videos to show, one id a line.  [default: 3 with the most actions]"
)
@click.option(
    "--against", type=options.Existing, help="Another RUN to compare with.  [default: stage 1 against both stages]"
)
@options.device
def figures(
    run: Path,
    out: Path,
    features: Path | None,
    annotations: Path | None,
    points: Path | None,
    videos: Path | None,
    against: Path | None,
    device: str,
) -> None:
    """Draw the paper's figures from a run: timelines (4), scores (5), snippets by class (B), reliability (C).

    \b
    Example:
      hrpro figures runs/first --out figures/
    """
    from hrpro_pipeline.commands.figures import write_figures

    figure_set = write_figures(
        run,
        out,
        features=features,
        annotations=annotations,
        points=points,
        videos=videos,
        against=against,
        device=device,
    )
    for line in figure_set.left_out:
        log.warning("left out: %s", line)
    click.echo(f"{len(figure_set.files)} files: {out}")
