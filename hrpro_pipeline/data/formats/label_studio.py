"""Label Studio exports in JSON and JSON-MIN. Frames are counted from 1 at the project's rate, not at the video's."""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hrpro_pipeline.data.files import is_video_name
from hrpro_pipeline.data.formats.label import Found, Hints, Label
from hrpro_pipeline.data.formats.source import Source
from hrpro_pipeline.data.numbers import finite_number

log = logging.getLogger(__name__)

_DEFAULT_FPS = 24.0  # `frameRate` of <Video> where a labeling interface does not state it
# Uploaded files get eight hexadecimal digits before their names.
_UPLOADED = re.compile(r"(?<=/)[0-9a-f]{8}-(?=[^/]+$)")


def matches(source: Source) -> bool:
    """Whether a file is an export with a timeline, or with regions of sound or video in seconds."""
    if not source.start.startswith(("[", "{")) or source.mentions('"database"'):
        return False
    full = source.mentions('"annotations"', '"result"') or source.mentions('"completions"', '"result"')
    return full or source.mentions('"ranges"', '"timelinelabels"')


def read(source: Source, hints: Hints) -> list[Label]:
    """The timeline's ranges of all annotations that were not canceled; a range of one frame is a point."""
    found = Found(source.path)
    fps = hints.fps or _DEFAULT_FPS
    tasks = source.json if isinstance(source.json, list) else [source.json]
    counted = [0]
    for number, task in enumerate(tasks, start=1):
        place = f"task {number}"
        if not isinstance(task, dict):
            found.problems.append(f"{place}: expected an object with data and annotations")
            continue
        data = task.get("data")
        video = _video(data if isinstance(data, dict) else task)
        for index, (who, item) in enumerate(_results(found, task), start=1):
            _read_result(found, f"{place}, region {index}", video, who, item, fps, counted)
    if counted[0] and hints.fps is None:
        log.warning(
            "%s: frames are taken as %g a second, Label Studio's default; give `fps` to `hrpro convert` "
            "where the project's frameRate is another",
            *(source.path, fps),
        )
    return found.done()


def _video(data: dict[str, Any]) -> str:
    """The address of a task's video: the field of that name, or else the first that looks like one."""
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    likely = [texts[name] for name in ("video", "video_url", "audio") if name in texts]
    named = [value for value in texts.values() if is_video_name(value.partition("?")[0]) or is_video_name(value)]
    address = next(iter([*likely, *named]), "")
    return _UPLOADED.sub("", address) if "upload/" in address else address


def _results(found: Found, task: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Who labeled, where several did, and each region."""
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list):
        # JSON-MIN has the regions of a control under its name.
        for value in task.values():
            if isinstance(value, list):
                yield from (("", item) for item in value if isinstance(item, dict))
        return
    kept = [item for item in annotations if isinstance(item, dict) and not item.get("was_cancelled")]
    for annotation in kept:
        who = annotation.get("completed_by")
        name = str(who.get("email") or who.get("id")) if isinstance(who, dict) else str(who)
        results = annotation.get("result")
        for item in results if isinstance(results, list) else []:
            yield name if len(kept) > 1 else "", item


def _read_result(found: Found, place: str, video: str, who: str, item: Any, fps: float, counted: list[int]) -> None:
    """Add the ranges of a region; `counted[0]` goes up by those in frames."""
    value = item.get("value", item) if isinstance(item, dict) else None
    if not isinstance(value, dict):
        found.problems.append(f"{place}: expected an object with a value")
        return
    names = value.get("timelinelabels") or value.get("labels") or value.get("paragraphlabels")
    ranges = value.get("ranges")
    if isinstance(ranges, list) and "timelinelabels" in value:
        spans = [(_seconds(span, "start", fps), _seconds(span, "end", fps)) for span in ranges]
        counted[0] += len(spans)
    elif "start" in value and "end" in value and "timelinelabels" not in value and "text" not in value:
        spans = [(value["start"], value["end"])]
    else:
        found.left_out["regions without a place on the timeline"] += 1
        return
    for name in names if isinstance(names, list) and names else [None]:
        for start, end in spans:
            found.add(place, video, name, start, end, subject=who, score=item.get("score"))


def _seconds(span: Any, name: str, fps: float) -> Any:
    """The time of a frame counted from 1; what is no number stays as it is, for the error."""
    frame = span.get(name) if isinstance(span, dict) else span
    number = finite_number(frame)
    return (frame if frame is not None else "nothing") if number is None else (number - 1) / fps


def render(labels: Sequence[Label], hints: Hints) -> str:
    """Tasks to import, one for each video, `<video id>.mp4`."""
    fps = hints.fps or _DEFAULT_FPS
    tasks = []
    for video_id in sorted({label.video_id for label in labels}):
        result = [
            {
                "id": f"label_{number}",
                "type": "timelinelabels",
                "from_name": "videoLabels",
                "to_name": "video",
                "value": {
                    "ranges": [{"start": _frame(label.start_seconds, fps), "end": _frame(label.last_seconds, fps)}],
                    "timelinelabels": [label.label],
                },
                **({} if label.score is None else {"score": label.score}),
            }
            for number, label in enumerate(labels)
            if label.video_id == video_id
        ]
        tasks.append({"data": {"video": f"{video_id}.mp4"}, "annotations": [{"result": result}]})
    return json.dumps(tasks, indent=1, allow_nan=False) + "\n"


def _frame(seconds: float, fps: float) -> int:
    return round(seconds * fps) + 1
