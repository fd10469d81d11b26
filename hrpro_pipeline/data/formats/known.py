"""All formats of labeling tools that are known, and which of them a file is in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrpro_pipeline.data.formats import (
    boris,
    boris_tables,
    captions,
    cvat,
    editors,
    elan,
    label_studio,
    plain_lists,
    via,
)
from hrpro_pipeline.data.formats.label import Hints, Label
from hrpro_pipeline.data.formats.source import Source
from hrpro_pipeline.errors import HrproError

Matches = Callable[[Source], bool]
Read = Callable[[Source, Hints], list[Label]]
Render = Callable[[Sequence[Label], Hints], str]


@dataclass(frozen=True)
class Format:
    """A format of labels.

    Attributes:
        title: how people call it.
        suffix: of the files that are written.
        matches, read: whether a file is in it, and its labels; None for a format that is only written.
        render: the text of a file with these labels.
        holds: what a file can hold: `points`, `segments`, `overlaps` (segments of one class that do), `subject`,
            `comment`, `score`, `videos` (several in a file). `frames`: it counts them, so that a frame rate is needed.
        point_width: seconds of the segment that stands for a point, where a format has no points but people see labels.
    """

    title: str
    suffix: str
    matches: Matches | None
    read: Read | None
    render: Render
    holds: frozenset[str]
    point_width: float = 0.0


def _holds(words: str) -> frozenset[str]:
    return frozenset(words.split())


_POINTS, _ALL = "points videos", "points segments subject comment overlaps videos"

FORMATS: dict[str, Format] = {
    "boris": Format(
        *("BORIS project", ".boris", boris.matches, boris.read, boris.render),
        _holds("points segments subject comment videos"),
    ),
    "boris-events": Format(
        *("BORIS exported events", ".csv", boris_tables.matches_events, boris_tables.read_events),
        *(boris_tables.render_events, _holds("points segments subject comment videos")),
    ),
    "boris-aggregated": Format(
        *("BORIS aggregated events", ".csv", boris_tables.matches_aggregated, boris_tables.read_aggregated),
        *(boris_tables.render_aggregated, _holds(_ALL)),
    ),
    "elan": Format(
        *("ELAN", ".eaf", elan.matches, elan.read, elan.render),
        *(_holds("segments subject comment overlaps"), 0.04),
    ),
    "via": Format(
        *("VIA 3 project", ".json", via.matches, via.read, via.render),
        _holds("points segments comment overlaps videos"),
    ),
    "via-csv": Format(
        *("VIA 3 CSV", ".csv", via.matches_csv, via.read_csv, via.render_csv),
        _holds("points segments comment overlaps videos"),
    ),
    "label-studio": Format(
        *("Label Studio", ".json", label_studio.matches, label_studio.read, label_studio.render),
        _holds("points segments overlaps score videos"),
    ),
    "cvat": Format(
        *("CVAT for images 1.1", ".xml", cvat.matches, cvat.read, cvat.render), _holds("points segments frames")
    ),
    "audacity": Format(
        *("Audacity labels", ".txt", plain_lists.matches_audacity, plain_lists.read_audacity),
        *(plain_lists.render_audacity, _holds("points segments overlaps")),
    ),
    "premiere": Format(
        *("Premiere markers", ".csv", editors.matches_premiere, editors.read_premiere, editors.render_premiere),
        _holds("points segments comment overlaps frames"),
    ),
    "resolve": Format(
        *("Resolve markers", ".edl", editors.matches_resolve, editors.read_resolve, editors.render_resolve),
        _holds("points segments overlaps frames"),
    ),
    "vtt": Format(
        *("WebVTT", ".vtt", captions.matches_vtt, captions.read_vtt, captions.render_vtt),
        *(_holds("segments comment overlaps"), 1.0),
    ),
    "srt": Format(
        *("SRT", ".srt", captions.matches_srt, captions.read_srt, captions.render_srt),
        *(_holds("segments comment overlaps"), 1.0),
    ),
    "sf-net": Format(
        *("SF-Net points", ".txt", plain_lists.matches_sf_net, plain_lists.read_sf_net, plain_lists.render_sf_net),
        _holds(_POINTS),
    ),
    "aapl": Format(
        *("AAPL points", ".csv", plain_lists.matches_aapl, plain_lists.read_aapl, plain_lists.render_aapl),
        _holds(_POINTS),
    ),
    "youtube": Format("YouTube chapters", ".txt", None, None, captions.render_chapters, _holds("points")),
}


def format_of(source: Source) -> str | None:
    """The name of the format of a tool that a file is in; None for none."""
    return next((name for name, known in FORMATS.items() if known.matches is not None and known.matches(source)), None)


def read_as(known: Format, source: Source, hints: Hints) -> list[Label]:
    """The labels of a file in a format.

    Raises:
        HrproError or ProblemsError: it cannot be read.
    """
    assert known.read is not None
    try:
        return known.read(source, hints)
    except RecursionError:
        raise HrproError(f"{source.path}: lists in lists in lists, which cannot be read") from None


def read_foreign(path: Path, hints: Hints | None = None) -> list[Label] | None:
    """The labels of a file of a labeling tool; None for any other file.

    Raises:
        HrproError or ProblemsError: the file is a tool's, and cannot be read.
    """
    source = Source(path)
    try:
        name = format_of(source)
    except HrproError:  # its own reader says what is wrong with it
        return None
    return None if name is None else read_as(FORMATS[name], source, hints or Hints())
