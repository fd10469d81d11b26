"""Durations and frame rates of videos, from annotations or a table."""

from dataclasses import dataclass
from pathlib import Path

from hrpro_pipeline.data.annotations import read_annotations
from hrpro_pipeline.data.files import is_safe_id, video_id_of
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.data.tables import read_table
from hrpro_pipeline.errors import HrproError, ProblemsError

_VIDEO, _DURATION, _FPS = ("video_id", "video"), ("duration", "seconds"), ("fps",)


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
    expected = "a CSV with columns video_id, duration (s) and fps, or ActivityNet-style JSON"
    table = read_table(path, (*_VIDEO, *_DURATION, *_FPS), expected)
    place = {name: index for index, name in enumerate(table.columns)}
    column = {names[0]: next((place[name] for name in names if name in place), None) for names in (_VIDEO, _DURATION)}
    column["fps"] = place.get("fps")
    if column["video_id"] is None or (column["duration"] is None and column["fps"] is None):
        raise HrproError(f"{path}: columns {', '.join(table.columns) or '(none)'}; expected {expected}")
    facts, problems = {}, []
    for line, cells in table.rows:
        texts = {name: cells[index] for name, index in column.items() if index is not None and index < len(cells)}
        values = {name: _positive(texts.get(name, "")) for name in ("duration", "fps")}
        wrong = [name for name in values if texts.get(name) and values[name] is None]
        if wrong or not is_safe_id(texts.get("video_id", "")):
            name = wrong[0] if wrong else "video_id"
            problems.append(f"line {line}: {name} is {texts.get(name, '')!r}")
        else:
            facts[video_id_of(texts["video_id"])] = Facts(values["duration"], values["fps"])
    if problems:
        raise ProblemsError(str(path), problems)
    return facts


def _positive(text: str) -> float | None:
    value = finite_number(text)
    return value if value is not None and value > 0 else None
