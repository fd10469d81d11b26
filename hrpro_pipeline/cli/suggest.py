"""`hrpro suggest`."""

from collections import Counter
from pathlib import Path

import click

from hrpro_pipeline.cli import options


@click.command()
@click.argument("model", type=options.Existing)
@click.argument("features", type=options.ExistingFolder)
@options.points
@click.option("--out", required=True, type=options.OutputFile, help="CSV to write, for hrpro label --suggest.")
@click.option("--top", type=click.IntRange(min=1), help="Write the best N moments alone.")
@options.device
def suggest(model: Path, features: Path, points: Path, out: Path, top: int | None, device: str) -> None:
    """Rank the moments that are worth most to label or to look at next.

    MODEL is a RUN folder or a model.pt; FEATURES are those of the labeled videos, and of others to choose from.

    \b
    Example:
      hrpro suggest runs/first features/ --points points.csv --out suggestions.csv
    """
    from hrpro_pipeline.commands.suggest import suggest_labels

    suggestions = suggest_labels(model, features, points, out, top=top, device=device)
    kinds = Counter(item.kind for item in suggestions)
    videos = len({item.video_id for item in suggestions if item.kind == "new"})
    click.echo(
        f"{out}: {kinds['misplaced']} points that may be misplaced, {kinds['forgotten']} actions that may be "
        f"forgotten, {kinds['new']} moments in {videos} videos without points"
    )
