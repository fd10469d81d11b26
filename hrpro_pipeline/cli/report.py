"""`hrpro report`."""

from pathlib import Path

import click

from hrpro_pipeline.cli import options
from hrpro_pipeline.configs.presets import DEFAULT_PRESET


@click.command()
@click.argument("detections", type=options.Existing)
@click.option("--out", required=True, type=options.OutputFile, help="The HTML file to write.")
@click.option("--annotations", type=options.ExistingFile, help="Ground truth to show and to evaluate against.")
@click.option("--points", type=options.ExistingFile, help="Labeled points to show.")
@click.option(
    "--videos", type=options.ExistingFolder, help="Folder of the videos: the page shows frames and plays them there."
)
@click.option("--doubts", type=options.Existing, help="RUN, or its doubts.csv: list the labels worth a second look.")
@click.option("--subset", help="Evaluate on this subset.  [default: the annotated videos that have detections]")
@click.option("--preset", default=DEFAULT_PRESET, show_default=True, help="Gives tIoU thresholds and excluded videos.")
@click.option("--min-score", type=float, default=0.0, show_default=True, help="Show detections from this score on.")
def report(
    detections: Path,
    out: Path,
    annotations: Path | None,
    points: Path | None,
    videos: Path | None,
    doubts: Path | None,
    subset: str | None,
    preset: str,
    min_score: float,
) -> None:
    """Show detections on one self-contained HTML page: timelines, videos, scores and kinds of errors.

    The page needs no network. With --videos it holds small frames of each video, and plays the files where they lie:
    keep page and videos together.

    \b
    Example:
      hrpro report detections/ --videos new_videos/ --annotations gt.json --out report.html
    """
    from hrpro_pipeline.commands.report import report_detections

    report_detections(
        detections,
        out,
        annotations=annotations,
        points=points,
        videos=videos,
        doubts=doubts,
        subset=subset,
        preset=preset,
        min_score=min_score,
    )
    click.echo(f"{out}: open it in a browser")
