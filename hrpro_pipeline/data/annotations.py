"""Ground truth, splits and ambiguous segments: read, checked, all problems of a file at once."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrpro_pipeline.data.files import is_safe_id, read_text, video_id_of
from hrpro_pipeline.data.formats.known import read_foreign
from hrpro_pipeline.data.formats.label import Label
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.errors import HrproError, ProblemsError

log = logging.getLogger(__name__)

_SHAPE = 'ActivityNet-style JSON: {"database": {VIDEO: {"subset": ..., "annotations": [{"label", "segment"}]}}}'
# By so much a start may lie before the video's; more is a mistake of another kind.
_EARLY_SECONDS = 1.0


@dataclass(frozen=True)
class Segment:
    """One action instance, in seconds."""

    label: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class VideoAnnotation:
    """The annotation of one video; `duration_seconds` and `fps` are None where the file does not say."""

    video_id: str
    subset: str
    duration_seconds: float | None
    fps: float | None
    segments: tuple[Segment, ...]


def read_annotations(path: Path) -> dict[str, VideoAnnotation]:
    """Read an ActivityNet-style JSON: `database` -> video -> subset, duration, fps, annotations.

    Files of labeling tools are read as well (`data/formats`); they have neither subsets nor durations.

    Segments that end after the stated duration are accepted: THUMOS14's own file has 30 of them. Starts up to a second
    before 0 become 0, and segments without length are left out, as ActivityNet's own file has both; a warning counts
    them. Classes are as `class_name` gives them.

    Raises:
        HrproError: not JSON, or no `database` object.
        ProblemsError: every wrong entry, by video id.

    Examples:
        >>> videos = read_annotations(Path("annotations.json"))
        >>> videos["kitchen_02"].segments
        (Segment(label='stir', start_seconds=1.0, end_seconds=3.0),)
    """
    if (labels := read_foreign(path)) is not None:
        return _from_labels(path, labels)
    content, duplicate_keys = _read_json(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise HrproError(f"{path}: no 'database' object; expected {_SHAPE}")
    problems = [f"{key}: appears twice" for key in duplicate_keys]
    if not database:
        problems.append("'database' is empty; expected at least one video")
    for video_id, entry in database.items():
        problems += _entry_problems(video_id, entry)
    problems += _shared_ids(database)
    if problems:
        raise ProblemsError(str(path), problems)
    _warn_of_mended(path, database)
    annotations = (_annotation(video_id_of(name), entry) for name, entry in database.items())
    return {annotation.video_id: annotation for annotation in annotations}


def _shared_ids(names: Iterable[str]) -> list[str]:
    """Names that are the same video's."""
    first_by_id: dict[str, str] = {}
    problems = []
    for name in filter(is_safe_id, names):
        first = first_by_id.setdefault(video_id_of(name), name)
        if first != name:
            problems.append(f"{name!r} and {first!r} are both video {video_id_of(name)!r}; expected one entry for it")
    return problems


def _from_labels(path: Path, labels: Iterable[Label]) -> dict[str, VideoAnnotation]:
    """The segments of a labeling tool's file by video; points are left out, and the log says so."""
    labels = list(labels)
    segments: dict[str, list[Segment]] = {label.video_id: [] for label in labels}
    for label in labels:
        if label.end_seconds is not None:
            segments[label.video_id].append(Segment(label.label, label.start_seconds, label.end_seconds))
    if not any(segments.values()):
        raise HrproError(f"{path}: {len(labels)} points and no segments; expected segments with a start and an end")
    if num_points := sum(label.is_point for label in labels):
        log.warning("%s: %d points left out: annotations are segments", path, num_points)
    return {video_id: VideoAnnotation(video_id, "", None, None, tuple(items)) for video_id, items in segments.items()}


def _read_json(path: Path) -> tuple[Any, list[str]]:
    """The content of a JSON file, and the keys that an object has twice."""
    text = read_text(path, "an ActivityNet-style JSON file")
    duplicate_keys: list[str] = []

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in pairs)
        duplicate_keys.extend(key for key, count in counts.items() if count > 1)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=as_dict), duplicate_keys
    except json.JSONDecodeError as error:
        raise HrproError(f"{path}, line {error.lineno}: not JSON ({error.msg}); expected {_SHAPE}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists in lists
        raise HrproError(f"{path}: not JSON that can be read ({error})") from None


def _entry_problems(video_id: str, entry: Any) -> list[str]:
    """Problems of one entry of the database."""
    problems = []
    if not is_safe_id(video_id):
        problems.append(f"{video_id!r}: not usable as a video id (a plain file name is expected)")
    if not isinstance(entry, dict):
        return [*problems, f"{video_id}: expected an object with subset, duration and annotations"]
    for name in ("duration", "fps"):
        value = finite_number(entry.get(name))
        if entry.get(name) is not None and (value is None or value <= 0):
            problems.append(f"{video_id}: {name} is {entry[name]!r}; expected a positive number")
    items = entry.get("annotations", [])
    if not isinstance(items, list):
        return [*problems, f"{video_id}: annotations is not a list"]
    for number, item in enumerate(items, start=1):
        if problem := _segment_problem(item):
            problems.append(f"{video_id}, annotation {number}: {problem}")
    return problems


def _segment_problem(item: Any) -> str:
    """The problem of one item of `annotations`; empty for none."""
    label = item.get("label") if isinstance(item, dict) else None
    bounds = item.get("segment") if isinstance(item, dict) else None
    if not isinstance(label, str) or not class_name(label):
        return f"label is {label!r}; expected a class name"
    start, end = map(finite_number, bounds) if isinstance(bounds, list) and len(bounds) == 2 else (None, None)
    if start is None or end is None:
        return f"segment is {bounds!r}; expected [start, end] in seconds"
    return "" if -_EARLY_SECONDS <= start <= end else f"segment {bounds}; expected 0 <= start < end"


def _annotation(video_id: str, entry: dict[str, Any]) -> VideoAnnotation:
    """An entry of the database without problems."""
    segments = [_segment(item) for item in entry.get("annotations", [])]
    return VideoAnnotation(
        video_id,
        str(entry.get("subset", "")),
        finite_number(entry.get("duration")),
        finite_number(entry.get("fps")),
        tuple(segment for segment in segments if segment.start_seconds < segment.end_seconds),
    )


def _segment(item: dict[str, Any]) -> Segment:
    """An item of `annotations` without problems, from second 0 on; its end may be its start."""
    start, end = (max(0.0, float(bound)) for bound in item["segment"])
    return Segment(class_name(item["label"]), start, end)


def _warn_of_mended(path: Path, database: dict[str, dict[str, Any]]) -> None:
    """One line on the segments without length and those that start before 0."""
    without_length, early = [], []
    for video_id, entry in database.items():
        for item in entry.get("annotations", []):
            segment = _segment(item)
            if segment.start_seconds >= segment.end_seconds:
                without_length.append(f"{video_id} {item['segment']}")
            elif float(item["segment"][0]) < 0:
                early.append(f"{video_id} {item['segment']}")
    parts = []
    if without_length:
        parts.append(f"segments without length, left out: {len(without_length)} ({_first(without_length)})")
    if early:
        parts.append(f"segments that start before 0, cut there: {len(early)} ({_first(early)})")
    if parts:
        log.warning("%s: %s", path, "; ".join(parts))


def _first(names: Sequence[str]) -> str:
    return f"{names[0]}, ..." if len(names) > 1 else names[0]


def class_names(videos: Iterable[VideoAnnotation]) -> list[str]:
    """All labels, sorted: the class order of the published models."""
    return sorted({segment.label for video in videos for segment in video.segments})


def in_subset(videos: dict[str, VideoAnnotation], subset: str) -> dict[str, VideoAnnotation]:
    """Videos of a subset, by its exact name, or else ignoring case.

    Raises:
        HrproError: no video is in it; the text names the subsets.
    """
    selected = {key: video for key, video in videos.items() if video.subset == subset}
    selected = selected or {key: video for key, video in videos.items() if video.subset.lower() == subset.lower()}
    if not selected:
        counts = Counter(video.subset for video in videos.values())
        subsets = ", ".join(f"{name or '(none)'} ({count})" for name, count in counts.items())
        raise HrproError(f"no annotated video is in subset {subset!r}; choose one of those there are: {subsets}")
    return selected


def read_ids(path: Path) -> list[str]:
    """Read video ids, one a line. Raises ProblemsError for duplicates, unusable ids and an empty file."""
    text = read_text(path, "a file with one video id a line")
    line_of_id: dict[str, int] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        video_id = line.strip()
        if not video_id:
            continue
        if not is_safe_id(video_id):
            problems.append(f"line {number}: {video_id!r} is not usable as a video id")
        elif (video_id := video_id_of(video_id)) in line_of_id:
            problems.append(f"line {number}: {video_id} is already on line {line_of_id[video_id]}")
        else:
            line_of_id[video_id] = number
    if not line_of_id and not problems:
        problems.append("empty; expected one video id a line")
    if problems:
        raise ProblemsError(str(path), problems)
    return list(line_of_id)


def read_ambiguous(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Read THUMOS14's ambiguous segments: `video start end` a line, in seconds -> segments by video."""
    segments: dict[str, list[tuple[float, float]]] = {}
    problems = []
    for number, line in enumerate(read_text(path, "lines of `video start end`").splitlines(), start=1):
        cells = line.rsplit(maxsplit=2)
        if not cells:
            continue
        bounds = [finite_number(cell) for cell in cells[1:]]
        if len(cells) != 3 or bounds[0] is None or bounds[1] is None or not is_safe_id(cells[0]):
            problems.append(f"line {number}: {line.strip()!r}; expected `video start end`")
        else:
            segments.setdefault(video_id_of(cells[0]), []).append((bounds[0], bounds[1]))
    if not segments and not problems:
        problems.append("empty; expected lines of `video start end`")
    if problems:
        raise ProblemsError(str(path), problems)
    return segments
