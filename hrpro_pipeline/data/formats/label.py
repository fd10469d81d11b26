"""What all formats of labels come to: labels in seconds, and what a file does not say itself."""

import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hrpro_pipeline.data.files import is_safe_id, video_id_of
from hrpro_pipeline.data.formats.names import ClassFrom
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.errors import HrproError, ProblemsError

log = logging.getLogger(__name__)

_ROUNDING = 1e-3  # s; what a difference of clocks may be below 0
# Characters that no line of text and no XML may hold.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_MOST_PROBLEMS = 20  # that are worth reading; the rest is counted


@dataclass(frozen=True)
class Label:
    """One label of a video: a segment in seconds, or a point where `end_seconds` is None.

    Attributes:
        label: the class.
        subject: who acts, where the tool knows.
        comment: free text of the person who labeled.
        score: of a detection.
    """

    video_id: str
    label: str
    start_seconds: float
    end_seconds: float | None
    subject: str = ""
    comment: str = ""
    score: float | None = None

    @property
    def is_point(self) -> bool:
        """Whether the label has no length."""
        return self.end_seconds is None

    @property
    def last_seconds(self) -> float:
        """The end of a segment; a point's own place."""
        return self.start_seconds if self.end_seconds is None else self.end_seconds

    @property
    def middle_seconds(self) -> float:
        """The middle of a segment; a point's own place."""
        return (self.start_seconds + self.last_seconds) / 2


@dataclass(frozen=True)
class Hints:
    """What a file of labels does not say; None where the user does not, either.

    Attributes:
        fps: frames a second, for formats that count frames.
        class_from: whether ELAN's tiers or the values in them are the classes.
    """

    fps: float | None = None
    class_from: ClassFrom | None = None

    def needed_fps(self, path: Path) -> float:
        """The frame rate. Raises HrproError where nobody says it."""
        if self.fps is None:
            raise HrproError(
                f"{path}: counts frames and does not say how many make a second; give `fps` to `hrpro convert`"
            )
        return self.fps


@dataclass
class Found:
    """The labels of a file while it is read, its problems, and how many entries of a kind were left out."""

    path: Path
    labels: list[Label] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        place: str,
        video: Any,
        label: Any,
        start: Any,
        end: Any = None,
        *,
        subject: Any = "",
        comment: Any = "",
        score: Any = None,
    ) -> None:
        """Add a label, or the problem that it has; without `end`, or with one at `start`, it is a point.

        Args:
            place: where in the file it is, for the problem.
            video: name, path or address of the video.
        """
        video_id = id_of_media(video)
        start_seconds, end_seconds = finite_number(start), finite_number(end)
        if start_seconds is not None:
            start_seconds = 0.0 if -_ROUNDING < start_seconds < 0 else round(start_seconds, 6)
        if end_seconds is not None:
            end_seconds = round(end_seconds, 6)
        name = class_name(one_line_text(label))
        if not video_id:
            self.problems.append(f"{place}: names no video ({short(video)})")
        elif not name:
            self.problems.append(f"{place}: class is {short(label)}; expected a name")
        elif start_seconds is None or start_seconds < 0:
            self.problems.append(f"{place}: time is {short(start)}; expected seconds of at least 0")
        elif end is not None and (end_seconds is None or end_seconds < start_seconds):
            self.problems.append(f"{place}: end is {short(end)}; expected seconds from {start_seconds:g} on")
        else:
            end_seconds = None if end_seconds == start_seconds else end_seconds
            who, text = one_line_text(subject), one_line_text(comment)
            self.labels.append(Label(video_id, name, start_seconds, end_seconds, who, text, finite_number(score)))

    def done(self) -> list[Label]:
        """The labels in the order of the file; says in the log what was left out.

        Raises:
            ProblemsError: everything that is wrong.
            HrproError: no label.
        """
        if self.problems:
            more = len(self.problems) - _MOST_PROBLEMS
            rest = [f"... and {more} more"] if more > 0 else []
            raise ProblemsError(str(self.path), [*self.problems[:_MOST_PROBLEMS], *rest])
        if not self.labels:
            kinds = "".join(f"; {count} {kind} cannot be read" for kind, count in (+self.left_out).items())
            raise HrproError(f"{self.path}: no labels in it; expected at least one{kinds}")
        for kind, count in (+self.left_out).items():
            log.warning("%s: %d %s left out", self.path, count, kind)
        return self.labels


def short(value: Any) -> str:
    """A value for an error, at most 60 characters of it."""
    return f"{value!r:.60}" if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"


def one_line_text(value: Any) -> str:
    """Text without breaks and characters that cannot be written; empty for anything but text."""
    return _CONTROL.sub("", " ".join(value.split())) if isinstance(value, str) else ""


def id_of_media(name: Any) -> str:
    """The id of a video by its name, path or address, as a tool writes it; empty where there is none."""
    if not isinstance(name, str):
        return ""
    text = name.strip()
    if "://" in text or text.startswith(("file:", "/data/")):
        try:
            parts = urlsplit(text)
        except ValueError:  # brackets that are no address
            return ""
        # Label Studio serves files of a disk at /data/local-files/?d=folder/name.
        text = unquote(parse_qs(parts.query).get("d", [parts.path])[0])
    base = PurePosixPath(text.replace("\\", "/")).name
    try:
        video_id = video_id_of(base.replace("\0", ""))
    except HrproError:
        return ""
    return video_id if is_safe_id(video_id) else ""
