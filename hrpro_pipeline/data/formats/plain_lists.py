"""Lists with a line for each label: Audacity's labels, and the point files of SF-Net and AAPL."""

import csv
import io
import re
from collections.abc import Sequence

from hrpro_pipeline.data.formats.label import Found, Hints, Label
from hrpro_pipeline.data.formats.source import Source
from hrpro_pipeline.data.numbers import finite_number

_AUDACITY = re.compile(r"^-?\d+(?:[.,]\d+)?\t-?\d+(?:[.,]\d+)?(?:\t.*)?$")
_AAPL_COLUMNS = ("video_id", "timestamp", "action_label")


def matches_audacity(source: Source) -> bool:
    """Whether every line is `start<TAB>end<TAB>label`."""
    lines = _lines(source)
    return bool(lines) and _AUDACITY.match(lines[0]) is not None


def _lines(source: Source) -> list[str]:
    """Lines of the first characters that are not empty."""
    return [line for line in source.start.split("\n") if line.strip()]


def read_audacity(source: Source, hints: Hints) -> list[Label]:
    """The labels of the video of the file's name; start = end is a point."""
    found = Found(source.path)
    for number, line in enumerate(source.text.split("\n"), start=1):
        cells = line.split("\t")
        if not line.strip() or cells[0] == "\\":  # the second line of a label has its frequencies
            continue
        # Some languages write a decimal comma.
        times = [cell.replace(",", ".") for cell in cells[:2]]
        name = cells[2] if len(cells) > 2 else ""
        found.add(f"line {number}", source.video_id, name, times[0], times[1] if len(times) > 1 else "nothing")
    return found.done()


def render_audacity(labels: Sequence[Label], hints: Hints) -> str:
    """The label track of one video."""
    return "".join(f"{label.start_seconds:.6f}\t{label.last_seconds:.6f}\t{label.label}\n" for label in labels)


def matches_sf_net(source: Source) -> bool:
    """Whether lines are `video,seconds,class`, without a header."""
    lines = _lines(source)
    cells = lines[0].split(",") if lines and source.suffix in (".txt", ".csv") else []
    return len(cells) == 3 and finite_number(cells[1]) is not None and finite_number(cells[2]) is None


def read_sf_net(source: Source, hints: Hints) -> list[Label]:
    """Points of SF-Net's annotators."""
    found = Found(source.path)
    for number, cells in enumerate(source.tables[0], start=1):
        if any(cells) and len(cells) != 3:
            found.problems.append(f"row {number}: {len(cells)} cells; expected video,seconds,class")
        elif any(cells):
            found.add(f"row {number}", cells[0], cells[2], cells[1])
    return found.done()


def render_sf_net(labels: Sequence[Label], hints: Hints) -> str:
    """Points without a header."""
    return _csv([[label.video_id, f"{label.start_seconds:.6f}", label.label] for label in labels])


def matches_aapl(source: Source) -> bool:
    """Whether a file is a CSV with AAPL's columns."""
    return source.start.partition("\n")[0].replace(" ", "").split(",")[:3] == list(_AAPL_COLUMNS)


def read_aapl(source: Source, hints: Hints) -> list[Label]:
    """Points of AAPL."""
    found = Found(source.path)
    for number, cells in enumerate(source.tables[0][1:], start=2):
        if any(cells) and len(cells) < len(_AAPL_COLUMNS):
            found.problems.append(f"row {number}: {len(cells)} cells; expected {','.join(_AAPL_COLUMNS)}")
        elif any(cells):
            found.add(f"row {number}", cells[0], cells[2], cells[1])
    return found.done()


def render_aapl(labels: Sequence[Label], hints: Hints) -> str:
    """Points with AAPL's header."""
    return _csv([_AAPL_COLUMNS, *([label.video_id, f"{label.start_seconds:.3f}", label.label] for label in labels)])


def _csv(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
