"""`hrpro summary`."""

from collections.abc import Sequence
from pathlib import Path

import click

from hrpro_pipeline.cli import options
from hrpro_pipeline.data.formats.names import ClassFrom
from hrpro_pipeline.errors import UsageError


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=options.Existing)
@click.option("--out", type=options.Folder, help="Folder for classes.csv, transitions.csv and summary.html.")
@click.option("--against", type=options.Existing, help="Compare FILE with this file: agreement by class.")
@click.option(
    *("--tolerance", "tolerance_seconds"),
    default=1.0,
    show_default=True,
    help="With --against: seconds that two labels may lie apart to match.",
)
@click.option(
    *("--bin", "bin_seconds"), default=1.0, show_default=True, help="With --against: seconds of a bin of Cohen's kappa."
)
@click.option("--fps", type=float, help="Frames a second, for formats that count frames.")
@click.option("--class-from", type=options.choices(ClassFrom), help="What is the class in ELAN's files.")
def summary(
    files: tuple[Path, ...],
    out: Path | None,
    against: Path | None,
    tolerance_seconds: float,
    bin_seconds: float,
    fps: float | None,
    class_from: ClassFrom | None,
) -> None:
    """Counts, durations and rates of labels by class, or how far two files of labels agree.

    \b
    Example:
      hrpro summary points.csv
      hrpro summary annotations.json --out summary/
      hrpro summary anna.boris --against ben.boris --tolerance 0.5
    """
    from hrpro_pipeline.commands import summary as command

    if against is None:
        result = command.summarize_labels(files, out=out, fps=fps, class_from=class_from)
        rows = [row[1:] for row in command.class_rows(result) if not row[0]]
        click.echo(_table(command.CLASS_COLUMNS[1:], rows))
        stated = f"{result.num_stated} of them with a stated length, the others up to their last label"
        click.echo(f"{len(result.video_seconds)} videos, {stated}")
        return
    if len(files) > 1 or out is not None:
        raise UsageError("`against` compares one FILE, and writes no folder; give one file, and no `out`")
    compared = command.compare_labels(
        files[0],
        against,
        tolerance_seconds=tolerance_seconds,
        bin_seconds=bin_seconds,
        fps=fps,
        class_from=class_from,
    )
    click.echo(_table(command.AGREEMENT_COLUMNS, command.agreement_rows(compared)))
    left_out = len(compared.only_first) + len(compared.only_second)
    click.echo(f"{len(compared.videos)} videos in both" + (f", {left_out} in one left out" if left_out else ""))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, the numbers to the right."""
    cells = [columns, *rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    )
