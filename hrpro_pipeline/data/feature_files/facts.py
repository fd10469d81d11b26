"""Durations and frame rates of videos, from annotations or a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hrpro_pipeline.data.annotations import read_annotations
from hrpro_pipeline.data.files import is_safe_id, video_id_of
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.data.tables import read_table
from hrpro_pipeline.errors import HrproError, ProblemsError

_VIDEO, _DURATION, _FPS = ("video_id", "video"), ("duration", "seconds"), "fps"


@dataclass(frozen=True)
class Facts:
    """What is known of a video; None where the file does not say."""

    duration_seconds: float | None = None
    fps: float | None = None


def read_facts(path: Path) -> dict[str, Facts]:
    """Durations and rates by video id, from annotations or a CSV with columns video_id, duration and, if need be, fps.

    Raises:
        HrproError or ProblemsError: neither, or wrong numbers.
    """
    if path.suffix.lower() not in (".csv", ".tsv"):
        videos = read_annotations(path)
        return {video_id: Facts(video.duration_seconds, video.fps) for video_id, video in videos.items()}
    return _from_table(path)


def _from_table(path: Path) -> dict[str, Facts]:
    expected = "a CSV with columns video_id, duration (s) and fps, or ActivityNet-style JSON"
    table = read_table(path, (*_VIDEO, *_DURATION, _FPS), expected)
    video, duration, rate = (_place(table.columns, names) for names in (_VIDEO, _DURATION, (_FPS,)))
    if video is None or (duration is None and rate is None):
        raise HrproError(f"{path}: columns {', '.join(table.columns) or '(none)'}; expected {expected}")
    facts, problems = {}, []
    for line, cells in table.rows:
        name = _cell(cells, video)
        try:
            numbers = [_positive(_cell(cells, place)) for place in (duration, rate)]
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        if is_safe_id(name):
            facts[video_id_of(name)] = Facts(*numbers)
        else:
            problems.append(f"line {line}: {name!r} is not usable as a video id")
    if problems:
        raise ProblemsError(str(path), problems)
    return facts


def _place(columns: Sequence[str], names: Sequence[str]) -> int | None:
    return next((columns.index(name) for name in names if name in columns), None)


def _cell(cells: Sequence[str], place: int | None) -> str:
    return cells[place] if place is not None and place < len(cells) else ""


def _positive(text: str) -> float | None:
    """The number of a cell, None for an empty one. Raises ValueError for anything else."""
    value = finite_number(text)
    if text and (value is None or value <= 0):
        raise ValueError(f"{text!r}; expected a number over 0")
    return value
