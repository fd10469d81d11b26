"""BORIS projects (`.boris`): JSON with observations, whose state events are pairs of equal rows."""

import json
from collections.abc import Sequence
from typing import Any

from hrpro_pipeline.data.formats.label import Found, Hints, Label, short
from hrpro_pipeline.data.formats.media_clock import MediaClock
from hrpro_pipeline.data.formats.source import Source
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.errors import HrproError

NO_SUBJECT = "No focal subject"  # what BORIS writes into tables for an empty one


def matches(source: Source) -> bool:
    """Whether a file is a BORIS project."""
    return source.start.startswith("{") and source.mentions('"behaviors_conf"', '"observations"')


def read(source: Source, hints: Hints) -> list[Label]:
    """The events of all observations of media files."""
    found = Found(source.path)
    project = source.json
    observations = project.get("observations") if isinstance(project, dict) else None
    if not isinstance(observations, dict):
        raise HrproError(f"{source.path}: no 'observations' object; expected a BORIS project")
    is_state = _state_behaviors(project.get("behaviors_conf"))
    for name, observation in observations.items():
        if not isinstance(observation, dict) or not isinstance(observation.get("events"), list):
            found.problems.append(f"observation {short(name)}: no list of events")
        elif observation.get("type", "MEDIA") != "MEDIA":
            found.left_out["events of observations without media files"] += len(observation["events"])
        else:
            _read_observation(found, f"observation {short(name)}", observation, is_state)
    return found.done()


def _state_behaviors(ethogram: Any) -> dict[str, bool]:
    """Whether each behavior is a state (two events make a segment) or a point."""
    entries = ethogram.values() if isinstance(ethogram, dict) else []
    return {
        str(entry.get("code")): str(entry.get("type")).lower().startswith("state")
        for entry in entries
        if isinstance(entry, dict)
    }


def _read_observation(found: Found, place: str, observation: dict[str, Any], is_state: dict[str, bool]) -> None:
    clock = _clock(observation)
    if not clock.files:
        found.problems.append(f"{place}: player 1 has no list of media files")
        return
    open_states: dict[tuple[str, ...], list[Any]] = {}
    for number, event in enumerate(observation["events"], start=1):
        here = f"{place}, event {number}"
        if not isinstance(event, list) or len(event) < 3:
            found.problems.append(f"{here}: expected [time, subject, behavior, modifier, comment]")
            continue
        key = tuple(str(cell) for cell in (*event[1:4], "")[:3])
        if key[1] not in is_state:
            found.problems.append(f"{here}: behavior {short(event[2])} is not in the ethogram")
        elif not is_state[key[1]]:
            add_event(found, here, clock, event, None)
        elif key in open_states:
            add_event(found, here, clock, open_states.pop(key), event[0])
        else:
            open_states[key] = event
    found.left_out["states that begin and never end"] += len(open_states)


def add_event(found: Found, place: str, clock: MediaClock, event: Sequence[Any], stop: Any) -> None:
    """Add an event `[time, subject, behavior, modifier, comment]`, up to `stop` or as a point, in each of its files."""
    start, end = finite_number(event[0]), finite_number(stop)
    subject, comment = "" if event[1] == NO_SUBJECT else event[1], event[4] if len(event) > 4 else ""
    if start is None or (stop is not None and end is None) or (end is not None and end < start):
        wrong = event[0] if start is None else stop
        found.problems.append(f"{place}: time is {short(wrong)}; expected seconds, the end after the start")
        return
    try:
        for file, first, last in clock.parts(start, None if end == start else end):
            found.add(place, file, event[2], first, last, subject=subject, comment=comment)
    except ValueError as error:
        found.problems.append(f"{place}: {error}")


def _clock(observation: dict[str, Any]) -> MediaClock:
    """The media files of player 1, which set the time."""
    players, info = observation.get("file"), observation.get("media_info")
    files = players.get("1") if isinstance(players, dict) else None
    lengths = info.get("length") if isinstance(info, dict) else None
    names = tuple(files) if isinstance(files, list) and all(isinstance(file, str) for file in files) else ()
    known = lengths if isinstance(lengths, dict) else {}
    offset = finite_number(observation.get("time offset")) or 0.0
    return MediaClock(names, tuple(finite_number(known.get(name)) for name in names), offset)


def render(labels: Sequence[Label], hints: Hints) -> str:
    """A project with an observation for each video, whose media file is `<video id>.mp4`."""
    names = sorted({(label.label, label.is_point) for label in labels})
    both = {name for name, is_point in names if (name, not is_point) in names}
    codes = {(name, is_point): f"{name} (point)" if is_point and name in both else name for name, is_point in names}
    behaviors = {
        str(number): {
            "type": "Point event" if is_point else "State event",
            "key": chr(ord("a") + number % 26),
            "code": codes[name, is_point],
            "description": "",
            "color": "",
            "category": "",
            "modifiers": "",
            "excluded": "",
            "coding map": "",
        }
        for number, (name, is_point) in enumerate(names)
    }
    subjects = sorted({label.subject for label in labels} - {""})
    project = {
        "time_format": "hh:mm:ss",
        "project_date": "2000-01-01T00:00:00",
        "project_name": "hrpro",
        "project_description": "",
        "project_format_version": "7.0",
        "subjects_conf": {
            str(number): {"key": "", "name": name, "description": ""} for number, name in enumerate(subjects)
        },
        "behaviors_conf": behaviors,
        "observations": {
            video_id: _observation(video_id, [label for label in labels if label.video_id == video_id], codes)
            for video_id in sorted({label.video_id for label in labels})
        },
        "behavioral_categories": [],
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }
    return json.dumps(project, indent=1, allow_nan=False) + "\n"


def _observation(video_id: str, labels: Sequence[Label], codes: dict[tuple[str, bool], str]) -> dict[str, Any]:
    file = f"{video_id}.mp4"
    events = [
        [round(seconds, 3), label.subject, codes[label.label, label.is_point], "", label.comment]
        for label in labels
        for seconds in (label.start_seconds, label.end_seconds)
        if seconds is not None
    ]
    return {
        "file": {"1": [file], **{str(player): [] for player in range(2, 9)}},
        "type": "MEDIA",
        "date": "2000-01-01T00:00:00",
        "description": "",
        "time offset": 0,
        "events": sorted(events, key=lambda event: event[0]),
        "observation time interval": [0, 0],
        "independent_variables": {},
        "media_info": {"length": {}, "fps": {}, "hasVideo": {file: True}, "hasAudio": {file: True}},
    }
