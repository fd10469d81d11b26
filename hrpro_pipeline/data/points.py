"""Point labels: read from CSV, checked, and written as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrpro_pipeline.data.files import is_safe_id, read_text
from hrpro_pipeline.data.formats.known import read_foreign
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.errors import HrproError, ProblemsError


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
    columns, rows = _read_rows(path)
    problems = [f"line {row.line}: {problem}" for row in rows if (problem := _row_problem(row, len(columns)))]
    if not rows:
        problems.append("no points; expected a line for each action")
    if problems:
        raise ProblemsError(str(path), problems)
    return [_point(row) for row in rows]


@dataclass(frozen=True)
class _Row:
    """A line of a points file as it is read, right or wrong.

    Attributes:
        column: `time` or `point`, whichever gives the place.
        text, value: the content of that column; the value is None where it is not a number.
        num_cells: cells of the line.
    """

    video_id: str
    label: str
    column: str
    text: str
    value: float | None
    num_cells: int
    line: int

    @classmethod
    def of(cls, columns: Sequence[str], cells: Sequence[str], line: int) -> "_Row":
        content = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
        column = "time" if content.get("time") or "point" not in columns else "point"
        text = content.get(column, "")
        value = finite_number(text)
        return cls(content.get("video_id", ""), content.get("class", ""), column, text, value, len(cells), line)


def _read_rows(path: Path) -> tuple[list[str], list[_Row]]:
    """The columns of a points file and its lines that are not blank. Raises HrproError for a header that is wrong."""
    reader = csv.reader(io.StringIO(read_text(path, "a points CSV with columns video_id,class,time")))
    try:
        columns = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise HrproError(f"{path}, line {reader.line_num}: not CSV that can be read ({error})") from None
    if not columns:
        raise HrproError(f"{path}: empty; expected a header video_id,class,time and a line for each point")
    if problem := _header_problem(columns):
        raise HrproError(f"{path}, line 1: {problem}")
    return columns, [_Row.of(columns, cells, line) for line, cells in lines if any(cell.strip() for cell in cells)]


def _header_problem(columns: Sequence[str]) -> str:
    """The problem of a header; empty for none."""
    header = ", ".join(columns)[:80]
    if len(columns) == 1 and (mark := next((mark for mark in (";", "\t") if mark in columns[0]), None)):
        return f"separated by {mark!r}; save it with commas between the columns and points in the numbers"
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
        return f"{row.column} is {row.text!r}; expected a number of at least 0, such as 3.5"
    if row.column == "point" and row.value % 1:
        return f"point is {row.value:g}, but frames are counted; give seconds in a column 'time'"
    return ""


def _point(row: _Row) -> Point:
    """The point of a line without problems."""
    seconds, frame = (row.value, None) if row.column == "time" else (None, row.value)
    return Point(row.video_id, row.label, seconds, frame, row.line)


def points_csv(points: Iterable[Point]) -> str:
    """Points in seconds as the CSV that `read_points` reads."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["video_id", "class", "time"])
    rows.writerows([point.video_id, point.label, f"{point.seconds:.3f}"] for point in points)
    return out.getvalue()
