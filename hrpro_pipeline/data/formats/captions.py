"""Captions, WebVTT and SRT: each cue is a segment of the class that its first line names. And YouTube's chapters."""

import html
import re
from collections.abc import Callable, Sequence

from hrpro_pipeline.data.formats.label import Found, Hints, Label
from hrpro_pipeline.data.formats.source import Source

_TIMES = re.compile(r"^\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\s*-->\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})")
_TAG = re.compile(r"<[^<>]{0,200}>")
_SRT_TAG = re.compile(r"</?(?:[bius]|font(?: [^<>]{0,200})?)>", re.IGNORECASE)
_LEAST_CHAPTERS, _LEAST_CHAPTER_SECONDS = 3, 10.0  # what YouTube accepts


def matches_vtt(source: Source) -> bool:
    """Whether a file is WebVTT."""
    return source.start.startswith("WEBVTT")


def matches_srt(source: Source) -> bool:
    """Whether a file is SRT: a number, a line of times, text."""
    return re.match(r"\d+[ \t]*\n\s*\d+:\d{2}:\d{2}[,.]\d{1,3}\s*-->", source.start) is not None


def read_vtt(source: Source, hints: Hints) -> list[Label]:
    """The cues of the video of the file's name."""
    return _read(source, lambda text: html.unescape(_TAG.sub("", text)))


def read_srt(source: Source, hints: Hints) -> list[Label]:
    """The cues of the video of the file's name."""
    return _read(source, lambda text: _SRT_TAG.sub("", text))


def _read(source: Source, plain: Callable[[str], str]) -> list[Label]:
    found = Found(source.path)
    lines = source.text.split("\n")
    number = 0
    while number < len(lines):
        times = _TIMES.match(lines[number])
        number += 1
        if times is None:
            if "-->" in lines[number - 1]:
                found.problems.append(
                    f"line {number}: times are {lines[number - 1][:60]!r}; expected 00:00:01.000 --> 00:00:02.500"
                )
            continue
        place, text = f"line {number}", []
        while number < len(lines) and lines[number].strip():
            text.append(plain(lines[number]))
            number += 1
        start, end = (_seconds(times[index]) for index in (1, 2))
        found.add(place, source.video_id, text[0] if text else "", start, end, comment=" ".join(text[1:]))
    return found.done()


def _seconds(text: str) -> float:
    *hours, minutes, seconds = map(float, text.replace(",", ".").split(":"))
    return 3600 * sum(hours) + 60 * minutes + seconds


def _clock(seconds: float, mark: str) -> str:
    thousandths = round(seconds * 1000)
    whole, rest = divmod(thousandths, 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{mark}{rest:03d}"


def _cue(label: Label, mark: str, text: Callable[[str], str]) -> str:
    times = f"{_clock(label.start_seconds, mark)} --> {_clock(label.last_seconds, mark)}"
    return "\n".join([times, text(label.label), *([text(label.comment)] if label.comment else [])])


def render_vtt(labels: Sequence[Label], hints: Hints) -> str:
    """The cues of one video."""
    cues = [_cue(label, ".", lambda text: html.escape(text, quote=False)) for label in labels]
    return "\n\n".join(["WEBVTT", *cues]) + "\n"


def render_srt(labels: Sequence[Label], hints: Hints) -> str:
    """The numbered cues of one video."""
    cues = (_cue(label, ",", lambda text: text.replace("-->", "->")) for label in labels)
    return "\n\n".join(f"{number}\n{cue}" for number, cue in enumerate(cues, start=1)) + "\n"


def render_chapters(labels: Sequence[Label], hints: Hints) -> str:
    """The chapters of one video for YouTube: starts alone, the first at 0:00, 10 s and more from each other."""
    chapters: list[tuple[int, str]] = []
    for label in sorted(labels, key=lambda label: label.start_seconds):
        start = int(label.start_seconds)
        if not chapters and start > 0:
            if start < _LEAST_CHAPTER_SECONDS:
                start = 0
            else:
                chapters.append((0, "Start"))
        if not chapters or start - chapters[-1][0] >= _LEAST_CHAPTER_SECONDS:
            chapters.append((start, label.label))
    return "".join(f"{_chapter_time(start)} {name}\n" for start, name in chapters)


def _chapter_time(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
