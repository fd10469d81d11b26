"""Markers of video editors: Premiere's marker lists and Resolve's EDL files. Both count frames in timecodes."""

import csv
import io
import re
from collections.abc import Sequence

from hrpro_pipeline.data.formats.label import Found, Hints, Label
from hrpro_pipeline.data.formats.source import Source
from hrpro_pipeline.data.formats.timecode import seconds_of, timecode
from hrpro_pipeline.errors import HrproError

_COLUMNS = ("Marker Name", "Description", "In", "Out", "Duration", "Marker Type")
_EVENT = re.compile(r"^\d+[ \t]+\S+[ \t]+V\d*[ \t]+C[ \t]+(\S+)[ \t]+(\S+)[ \t]+(\S+)[ \t]+(\S+)[ \t]*$", re.MULTILINE)
_MARKER = re.compile(r"\|M:(?P<name>[^|]*)\|D:(?P<frames>\d{1,9})\s*$")
_TIMELINE_START = 3600.0  # s: Resolve's timelines begin at 01:00:00:00


def matches_premiere(source: Source) -> bool:
    """Whether a file is a list of markers of Premiere."""
    return source.suffix in (".csv", ".txt", ".tsv") and all(name in source.start for name in _COLUMNS[::2])


def read_premiere(source: Source, hints: Hints) -> list[Label]:
    """The markers of the sequence of the file's name; the class is the marker's name. Without a duration: a point.

    Raises:
        HrproError: `hints` do not say the frame rate.
    """
    found = Found(source.path)
    fps = hints.needed_fps(source.path)
    (table,) = source.tables
    columns = next((row for row in table if set(_COLUMNS[::2]) <= set(row)), None)
    if columns is None:
        raise HrproError(f"{source.path}: no header {','.join(_COLUMNS)}; expected a list of markers of Premiere")
    for number, row in enumerate(table, start=1):
        cells = dict(zip(columns, row, strict=False))
        if row is columns or not any(row):
            continue
        name, text = cells.get("Marker Name", ""), cells.get("Description", "")
        try:
            start, end = (seconds_of(cells.get(column, ""), fps) for column in ("In", "Out"))
        except ValueError as error:
            found.problems.append(f"row {number}: {error}")
            continue
        found.add(f"row {number}", source.video_id, name or text, start, end, comment=text if name else "")
    return found.done()


def render_premiere(labels: Sequence[Label], hints: Hints) -> str:
    """The markers of one video."""
    fps = hints.fps or 1.0
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for label in labels:
        length = round(label.last_seconds * fps) / fps - round(label.start_seconds * fps) / fps
        times = [timecode(time, fps) for time in (label.start_seconds, label.last_seconds, length)]
        rows.writerow([label.label, label.comment, *times, "Comment"])
    return out.getvalue()


def matches_resolve(source: Source) -> bool:
    """Whether a file is an EDL with markers."""
    return source.mentions("|M:", "|D:") and _EVENT.search(source.text) is not None


def read_resolve(source: Source, hints: Hints) -> list[Label]:
    """The markers of the timeline of the file's name; those of one frame are points.

    Raises:
        HrproError: `hints` do not say the frame rate.
    """
    found = Found(source.path)
    fps = hints.needed_fps(source.path)
    drops = re.search(r"^FCM:\s*DROP", source.text, re.MULTILINE) is not None
    markers: list[tuple[int, float, str, int]] = []
    start: float | None = None
    for number, line in enumerate(source.text.split("\n"), start=1):
        if event := _EVENT.match(line):
            code = event[3]
            try:
                start = seconds_of(re.sub(r":(?=\d+$)", ";", code) if drops else code, fps)
            except ValueError as error:
                found.problems.append(f"line {number}: {error}")
                start = None
        elif (marker := _MARKER.search(line)) and start is not None:
            markers.append((number, start, marker["name"], int(marker["frames"])))
    origin = _TIMELINE_START if markers and min(time for _, time, _, _ in markers) >= _TIMELINE_START - 1 else 0.0
    if origin:  # the hour in frames, at rates such as 29.97
        origin = seconds_of("01:00:00;00" if drops else "01:00:00:00", fps)
    for number, time, name, frames in markers:
        end = None if frames <= 1 else time - origin + frames / fps
        found.add(f"line {number}", source.video_id, name, time - origin, end)
    return found.done()


def render_resolve(labels: Sequence[Label], hints: Hints) -> str:
    """The markers of one video on a timeline that begins at 01:00:00:00."""
    fps = hints.fps or 1.0
    hour = seconds_of("01:00:00:00", fps)
    lines = [f"TITLE: {labels[0].video_id}", "FCM: NON-DROP FRAME", ""]
    for number, label in enumerate(labels, start=1):
        frame = round(label.start_seconds * fps)
        frames = 1 if label.is_point else max(round(label.last_seconds * fps) - frame, 1)
        start, end = (timecode(hour + count / fps, fps) for count in (frame, frame + 1))
        name = label.label.replace("|", "/")
        lines += [
            f"{number:03d}  001      V     C        {start} {end} {start} {end}  ",
            f" |C:ResolveColorBlue |M:{name} |D:{frames}",
            "",
        ]
    return "\n".join(lines)
