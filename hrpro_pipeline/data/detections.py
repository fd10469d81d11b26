"""Detections: one JSON a video, or one ActivityNet-style JSON for all."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from hrpro_pipeline.data.files import is_safe_id, read_text, video_id_of, write_text
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.errors import HrproError, ProblemsError

SCHEMA = "hrpro.detections/1"
ACTIVITYNET_NAME = "detections.json"


@dataclass(frozen=True)
class Detection:
    """One detected action instance.

    Attributes:
        label: the class.
        score: ranks detections; not a probability, may be over 1.
        start_seconds, end_seconds: its bounds; also readable as `start` and `end`.
        probability: that it is right, 0 to 1; None where the model has not learned it.
        answer: the model stands for it; answers of a class do not overlap.
    """

    label: str
    score: float
    start_seconds: float
    end_seconds: float
    probability: float | None = None
    answer: bool = False

    @property
    def start(self) -> float:
        """Start in seconds."""
        return self.start_seconds

    @property
    def end(self) -> float:
        """End in seconds."""
        return self.end_seconds


def answer_of(detections: Iterable[Detection]) -> tuple[Detection, ...] | None:
    """The detections that a model stands for, in the same order; None where it has not learned which."""
    detections = tuple(detections)
    if all(item.probability is None for item in detections):
        return None
    return tuple(item for item in detections if item.answer)


@dataclass(frozen=True)
class Curves:
    """Scores over time, N points at equal distances.

    Attributes:
        start_seconds: time of the first point.
        seconds_per_point: from one point to the next.
        classes: of the scores, [K].
        scores: class scores times attention, [K][N]; candidates are cut from them.
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
        classes: all classes of the model, detected or not.
        partial_reason: why the detections end before the video does; None if they do not.
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


def activitynet_json(videos: Iterable[VideoDetections]) -> str:
    """All videos as the text of one ActivityNet-style result file."""
    videos = list(videos)
    results = {video.video_id: [_as_json(detection) for detection in video.detections] for video in videos}
    models = ", ".join(sorted({video.model for video in videos} - {""}))
    external: dict[str, Any] = {"details": models}
    if partial := {video.video_id: video.partial_reason for video in videos if video.partial_reason is not None}:
        external["partial"] = partial
    content = {"version": "VERSION 1.3", "results": results, "external_data": external}
    return json.dumps(content, allow_nan=False) + "\n"


def write_activitynet(path: Path, videos: Iterable[VideoDetections]) -> None:
    """Write all videos as one ActivityNet-style result file, atomically."""
    write_text(path, activitynet_json(videos))


def read_detections(path: Path) -> dict[str, VideoDetections]:
    """Read a folder of per-video JSON, one such file, or an ActivityNet-style result file.

    Raises:
        HrproError or ProblemsError: nothing there, not JSON, or every wrong entry by file, video and number.

    Examples:
        >>> videos = read_detections(Path("detections/"))
        >>> videos["kitchen_02"].detections[0]
        Detection(label='stir', score=1.1, start_seconds=1.2, end_seconds=2.5, probability=None, answer=False)
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise HrproError(f"{path}: no detections (*.json) in this folder; make them with `hrpro detect`")
    videos: dict[str, VideoDetections] = {}
    problems: list[str] = []
    for file in files:
        videos_of_file, problems_of_file = _read_file(file)
        problems += problems_of_file
        for video in videos_of_file:
            if video.video_id in videos:
                problems.append(f"{file.name}: video {video.video_id} is there twice")
            videos[video.video_id] = video
    if problems:
        raise ProblemsError(str(path), problems)
    return videos


def _as_json(detection: Detection) -> dict[str, Any]:
    content: dict[str, Any] = {
        "label": detection.label,
        "score": detection.score,
        "segment": [detection.start_seconds, detection.end_seconds],
    }
    if detection.probability is not None:
        content |= {"probability": detection.probability, "answer": detection.answer}
    return content


def _curves_as_json(curves: Curves) -> dict[str, Any]:
    return {
        "start": curves.start_seconds,
        "seconds_per_point": curves.seconds_per_point,
        "classes": curves.classes,
        "scores": curves.scores,
        "attention": curves.attention,
    }


def _read_file(file: Path) -> tuple[list[VideoDetections], list[str]]:
    """The videos of a file of either format, and its problems."""
    try:
        content = json.loads(read_text(file, "detections as JSON"))
    except json.JSONDecodeError as error:
        return [], [f"{file.name}, line {error.lineno}: not JSON ({error.msg})"]
    except (ValueError, RecursionError) as error:
        return [], [f"{file.name}: not JSON that can be read ({error})"]
    if isinstance(content, dict) and isinstance(content.get("results"), dict):
        return _parse_activitynet(file.name, content)
    if isinstance(content, dict) and content.get("schema") == SCHEMA:
        video, problems = _parse_video(file.name, content)
        return [video], problems
    return [], [f"{file.name}: neither {SCHEMA} nor an ActivityNet-style result file"]


def _parse_activitynet(name: str, content: dict[str, Any]) -> tuple[list[VideoDetections], list[str]]:
    external = content.get("external_data")
    model = str(external.get("details", "")) if isinstance(external, dict) else ""
    videos, problems = [], []
    for video_id, items in content["results"].items():
        if not is_safe_id(video_id):
            problems.append(f"{name}: video {video_id!r}; expected a plain name")
            continue
        detections, problems_of_video = _parse_detections(f"{name}, {video_id}", items)
        videos.append(VideoDetections(video_id_of(video_id), detections, model=model))
        problems += problems_of_video
    return videos, problems


def _parse_video(name: str, content: dict[str, Any]) -> tuple[VideoDetections, list[str]]:
    video_id = str(content.get("video_id", ""))
    id_problems = [] if is_safe_id(video_id) else [f"{name}: video_id is {video_id!r}; expected a plain name"]
    detections, detection_problems = _parse_detections(name, content.get("detections"))
    curves, curve_problems = _parse_curves(name, content.get("curves"))
    duration, reason, classes = (content.get(key) for key in ("duration", "partial_reason", "classes"))
    if isinstance(duration, int | float) and finite_number(duration) is None:
        id_problems.append(f"{name}: duration is {duration}; expected seconds")
    video = VideoDetections(
        video_id if id_problems else video_id_of(video_id),
        detections,
        finite_number(duration) if isinstance(duration, int | float) else None,
        str(content.get("source", "")),
        str(content.get("model", "")),
        curves,
        tuple(class_name(str(label)) for label in classes) if isinstance(classes, list) else (),
        None if reason is None else str(reason),
    )
    return video, [*id_problems, *detection_problems, *curve_problems]


def _parse_detections(place: str, items: Any) -> tuple[tuple[Detection, ...], list[str]]:
    """The detections of a JSON list, and its problems; `place` is the file and video, for these."""
    if not isinstance(items, list):
        return (), [f"{place}: detections is not a list"]
    detections, problems = [], []
    for number, item in enumerate(items, start=1):
        try:
            start, end = map(float, item["segment"])
            probability = item.get("probability")
            learned = () if probability is None else (float(probability), bool(item.get("answer")))
            label = class_name(str(item["label"]))
            detection = Detection(label, float(item["score"]), start, end, *learned)
        except (KeyError, TypeError, ValueError, OverflowError):
            problems.append(f"{place}, detection {number}: expected label, score and segment [start, end]")
            continue
        if not detection.label:
            problems.append(f"{place}, detection {number}: label is {item['label']!r}; expected a class name")
        elif not all(map(math.isfinite, (detection.score, start, end, detection.probability or 0.0))):
            problems.append(
                f"{place}, detection {number}: score {detection.score}, segment [{start}, {end}]; "
                "expected finite numbers"
            )
        elif end < start:
            problems.append(f"{place}, detection {number}: segment [{start}, {end}]; expected start <= end")
        else:
            detections.append(detection)
    return tuple(detections), problems


def _parse_curves(place: str, value: Any) -> tuple[Curves | None, list[str]]:
    if value is None:
        return None, []
    try:
        curves = Curves(
            float(value["start"]),
            float(value["seconds_per_point"]),
            tuple(class_name(str(label)) for label in value["classes"]),
            tuple(tuple(map(float, row)) for row in value["scores"]),
            tuple(map(float, value["attention"])),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        curves = None
    if curves is None or not _is_sound(curves):
        return None, [
            f"{place}: curves need start, seconds_per_point, classes, and as many scores for each as attention has"
        ]
    return curves, []


def _is_sound(curves: Curves) -> bool:
    """Whether lengths agree and all numbers are finite."""
    if len(curves.scores) != len(curves.classes) or curves.seconds_per_point <= 0:
        return False
    if any(len(row) != len(curves.attention) for row in curves.scores):
        return False
    numbers = (curves.start_seconds, curves.seconds_per_point, *curves.attention, *chain(*curves.scores))
    return all(map(math.isfinite, numbers))
