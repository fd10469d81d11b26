"""Ground truth, points, splits and ambiguous segments: read, checked, all problems of a file at once."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrpro_pipeline.data.files import is_safe_id, read_text
from hrpro_pipeline.errors import HrproError, ProblemsError

_SHAPE = 'ActivityNet-style JSON: {"database": {VIDEO: {"subset": ..., "annotations": [{"label", "segment"}]}}}'


@dataclass(frozen=True)
class Segment:
    """One action instance, in seconds."""

    label: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class VideoAnnotation:
    """What is known of one video; `duration_seconds` and `fps` are None where the file does not say."""

    video_id: str
    subset: str
    duration_seconds: float | None
    fps: float | None
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Point:
    """One labeled point, in `seconds` or as `frame` index at the video's own rate; `line` is its place in the file."""

    video_id: str
    label: str
    seconds: float | None
    frame: float | None
    line: int


def read_annotations(path: Path) -> dict[str, VideoAnnotation]:
    """Read an ActivityNet-style JSON: `database` -> video -> subset, duration, fps, annotations.

    Segments that end after the stated duration are accepted: THUMOS14's own file has 30 of them.

    Raises:
        HrproError: not JSON, or no `database` object.
        ProblemsError: every wrong entry, by video id.

    Examples:
        >>> videos = read_annotations(Path("annotations.json"))
        >>> videos["kitchen_02"].segments
        (Segment(label='stir', start_seconds=1.0, end_seconds=3.0),)
    """
    text = read_text(path, "an ActivityNet-style JSON file")
    duplicates: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in pairs)
        duplicates.extend(key for key, count in counts.items() if count > 1)
        return dict(pairs)

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise HrproError(f"{path}, line {error.lineno}: not JSON ({error.msg}); expected {_SHAPE}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists in lists
        raise HrproError(f"{path}: not JSON that can be read ({error})") from None
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise HrproError(f"{path}: no 'database' object; expected {_SHAPE}")
    problems = [f"{key}: appears twice" for key in duplicates]
    if not database:
        problems.append("'database' is empty; expected at least one video")
    videos = {video_id: _video(video_id, entry, problems) for video_id, entry in database.items()}
    if problems:
        raise ProblemsError(str(path), problems)
    return videos


def _video(video_id: str, entry: Any, problems: list[str]) -> VideoAnnotation:
    """One entry of the database; what is wrong with it is added to `problems`."""
    empty = VideoAnnotation(video_id, "", None, None, ())
    if not is_safe_id(video_id):
        problems.append(f"{video_id!r}: not usable as a video id (a plain file name is expected)")
    if not isinstance(entry, dict):
        problems.append(f"{video_id}: expected an object with subset, duration and annotations")
        return empty
    numbers: dict[str, float | None] = {}
    for name in ("duration", "fps"):
        numbers[name] = _number(entry.get(name))
        if entry.get(name) is not None and (numbers[name] is None or numbers[name] <= 0):  # type: ignore[operator]
            problems.append(f"{video_id}: {name} is {entry[name]!r}; expected a positive number")
    listed = entry.get("annotations", [])
    if not isinstance(listed, list):
        problems.append(f"{video_id}: annotations is not a list")
        listed = []
    segments = []
    for index, item in enumerate(listed):
        where = f"{video_id}, annotation {index + 1}"
        label = item.get("label") if isinstance(item, dict) else None
        bounds = item.get("segment") if isinstance(item, dict) else None
        if not isinstance(label, str) or not label:
            problems.append(f"{where}: label is {label!r}; expected a class name")
            continue
        start, end = map(_number, bounds) if isinstance(bounds, list) and len(bounds) == 2 else (None, None)
        if start is None or end is None:
            problems.append(f"{where}: segment is {bounds!r}; expected [start, end] in seconds")
        elif not 0 <= start < end:
            problems.append(f"{where}: segment {bounds}; expected 0 <= start < end")
        else:
            segments.append(Segment(label, start, end))
    return VideoAnnotation(video_id, str(entry.get("subset", "")), numbers["duration"], numbers["fps"], tuple(segments))


def class_names(videos: Iterable[VideoAnnotation]) -> list[str]:
    """All labels, sorted: the class order of the published models."""
    return sorted({segment.label for video in videos for segment in video.segments})


def in_subset(videos: dict[str, VideoAnnotation], subset: str) -> dict[str, VideoAnnotation]:
    """Videos of a subset, by exact name or else whatever its case.

    Raises:
        HrproError: no video is in it; lists the subsets there are.
    """
    chosen = {key: video for key, video in videos.items() if video.subset == subset}
    chosen = chosen or {key: video for key, video in videos.items() if video.subset.lower() == subset.lower()}
    if not chosen:
        there = ", ".join(
            f"{name or '(none)'} ({count})" for name, count in Counter(v.subset for v in videos.values()).items()
        )
        raise HrproError(f"no annotated video is in subset {subset!r}; choose one of those there are: {there}")
    return chosen


def read_points(path: Path) -> list[Point]:
    """Read a points CSV with columns `video_id`, `class` and `time` (s) or `point` (frame); others are ignored.

    Raises:
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
    text = read_text(path, "a points CSV with columns video_id,class,time")
    rows = csv.reader(io.StringIO(text))
    try:
        header = [name.strip() for name in next(rows, [])]
        lines = [(rows.line_num, row) for row in rows]
    except csv.Error as error:
        raise HrproError(f"{path}, line {rows.line_num}: not CSV that can be read ({error})") from None
    if not header:
        raise HrproError(f"{path}: empty; expected a header video_id,class,time and a line for each point")
    found = ", ".join(header)[:80]
    if len(header) == 1 and (mark := next((mark for mark in (";", "\t") if mark in header[0]), None)):
        raise HrproError(
            f"{path}, line 1: separated by {mark!r}; save it with commas between the columns and points in the numbers"
        )
    if missing := [name for name in ("video_id", "class") if name not in header]:
        raise HrproError(
            f"{path}, line 1: no column {' and '.join(missing)}; expected a header video_id,class,time, found {found}"
        )
    if not {"time", "point"} & set(header):
        raise HrproError(f"{path}, line 1: no column 'time' (seconds) or 'point' (frame); found {found}")
    points, problems = [], []
    for line, row in lines:
        if not any(cell.strip() for cell in row):
            continue
        cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
        video_id, label = cells.get("video_id", ""), cells.get("class", "")
        column = "time" if cells.get("time") or "point" not in header else "point"
        value = _number(cells.get(column) or None)
        if not is_safe_id(video_id):
            problems.append(f"line {line}: video_id is {video_id!r}; expected a plain name")
        elif not label:
            problems.append(f"line {line}: class is empty")
        elif len(row) > len(header):
            problems.append(
                f"line {line}: {len(row)} cells, but the header has {len(header)}; write numbers with a decimal point, "
                "and quote names that have commas"
            )
        elif value is None or value < 0:
            problems.append(
                f"line {line}: {column} is {cells.get(column, '')!r}; expected a number of at least 0, such as 3.5"
            )
        elif column == "point" and value % 1:
            problems.append(f"line {line}: point is {value:g}, but frames are counted; give seconds in a column 'time'")
        else:
            seconds, frame = (value, None) if column == "time" else (None, value)
            points.append(Point(video_id, label, seconds, frame, line))
    if not points and not problems:
        problems.append("no points; expected a line for each action")
    if problems:
        raise ProblemsError(str(path), problems)
    return points


def read_ids(path: Path) -> list[str]:
    """Read video ids, one a line. Raises ProblemsError for duplicates, unusable ids and an empty file."""
    ids: list[str] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(read_text(path, "a file with one video id a line").splitlines(), start=1):
        video_id = line.strip()
        if not video_id:
            continue
        if not is_safe_id(video_id):
            problems.append(f"line {number}: {video_id!r} is not usable as a video id")
        elif video_id in seen:
            problems.append(f"line {number}: {video_id} is already on line {seen[video_id]}")
        else:
            seen[video_id] = number
            ids.append(video_id)
    if not ids and not problems:
        problems.append("empty; expected one video id a line")
    if problems:
        raise ProblemsError(str(path), problems)
    return ids


def read_ambiguous(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Read THUMOS14's ambiguous segments: `video start end` a line, in seconds -> segments by video."""
    segments: dict[str, list[tuple[float, float]]] = {}
    problems = []
    for number, line in enumerate(read_text(path, "lines of `video start end`").splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        bounds = [_number(cell) for cell in cells[1:]]
        if len(cells) != 3 or bounds[0] is None or bounds[1] is None:
            problems.append(f"line {number}: {line.strip()!r}; expected `video start end`")
        else:
            segments.setdefault(cells[0], []).append((bounds[0], bounds[1]))
    if not segments and not problems:
        problems.append("empty; expected lines of `video start end`")
    if problems:
        raise ProblemsError(str(path), problems)
    return segments


def _number(value: Any) -> float | None:
    """A finite number from a JSON value or CSV cell, else None."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
