"""Point labels: read from CSV, checked, and written as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrpro_pipeline.data.files import is_safe_id, video_id_of
from hrpro_pipeline.data.formats.known import read_foreign
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.data.tables import Table, clock_seconds, has_decimal_commas, read_table
from hrpro_pipeline.errors import HrproError, ProblemsError

# Class of a point at which somebody saw that there is no action: kept in points files beside the actions.
BACKGROUND = "(background)"


@dataclass(frozen=True)
class Point:
    """One labeled point, in `seconds` or as `frame` index at the video's own rate; `line` is its place in the file."""

    video_id: str
    label: str
    seconds: float | None
    frame: float | None
    line: int


def read_points(path: Path) -> list[Point]:
    """Read a points CSV with columns `video_id`, `class` and `time` (s) or `point` (frame); others are ignored.

    Tables with semicolons or tabs, decimal commas and clock times are read as well, where nothing else can be meant.
    A line of class `(background)` is a moment without any action (see `action_points`).
    Files of labeling tools are read as well (`data/formats`): a segment gives the point in its middle, and the line of
    a point is its number.

    Raises:
        HrproError: not CSV, or a header without these columns.
        ProblemsError: every wrong line, by number.

    Examples:
        >>> read_points(Path("points.csv"))[0]
        Point(video_id='kitchen_01', label='pour', seconds=1.2, frame=None, line=2)

        All that is wrong is said at once:

        >>> _ = Path("wrong.csv").write_text("video_id,class,time\\nkitchen_01,pour,soon\\nkitchen_01,,3.5\\n")
        >>> read_points(Path("wrong.csv"))
        Traceback (most recent call last):
        ...
        hrpro_pipeline.errors.ProblemsError: wrong.csv: 2 problems
          - line 2: time is 'soon'; expected a number of at least 0, such as 3.5
          - line 3: class is empty
    """
    if (labels := read_foreign(path)) is not None:
        return [
            Point(label.video_id, label.label, label.middle_seconds, None, number)
            for number, label in enumerate(labels, start=1)
        ]
    table = read_table(path, ("video_id", "class", "time", "point"), "a points CSV with columns video_id,class,time")
    rows = _rows(path, table)
    problems = [f"line {row.line}: {problem}" for row in rows if (problem := _row_problem(row, len(table.columns)))]
    if not rows:
        problems.append("no points; expected a line for each action")
    if problems:
        raise ProblemsError(str(path), problems)
    return [_point(row) for row in rows]


def action_points(points: Iterable[Point]) -> list[Point]:
    """The points of actions, without those of class `(background)`."""
    return [point for point in points if point.label != BACKGROUND]


@dataclass(frozen=True)
class _Row:
    """A line of a points file as it is read, right or wrong.

    Attributes:
        column: `time` or `point`, whichever gives the place.
        text, value: the content of that column; the value is None where it is not a number or clock time.
        num_cells: cells of the line.
    """

    video_id: str
    label: str
    column: str
    text: str
    value: float | None
    num_cells: int
    line: int


def _rows(path: Path, table: Table) -> list[_Row]:
    """The lines of a points file. Raises HrproError for a header that is wrong."""
    if not table.columns:
        raise HrproError(f"{path}: empty; expected a header video_id,class,time and a line for each point")
    if problem := _header_problem(table.columns):
        raise HrproError(f"{path}, line 1: {problem}")
    contents = [dict(zip(table.columns, cells, strict=False)) for _, cells in table.rows]
    places = [
        ("time" if content.get("time") or "point" not in table.columns else "point", content) for content in contents
    ]
    texts = [content.get(column, "") for column, content in places]
    decimal_commas = has_decimal_commas(texts, table.separator)
    rows = []
    for (column, content), text, (line, cells) in zip(places, texts, table.rows, strict=True):
        value = finite_number(text.replace(",", ".") if decimal_commas else text)
        if value is None and column == "time":
            value = clock_seconds(text)
        label = class_name(content.get("class", ""))
        rows.append(_Row(content.get("video_id", ""), label, column, text, value, len(cells), line))
    return rows


def _header_problem(columns: Sequence[str]) -> str:
    """The problem of a header; empty for none."""
    header = ", ".join(columns)[:80]
    if missing := [name for name in ("video_id", "class") if name not in columns]:
        return f"no column {' and '.join(missing)}; expected a header video_id,class,time, found {header}"
    if not {"time", "point"} & set(columns):
        return f"no column 'time' (seconds) or 'point' (frame); found {header}"
    return ""


def _row_problem(row: _Row, num_columns: int) -> str:
    """The problem of a line; empty for none."""
    if not is_safe_id(row.video_id):
        return f"video_id is {row.video_id!r}; expected a plain name"
    if not row.label:
        return "class is empty"
    if row.num_cells > num_columns:
        return (
            f"{row.num_cells} cells, but the header has {num_columns}; write numbers with a decimal point, "
            "and quote names that have commas"
        )
    if row.value is None or row.value < 0:
        clock = ", or a clock time such as 1:02:03.4" if row.column == "time" and ":" in row.text else ""
        return f"{row.column} is {row.text!r}; expected a number of at least 0, such as 3.5{clock}"
    if row.column == "point" and row.value % 1:
        return f"point is {row.value:g}, but frames are counted; give seconds in a column 'time'"
    return ""


def _point(row: _Row) -> Point:
    """The point of a line without problems."""
    seconds, frame = (row.value, None) if row.column == "time" else (None, row.value)
    return Point(video_id_of(row.video_id), row.label, seconds, frame, row.line)


def points_csv(points: Iterable[Point]) -> str:
    """Points in seconds as the CSV that `read_points` reads."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["video_id", "class", "time"])
    rows.writerows([point.video_id, point.label, f"{point.seconds:.3f}"] for point in points)
    return out.getvalue()
