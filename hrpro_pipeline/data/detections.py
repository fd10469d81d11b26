"""Detections: one JSON a video, or one ActivityNet-style JSON for all."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from hrpro_pipeline.data.files import is_safe_id, read_text, write_text
from hrpro_pipeline.errors import HrproError, ProblemsError

SCHEMA = "hrpro.detections/1"
ACTIVITYNET_NAME = "detections.json"


@dataclass(frozen=True)
class Detection:
    """One detected action instance.

    Attributes:
        label: the class.
        score: ranks detections; no probability, and may be over 1.
        start, end: in seconds.
    """

    label: str
    score: float
    start: float
    end: float


@dataclass(frozen=True)
class Curves:
    """Scores over time, N points at equal distances.

    Attributes:
        start_seconds: time of the first point.
        seconds_per_point: from one point to the next.
        classes: of the scores, [K].
        scores: class scores times attention, [K][N]: what candidates are cut from.
        attention: foreground attention, [N].
    """

    start_seconds: float
    seconds_per_point: float
    classes: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]
    attention: tuple[float, ...]


@dataclass(frozen=True)
class VideoDetections:
    """Detections of one video, best first; `duration_seconds` and `curves` are None where the file does not say.

    Attributes:
        classes: that the model knows, detected or not.
        partial_reason: why they end before the video does; None if they do not.
    """

    video_id: str
    detections: tuple[Detection, ...]
    duration_seconds: float | None = None
    source: str = ""
    model: str = ""
    curves: Curves | None = None
    classes: tuple[str, ...] = ()
    partial_reason: str | None = None


def write_detections(folder: Path, video: VideoDetections) -> Path:
    """Write `<folder>/<video id>.json` atomically and return its path."""
    if not is_safe_id(video.video_id):
        raise HrproError(f"{video.video_id!r}: not usable as a file name")
    path = folder / f"{video.video_id}.json"
    content = {
        "schema": SCHEMA,
        "video_id": video.video_id,
        "source": video.source,
        "duration": video.duration_seconds,
        "model": video.model,
        **({} if video.partial_reason is None else {"partial_reason": video.partial_reason}),
        "detections": [_as_json(detection) for detection in video.detections],
    }
    text = json.dumps(content, indent=1, allow_nan=False).removesuffix("\n}")
    # On a line of their own, not on one for each class or number.
    text += f',\n "classes": {json.dumps(video.classes)}'
    if video.curves is not None:
        curves = json.dumps(_curves_as_json(video.curves), separators=(",", ":"), allow_nan=False)
        text += f',\n "curves": {curves}'
    write_text(path, text + "\n}\n")
    return path


def write_activitynet(path: Path, videos: Iterable[VideoDetections]) -> None:
    """Write all videos as one ActivityNet-style result file, atomically."""
    listed = list(videos)
    results = {video.video_id: [_as_json(detection) for detection in video.detections] for video in listed}
    models = ", ".join(sorted({video.model for video in listed} - {""}))
    external: dict[str, Any] = {"details": models}
    if partial := {video.video_id: video.partial_reason for video in listed if video.partial_reason is not None}:
        external["partial"] = partial
    content = {"version": "VERSION 1.3", "results": results, "external_data": external}
    write_text(path, json.dumps(content, allow_nan=False) + "\n")


def read_detections(path: Path) -> dict[str, VideoDetections]:
    """Read a folder of per-video JSON, one such file, or an ActivityNet-style result file.

    Raises:
        HrproError or ProblemsError: nothing there, not JSON, or every wrong entry by file, video and number.

    Examples:
        >>> videos = read_detections(Path("detections/"))
        >>> videos["kitchen_02"].detections[0]
        Detection(label='stir', score=1.1, start=1.2, end=2.5)
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise HrproError(f"{path}: no detections (*.json) in this folder; make them with `hrpro detect`")
    videos: dict[str, VideoDetections] = {}
    problems: list[str] = []
    for file in files:
        try:
            content = json.loads(read_text(file, "detections as JSON"))
        except json.JSONDecodeError as error:
            problems.append(f"{file.name}, line {error.lineno}: not JSON ({error.msg})")
            continue
        except (ValueError, RecursionError) as error:
            problems.append(f"{file.name}: not JSON that can be read ({error})")
            continue
        for video in _parse(file, content, problems):
            if video.video_id in videos:
                problems.append(f"{file.name}: video {video.video_id} is there twice")
            videos[video.video_id] = video
    if problems:
        raise ProblemsError(str(path), problems)
    return videos


def _as_json(detection: Detection) -> dict[str, Any]:
    return {"label": detection.label, "score": detection.score, "segment": [detection.start, detection.end]}


def _curves_as_json(curves: Curves) -> dict[str, Any]:
    return {
        "start": curves.start_seconds,
        "seconds_per_point": curves.seconds_per_point,
        "classes": curves.classes,
        "scores": curves.scores,
        "attention": curves.attention,
    }


def _parse(file: Path, content: Any, problems: list[str]) -> list[VideoDetections]:
    if isinstance(content, dict) and isinstance(content.get("results"), dict):
        external = content.get("external_data")
        model = str(external.get("details", "")) if isinstance(external, dict) else ""
        return [
            VideoDetections(video_id, _list(f"{file.name}, {video_id}", items, problems), model=model)
            for video_id, items in content["results"].items()
        ]
    if isinstance(content, dict) and content.get("schema") == SCHEMA:
        video_id = str(content.get("video_id", ""))
        if not is_safe_id(video_id):
            problems.append(f"{file.name}: video_id is {video_id!r}; expected a plain name")
        duration, reason, classes = (content.get(name) for name in ("duration", "partial_reason", "classes"))
        return [
            VideoDetections(
                video_id,
                _list(file.name, content.get("detections"), problems),
                float(duration) if isinstance(duration, int | float) else None,
                str(content.get("source", "")),
                str(content.get("model", "")),
                _curves(file.name, content.get("curves"), problems),
                tuple(map(str, classes)) if isinstance(classes, list) else (),
                None if reason is None else str(reason),
            )
        ]
    problems.append(f"{file.name}: neither {SCHEMA} nor an ActivityNet-style result file")
    return []


def _list(where: str, items: Any, problems: list[str]) -> tuple[Detection, ...]:
    if not isinstance(items, list):
        problems.append(f"{where}: detections is not a list")
        return ()
    found = []
    for index, item in enumerate(items):
        try:
            assert isinstance(item, Mapping)
            start, end = (float(bound) for bound in item["segment"])
            found.append(Detection(str(item["label"]), float(item["score"]), start, end))
        except (AssertionError, KeyError, TypeError, ValueError, OverflowError):
            problems.append(f"{where}, detection {index + 1}: expected label, score and segment [start, end]")
    return tuple(found)


def _curves(where: str, value: Any, problems: list[str]) -> Curves | None:
    if value is None:
        return None
    try:
        assert isinstance(value, Mapping)
        found = Curves(
            float(value["start"]),
            float(value["seconds_per_point"]),
            tuple(map(str, value["classes"])),
            tuple(tuple(map(float, row)) for row in value["scores"]),
            tuple(map(float, value["attention"])),
        )
        assert len(found.scores) == len(found.classes) and found.seconds_per_point > 0
        assert all(len(row) == len(found.attention) for row in found.scores)
        numbers = (found.start_seconds, found.seconds_per_point, *found.attention, *chain(*found.scores))
        assert all(map(math.isfinite, numbers))
    except (AssertionError, KeyError, TypeError, ValueError, OverflowError):
        problems.append(
            f"{where}: curves need start, seconds_per_point, classes, and as many scores for each as attention has"
        )
        return None
    return found
