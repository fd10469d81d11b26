"""Moments that are worth a look, from a table: which video, when, perhaps which class, and why."""

from pathlib import Path
from typing import Any

from hrpro_pipeline.data.files import is_safe_id, video_id_of
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.data.tables import read_table
from hrpro_pipeline.errors import HrproError, ProblemsError

_COLUMNS = ("video_id", "time", "class", "kind", "score")


def read_suggestions(path: Path) -> list[dict[str, Any]]:
    """Suggestions in the order of the file: `key`, `video_id`, `time` (s), `class` (may be empty), `kind` and `score`.

    Rows without a time are about a whole video, and come with time None.

    Raises:
        HrproError or ProblemsError: no such file, no such columns, or every wrong line.
    """
    table = read_table(path, _COLUMNS, f"a CSV with columns {','.join(_COLUMNS)}")
    if missing := [name for name in ("video_id", "time") if name not in table.columns]:
        raise HrproError(f"{path}, line 1: no column {' and '.join(missing)}; expected {','.join(_COLUMNS)}")
    suggestions, problems = [], []
    for line, cells in table.rows:
        row = dict(zip(table.columns, cells, strict=False))
        seconds, video_id = finite_number(row.get("time")), row["video_id"]
        if not is_safe_id(video_id):
            problems.append(f"line {line}: video_id is {video_id!r}; expected a plain name")
        elif row.get("time") and (seconds is None or seconds < 0):
            problems.append(f"line {line}: time is {row['time']!r}; expected seconds")
        else:
            video_id, label, kind = video_id_of(video_id), class_name(row.get("class", "")), row.get("kind", "")
            suggestions.append(
                {
                    "key": f"{video_id}|{row.get('time', '')}|{label}|{kind}"[:500],
                    "video_id": video_id,
                    "time": seconds,
                    "class": label,
                    "kind": kind,
                    "score": finite_number(row.get("score")),
                }
            )
    if problems:
        raise ProblemsError(str(path), problems)
    return suggestions
