"""BORIS tables of events: exported events (START, STOP and POINT rows, new and old form) and aggregated events."""

import csv
import io
from collections.abc import Sequence

from hrpro_pipeline.data.formats.boris import NO_SUBJECT, add_event
from hrpro_pipeline.data.formats.label import Found, Hints, Label, short
from hrpro_pipeline.data.formats.media_clock import MediaClock
from hrpro_pipeline.data.formats.source import Source, Table
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.errors import HrproError

_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx")
_EVENTS = {"Behavior", "Time", "Behavior type"}
_OLD_EVENTS = {"Behavior", "Time", "Status", "Media file path"}
_AGGREGATED = {"Behavior", "Start (s)", "Stop (s)"}
# Rows of the old form above its table: what was observed, the files of the players, the variables.
_MOST_ROWS_ABOVE = 200


def matches_events(source: Source) -> bool:
    """Whether a file is a table of exported events, in the new or the old form."""
    return _is_table(source, _EVENTS) or _is_table(source, _OLD_EVENTS)


def matches_aggregated(source: Source) -> bool:
    """Whether a file is a table of aggregated events."""
    return _is_table(source, _AGGREGATED)


def _is_table(source: Source, columns: set[str]) -> bool:
    if source.suffix not in _SUFFIXES:
        return False
    if source.suffix != ".xlsx" and not source.mentions(*columns):
        return False
    try:
        return any(_header_at(table, columns) is not None for table in source.tables)
    except HrproError:
        return False


def _header_at(table: Table, columns: set[str]) -> int | None:
    """The index of the header in a table."""
    return next((index for index, row in enumerate(table[:_MOST_ROWS_ABOVE]) if columns <= set(row)), None)


def _records(table: Table, columns: set[str]) -> list[tuple[str, dict[str, str]]]:
    """The rows below the header by column, each with its place; NA is empty."""
    header = _header_at(table, columns)
    if header is None:
        return []
    return [
        (
            f"row {index + 1}",
            {name: "" if cell == "NA" else cell for name, cell in zip(table[header], row, strict=False)},
        )
        for index, row in enumerate(table)
        if index > header and any(row)
    ]


def read_events(source: Source, hints: Hints) -> list[Label]:
    """START and STOP rows of a behavior and subject make a segment, POINT rows a point."""
    found = Found(source.path)
    for table in source.tables:
        columns = _EVENTS if _header_at(table, _EVENTS) is not None else _OLD_EVENTS
        records = _records(table, columns)
        if _has_one_file_each(found, records):
            _pair_events(found, records, _value_above(table, "Time offset (s)"))
    return found.done()


def _value_above(table: Table, name: str) -> str:
    """A value of the block above the table in the old form."""
    rows = (row for row in table[:_MOST_ROWS_ABOVE] if len(row) > 1 and row[0] == name)
    return next((row[1] for row in rows), "")


def _pair_events(found: Found, records: Sequence[tuple[str, dict[str, str]]], offset: str) -> None:
    started: dict[tuple[str, ...], list[str]] = {}
    for place, record in records:
        clock = _clock(record, offset)
        modifiers = [value for name, value in record.items() if name.startswith("Modifier")]
        event = [record.get(name, "") for name in ("Time", "Subject", "Behavior")] + ["", record.get("Comment", "")]
        key = (record.get("Observation id", ""), event[1], event[2], *modifiers)
        kind = (record.get("Behavior type") or record.get("Status", "")).upper()
        if not clock.files:
            found.left_out["events without a media file"] += 1
        elif kind == "POINT":
            add_event(found, place, clock, event, None)
        elif kind == "START":
            started[key] = event
        elif kind == "STOP" and key in started:
            add_event(found, place, clock, started.pop(key), record.get("Time", ""))
        elif kind == "STOP":
            found.left_out["states that end and never begin"] += 1
        else:
            found.problems.append(f"{place}: behavior type is {short(kind)}; expected START, STOP or POINT")
    found.left_out["states that begin and never end"] += len(started)


def read_aggregated(source: Source, hints: Hints) -> list[Label]:
    """Each row is a state from start to stop, or a point."""
    found = Found(source.path)
    for table in source.tables:
        records = _records(table, _AGGREGATED)
        for place, record in records if _has_one_file_each(found, records) else ():
            clock = _clock(record, "")
            if not clock.files:
                found.left_out["events without a media file"] += 1
                continue
            comment = record.get("Comment start", "") or record.get("Comment", "")
            event = [*(record.get(name, "") for name in ("Start (s)", "Subject", "Behavior")), "", comment]
            is_point = record.get("Behavior type", "").upper() == "POINT"
            add_event(found, place, clock, event, None if is_point else record.get("Stop (s)", ""))
    return found.done()


def _clock(record: dict[str, str], offset: str) -> MediaClock:
    """The media files of the observation of a row."""
    start = finite_number(record.get("Time offset (s)") or offset) or 0.0
    player = record.get("Source", "").partition("|")[0]
    if player.startswith("player #1:"):
        files = tuple(name.strip() for name in player.partition(":")[2].split(";") if name.strip())
        lengths = record.get("Media duration (s)", "").partition("|")[0].split(";")
        return MediaClock(files, tuple(map(finite_number, lengths)), start)
    file = _own_file(record)
    return MediaClock((file,) if file else (), (None,), start)


def _own_file(record: dict[str, str]) -> str:
    """The file that an event is in, by the columns of the old forms or, for want of others, of the new ones."""
    return next((record[name] for name in ("Media file path", "Media file", "Media file name") if record.get(name)), "")


def _has_one_file_each(found: Found, records: Sequence[tuple[str, dict[str, str]]]) -> bool:
    """Whether times can be placed: without a column Source, nobody says how long each of several files is."""
    files: dict[str, set[str]] = {}
    for _, record in records:
        if not record.get("Source", "").startswith("player #1:"):
            files.setdefault(record.get("Observation id", ""), set()).add(_own_file(record))
    several = [name for name, names in files.items() if len(names - {""}) > 1]
    for name in several:
        found.problems.append(
            f"observation {short(name)}: several media files, and not how long each is; give the .boris project instead"
        )
    return not several


_MEDIA = ("Source", "Time offset (s)", "Media duration (s)", "FPS")
_EVENT_HEADER = (
    *("Observation id", "Observation date", "Description", "Observation duration", "Observation type"),
    *(*_MEDIA, "Subject", "Behavior", "Behavioral category", "Behavior type", "Time", "Media file name"),
    *("Image index", "Image file path", "Comment"),
)
_AGGREGATED_HEADER = (
    *("Observation id", "Observation date", "Description", "Observation type"),
    *(*_MEDIA, "Subject", "Behavior", "Behavioral category", "Behavior type", "Start (s)", "Stop (s)", "Duration (s)"),
    *("Media file name", "Comment start", "Comment stop"),
)


def render_events(labels: Sequence[Label], hints: Hints) -> str:
    """A CSV with a row for each point, start and stop, by video and time."""
    rows = []
    for label in labels:
        kinds = ("POINT",) if label.is_point else ("START", "STOP")
        for kind, seconds in zip(kinds, (label.start_seconds, label.end_seconds), strict=False):
            cells = {"Behavior type": kind, "Time": f"{seconds:.3f}", "Image index": "NA", "Image file path": "NA"}
            rows.append(_cells(label) | cells | {"Comment": label.comment})
    rows.sort(key=lambda row: (row["Observation id"], float(row["Time"])))
    return _csv(_EVENT_HEADER, rows)


def render_aggregated(labels: Sequence[Label], hints: Hints) -> str:
    """A CSV with a row for each label."""
    rows = []
    for label in labels:
        end = label.last_seconds
        cells = {
            "Behavior type": "POINT" if label.is_point else "STATE",
            "Start (s)": f"{label.start_seconds:.3f}",
            "Stop (s)": f"{end:.3f}",
            "Duration (s)": "NA" if label.is_point else f"{end - label.start_seconds:.3f}",
            "Comment start": label.comment,
        }
        rows.append(_cells(label) | cells)
    return _csv(_AGGREGATED_HEADER, rows)


def _cells(label: Label) -> dict[str, str]:
    """The columns that both forms have."""
    file = f"{label.video_id}.mp4"
    media = {"Source": f"player #1:{file}", "Time offset (s)": "0.0", "Media duration (s)": "NA", "FPS": "NA"}
    names = {"Observation id": label.video_id, "Observation type": "Media file(s)", "Media file name": file}
    return names | media | {"Subject": label.subject or NO_SUBJECT, "Behavior": label.label}


def _csv(header: Sequence[str], rows: Sequence[dict[str, str]]) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, header, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()
