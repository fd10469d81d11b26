"""Moments that are worth a look: `doubts.csv` of a run, and what `hrpro suggest` writes."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hrpro_pipeline.data.files import is_safe_id, write_text
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.data.tables import read_table
from hrpro_pipeline.errors import HrproError, ProblemsError

# In a RUN folder: the doubts about the labels that it was trained on.
DOUBTS_FILE = "doubts.csv"
COLUMNS = ("video_id", "time", "class", "kind", "score", "suggested_class", "suggested_time")
# Rows with at least this score are worth the time of a look.
WORTH_A_LOOK = 0.5
# A labeled point that seems to be at a wrong place or of a wrong class; an action in a labeled video that seems to have
# no point; a likely action in a video without points.
Kind = Literal["misplaced", "forgotten", "new"]


@dataclass(frozen=True)
class Suggestion:
    """A moment to look at.

    Attributes:
        seconds, label: of the point as it is labeled, if it seems misplaced; of the action that seems to be there, if
            it is forgotten or new.
        score: how much it is worth a look, 0 to 1.
        suggested_label, suggested_seconds: what a misplaced point should rather be; empty and None for no idea.
    """

    video_id: str
    seconds: float
    label: str
    kind: Kind
    score: float
    suggested_label: str = ""
    suggested_seconds: float | None = None


def write_suggestions(path: Path, suggestions: Iterable[Suggestion]) -> None:
    """Write suggestions as CSV, atomically, in their order.

    Examples:
        >>> write_suggestions(Path("moments.csv"), [Suggestion("kitchen_01", 2.5, "pour", "forgotten", 0.91)])
        >>> print(Path("moments.csv").read_text(), end="")
        video_id,time,class,kind,score,suggested_class,suggested_time
        kitchen_01,2.500,pour,forgotten,0.9100,,
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    for item in suggestions:
        moved = "" if item.suggested_seconds is None else f"{item.suggested_seconds:.3f}"
        place = (item.video_id, f"{item.seconds:.3f}", item.label, item.kind, f"{item.score:.4f}")
        rows.writerow([*place, item.suggested_label, moved])
    write_text(path, out.getvalue())


def read_moments(path: Path) -> list[Suggestion]:
    """The moments of a file, or those of a RUN's doubts that are worth a look. Raises as `read_suggestions`."""
    if not path.is_dir():
        return read_suggestions(path)
    return [item for item in read_suggestions(path / DOUBTS_FILE) if item.score >= WORTH_A_LOOK]


def read_suggestions(path: Path) -> list[Suggestion]:
    """Read what `write_suggestions` wrote; people may have deleted or sorted lines.

    Raises:
        HrproError: not CSV, or a header without the first five columns.
        ProblemsError: every wrong line, by number.
    """
    table = read_table(path, COLUMNS, f"suggestions, a CSV with columns {','.join(COLUMNS[:5])}")
    if missing := [name for name in COLUMNS[:5] if name not in table.columns]:
        raise HrproError(f"{path}, line 1: no column {' and '.join(missing)}; expected {','.join(COLUMNS)}")
    suggestions, problems = [], []
    for line, cells in table.rows:
        content = dict(zip(table.columns, cells, strict=False))
        seconds, score = (finite_number(content.get(name, "")) for name in ("time", "score"))
        kind = content.get("kind", "")
        if not is_safe_id(content.get("video_id", "")) or not content.get("class"):
            problems.append(f"line {line}: expected a video_id and a class")
        elif seconds is None or seconds < 0 or score is None:
            problems.append(f"line {line}: expected numbers in the columns time and score")
        elif kind not in get_args(Kind):
            problems.append(f"line {line}: kind is {kind[:40]!r}; expected one of {', '.join(get_args(Kind))}")
        else:
            moved = finite_number(content.get("suggested_time", ""))
            other = content.get("suggested_class", "")
            suggestions.append(
                Suggestion(content["video_id"], seconds, content["class"], kind, score, other, moved)  # type: ignore[arg-type]
            )
    if problems:
        raise ProblemsError(str(path), problems)
    return suggestions
