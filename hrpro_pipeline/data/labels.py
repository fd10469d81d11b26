"""Labels of any known format, ours and those of labeling tools: which a file is in, reading, writing."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hrpro_pipeline.data.annotations import read_annotations
from hrpro_pipeline.data.detections import SCHEMA, Detection, VideoDetections, activitynet_json, read_detections
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.data.formats.known import FORMATS, Format, read_as
from hrpro_pipeline.data.formats.label import Hints, Label
from hrpro_pipeline.data.formats.names import PointAt
from hrpro_pipeline.data.formats.source import Source
from hrpro_pipeline.data.points import Point, points_csv, read_points
from hrpro_pipeline.errors import HrproError

_LEAST_SECONDS = 1e-3  # what formats in milliseconds tell apart


def _is_points(source: Source) -> bool:
    """Whether the header has our columns, and no other format's."""
    names = {name.strip() for name in re.split("[,;\t]", source.start.partition("\n")[0])}
    return {"video_id", "class"} <= names


def _read_points(source: Source, hints: Hints) -> list[Label]:
    labels = []
    for point in read_points(source.path):
        seconds = point.seconds
        if seconds is None:
            seconds = (point.frame or 0.0) / hints.needed_fps(source.path)
        labels.append(Label(point.video_id, point.label, seconds, None))
    return labels


def _is_annotations(source: Source) -> bool:
    return source.start.startswith("{") and source.mentions('"database"')


def _read_annotations(source: Source, hints: Hints) -> list[Label]:
    return [
        Label(video_id, segment.label, segment.start_seconds, segment.end_seconds)
        for video_id, video in read_annotations(source.path).items()
        for segment in video.segments
    ]


def _is_detections(source: Source) -> bool:
    is_json = source.start.startswith("{")
    return is_json and (source.mentions(f'"{SCHEMA}"', '"detections"') or source.mentions('"results"', '"segment"'))


def _read_detections(source: Source, hints: Hints) -> list[Label]:
    return [
        Label(video_id, item.label, item.start_seconds, item.end_seconds, score=item.score)
        for video_id, video in read_detections(source.path).items()
        for item in video.detections
    ]


def _render_points(labels: Sequence[Label], hints: Hints) -> str:
    return points_csv(Point(label.video_id, label.label, label.start_seconds, None, 0) for label in labels)


def _render_annotations(labels: Sequence[Label], hints: Hints) -> str:
    database = {
        video_id: {
            "annotations": [
                {"label": item.label, "segment": [round(item.start_seconds, 6), round(item.last_seconds, 6)]}
                for item in items
            ]
        }
        for video_id, items in by_video(labels).items()
    }
    return json.dumps({"database": database}, indent=1, allow_nan=False) + "\n"


def _render_detections(labels: Sequence[Label], hints: Hints) -> str:
    videos = []
    for video_id, items in by_video(labels).items():
        best_first = sorted(items, key=lambda item: -(item.score or 0.0))
        found = (Detection(item.label, item.score or 0.0, item.start_seconds, item.last_seconds) for item in best_first)
        videos.append(VideoDetections(video_id, tuple(found)))
    return activitynet_json(videos)


ALL_FORMATS: dict[str, Format] = {
    "points": Format("points", ".csv", _is_points, _read_points, _render_points, frozenset({"points", "videos"})),
    "annotations": Format(
        *("annotations", ".json", _is_annotations, _read_annotations, _render_annotations),
        frozenset({"segments", "overlaps", "videos"}),
    ),
    "detections": Format(
        *("detections", ".json", _is_detections, _read_detections, _render_detections),
        frozenset({"segments", "overlaps", "score", "videos"}),
    ),
    **FORMATS,
}


def by_video(labels: Sequence[Label]) -> dict[str, list[Label]]:
    """Labels of each video, in the order of first appearance."""
    videos: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        videos[label.video_id].append(label)
    return dict(videos)


def read_labels(path: Path, hints: Hints | None = None) -> list[Label]:
    """The labels of a file in any known format, or of all files of a folder.

    Raises:
        HrproError or ProblemsError: a file in no known format, or one that cannot be read.
    """
    hints = hints or Hints()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        # `hrpro detect` leaves this beside its results.
        labels = [label for file in files if file.name != "failures.jsonl" for label in _read_file(file, hints)]
        if not labels:
            raise HrproError(f"{path}: no labels in this folder; expected files of labels")
        return labels
    return _read_file(path, hints)


def _read_file(path: Path, hints: Hints) -> list[Label]:
    source = Source(path)
    for known in ALL_FORMATS.values():
        if known.matches is not None and known.read is not None and known.matches(source):
            return read_as(known, source, hints)
    if source.suffix not in (".xlsx",):
        _ = source.text  # says what is wrong with a file that is not there or is not text
    titles = ", ".join(known.title for known in ALL_FORMATS.values() if known.read is not None)
    raise HrproError(f"{path}: in no format that is known; expected one of these: {titles}")


def fitted(labels: Sequence[Label], to: Format, point_at: PointAt) -> tuple[list[Label], list[str]]:
    """Labels as a format can hold them, by video and start, and what changed, counted."""
    kept = sorted(labels, key=_place)
    notes: list[str] = []

    def change(is_concerned: Callable[[Label], bool], becomes: Callable[[Label], Label | None], note: str) -> None:
        nonlocal kept
        if count := sum(map(is_concerned, kept)):
            changed = (becomes(label) if is_concerned(label) else label for label in kept)
            kept = [label for label in changed if label is not None]
            notes.append(note.format(count))

    if "segments" not in to.holds:
        change(lambda label: not label.is_point, lambda label: _as_point(label, point_at), "{} segments became points")
    if "points" not in to.holds and to.point_width:
        width = f"{{}} points became segments of up to {to.point_width:g} s around them"
        change(lambda label: label.is_point, lambda label: _as_segment(label, to.point_width), width)
    elif "points" not in to.holds:
        change(lambda label: label.is_point, lambda label: None, "{} points left out")
    if to.title == "detections":
        change(lambda label: label.score is None, lambda label: None, "{} labels without a score left out")
    if "overlaps" not in to.holds:
        overlapping = _overlapping(kept)
        change(
            lambda label: id(label) in overlapping,
            lambda label: None,
            "{} segments that overlap others of their class left out",
        )
    for name in ("subject", "comment", "score"):
        if name not in to.holds and (count := sum(getattr(label, name) not in ("", None) for label in kept)):
            notes.append(f"{name}s of {count} labels left out")
    return sorted(kept, key=_place), notes


def _place(label: Label) -> tuple[str, float, float]:
    """What labels are sorted by."""
    return label.video_id, label.start_seconds, label.last_seconds


def _as_point(label: Label, point_at: PointAt) -> Label:
    places = {"start": label.start_seconds, "middle": label.middle_seconds, "end": label.last_seconds}
    return replace(label, start_seconds=places[point_at], end_seconds=None)


def _as_segment(label: Label, width: float) -> Label:
    """A segment whose middle is the point."""
    half = max(min(width / 2, label.start_seconds), _LEAST_SECONDS)
    start = max(label.start_seconds - half, 0.0)
    return replace(label, start_seconds=start, end_seconds=label.start_seconds + half)


def _overlapping(labels: Sequence[Label]) -> set[int]:
    """Ids of segments, sorted by start, that begin before another of their video, class and subject ends."""
    ends: dict[tuple[str, str, str], float] = {}
    overlapping = set()
    for label in labels:
        key = (label.video_id, label.label, label.subject)
        if not label.is_point and label.start_seconds < ends.get(key, 0.0):
            overlapping.add(id(label))
        elif not label.is_point:
            ends[key] = label.last_seconds
    return overlapping


def write_labels(out: Path, labels: Sequence[Label], to: Format, hints: Hints) -> list[Path]:
    """Write labels that a format can hold; one that holds a single video gets a file for each in the folder `out`.

    Raises:
        HrproError: no label, several videos for one file, or a frame rate that nobody says.
    """
    if not labels:
        raise HrproError(f"{out}: no labels that {to.title} can hold")
    if "frames" in to.holds and hints.fps is None:
        raise HrproError(f"{out}: {to.title} counts frames; give `fps`, the frames a second of the video")
    videos = {"": list(labels)} if "videos" in to.holds else by_video(labels)
    if len(videos) == 1 and not out.is_dir():
        files = {out: list(labels)}
    elif out.suffix and not out.is_dir() and "videos" not in to.holds:
        raise HrproError(
            f"{out}: {to.title} holds one video a file, and there are {len(videos)}; give a folder instead of a file"
        )
    else:
        files = {out / f"{video_id or 'labels'}{to.suffix}": items for video_id, items in videos.items()}
    for file, items in files.items():
        write_text(file, to.render(items, hints))
    return list(files)


def read_durations(path: Path) -> dict[str, float]:
    """Lengths in seconds of the videos of annotations and detections, where these say them; of other files, none."""
    source = Source(path)
    if path.is_dir():
        files = [file for file in path.iterdir() if file.is_file() and file.suffix == ".json"]
        return {video_id: seconds for file in files for video_id, seconds in read_durations(file).items()}
    if _is_annotations(source):
        videos = read_annotations(path).items()
        return {video_id: video.duration_seconds for video_id, video in videos if video.duration_seconds is not None}
    if _is_detections(source):
        found = read_detections(path).items()
        return {video_id: video.duration_seconds for video_id, video in found if video.duration_seconds is not None}
    return {}
