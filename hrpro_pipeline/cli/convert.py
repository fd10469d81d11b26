"""`hrpro convert`."""

from pathlib import Path

import click

from hrpro_pipeline.cli import options
from hrpro_pipeline.data.formats.names import ClassFrom, FormatName, PointAt


@click.command()
@click.argument("source", metavar="IN", type=options.Existing)
@click.argument("out", type=options.OutputPath)
@click.option("--to", type=options.choices(FormatName), help="Format to write.  [default: by the suffix of OUT]")
@click.option("--fps", type=float, help="Frames a second, for formats that count frames.")
@click.option(
    "--point-at",
    type=options.choices(PointAt),
    default="middle",
    show_default=True,
    help="Where in a segment its point is, for formats that hold points alone.",
)
@click.option("--class-from", type=options.choices(ClassFrom), help="What is the class in ELAN's files.")
def convert(
    source: Path, out: Path, to: FormatName | None, fps: float | None, point_at: PointAt, class_from: ClassFrom | None
) -> None:
    """Convert labels between formats: ours, and those of labeling tools.

    \b
    Example:
      hrpro convert project.boris points.csv
      hrpro convert detections/ found.boris
      hrpro convert markers.txt points.csv --fps 29.97
    """
    from hrpro_pipeline.commands.convert import convert_labels

    result = convert_labels(source, out, to=to, fps=fps, point_at=point_at, class_from=class_from)
    places = f"{out}" if len(result.files) == 1 else f"{out}, {len(result.files)} files"
    click.echo(f"{places}: {result.num_labels} labels ({result.title})")
