"""The files that labeling reads and writes: points with notes, and the videos that are done."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hrpro_pipeline.data.files import is_safe_id, read_text, video_id_of
from hrpro_pipeline.data.formats.known import read_foreign
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.data.tables import read_table
from hrpro_pipeline.errors import HrproError, ProblemsError

# A point as the page and the journal have it: video_id, class, time (s), note, and cells of other columns by name.
PointValue = dict[str, Any]

_OURS = ("video_id", "class", "time", "note")
_EXPECTED = "a points CSV with columns video_id,class,time"


def read_point_values(path: Path) -> list[PointValue]:
    """The points of a CSV, with their notes and whatever other columns there are; a file without points is fine.

    Raises:
        HrproError or ProblemsError: as `read_points`; points that are frame numbers, or another program's file.
    """
    if path.exists() and path.stat().st_size == 0:
        return []
    table = read_table(path, _OURS, _EXPECTED)
    if {"video_id", "class", "time"} <= set(table.columns) and not table.rows:
        return []
    if read_foreign(path) is not None:
        raise HrproError(f"{path}: another program's labels; make a points CSV of them first: hrpro convert {path} ...")
    points = read_points(path)
    cells = {line: dict(zip(table.columns, row, strict=False)) for line, row in table.rows}
    frames = [f"line {point.line}: frame {point.frame:g}" for point in points if point.seconds is None]
    if frames:
        raise ProblemsError(f"{path}: expected seconds (a column 'time'); `hrpro convert` makes them", frames)
    values = []
    for point in points:
        row = cells[point.line]
        extra = {name: text for name, text in row.items() if name and name not in (*_OURS, "point") and text}
        assert point.seconds is not None
        values.append(point_value(point.video_id, point.label, point.seconds, row.get("note", ""), extra))
    return values


def point_value(
    video_id: str, label: str, seconds: float, note: str = "", extra: dict[str, str] | None = None
) -> PointValue:
    """A point; the time is rounded as the file has it."""
    value: PointValue = {"video_id": video_id, "class": label, "time": round(float(seconds), 6), "note": note}
    return value | {"extra": extra} if extra else value


def render_points(values: Iterable[PointValue]) -> str:
    """Points as the CSV that `read_points` reads: by video in order of first appearance, and by time."""
    values = list(values)
    places: dict[str, int] = {}
    for value in values:
        places.setdefault(value["video_id"], len(places))
    values.sort(key=lambda value: (places[value["video_id"]], value["time"]))
    others = list(dict.fromkeys(name for value in values for name in value.get("extra", ())))
    notes = ["note"] if any(value["note"] for value in values) else []
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["video_id", "class", "time", *notes, *others])
    for value in values:
        extra = value.get("extra", {})
        time = f"{value['time']:.6f}".rstrip("0")
        time += "0" * max(0, 3 - len(time.partition(".")[2]))
        note = [value["note"]] if notes else []
        rows.writerow([value["video_id"], value["class"], time, *note, *(extra.get(name, "") for name in others)])
    return out.getvalue()


def done_path(points: Path) -> Path:
    """Where the list of done videos is: beside the points."""
    return points.with_name(f"{points.name}.done")


def read_done(path: Path) -> list[str]:
    """Ids of the videos that are done, one a line; none without the file."""
    if not path.exists():
        return []
    lines = [line.strip() for line in read_text(path, "ids of videos, one a line").splitlines()]
    if wrong := [f"line {number}: {line!r}" for number, line in enumerate(lines, start=1) if line and not _is_id(line)]:
        raise ProblemsError(f"{path}: expected ids of videos, one a line", wrong)
    return [video_id_of(line) for line in lines if line]


def render_done(video_ids: Iterable[str]) -> str:
    """Ids as the file that `read_done` reads, and `hrpro train` by `videos`."""
    return "".join(f"{video_id}\n" for video_id in sorted(video_ids))


def _is_id(text: str) -> bool:
    return is_safe_id(text)
