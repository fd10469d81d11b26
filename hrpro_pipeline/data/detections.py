"""Detections: one JSON a video, or one ActivityNet-style JSON for all."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrpro_pipeline.data.files import is_safe_id, read_text, write_text
from hrpro_pipeline.errors import HrproError, ProblemsError

SCHEMA = "hrpro.detections/1"
ACTIVITYNET_NAME = "detections.json"


@dataclass(frozen=True)
class Detection:
    """One detected action instance, in seconds."""

    label: str
    score: float
    start: float
    end: float


@dataclass(frozen=True)
class VideoDetections:
    """Detections of one video, best first; `duration_seconds` is None where the file does not say."""

    video_id: str
    detections: tuple[Detection, ...]
    duration_seconds: float | None = None
    source: str = ""
    model: str = ""


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
        "detections": [_as_json(detection) for detection in video.detections],
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def write_activitynet(path: Path, videos: Iterable[VideoDetections]) -> None:
    """Write all videos as one ActivityNet-style result file, atomically."""
    listed = list(videos)
    results = {video.video_id: [_as_json(detection) for detection in video.detections] for video in listed}
    models = ", ".join(sorted({video.model for video in listed} - {""}))
    content = {"version": "VERSION 1.3", "results": results, "external_data": {"details": models}}
    write_text(path, json.dumps(content, allow_nan=False) + "\n")


def read_detections(path: Path) -> dict[str, VideoDetections]:
    """Read a folder of per-video JSON, one such file, or an ActivityNet-style result file.

    Raises:
        HrproError or ProblemsError: nothing there, not JSON, or every wrong entry by file, video and number.
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
        duration = content.get("duration")
        return [
            VideoDetections(
                video_id,
                _list(file.name, content.get("detections"), problems),
                float(duration) if isinstance(duration, int | float) else None,
                str(content.get("source", "")),
                str(content.get("model", "")),
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
