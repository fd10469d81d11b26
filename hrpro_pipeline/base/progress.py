"""Log lines and progress of a command on standard error.

On a terminal progress is a bar that is gone in the end; elsewhere a few log lines; as JSON, events among the log lines.
Nothing heavy is imported before there is a bar to show.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hrpro_pipeline.base import launch

if TYPE_CHECKING:
    from rich.progress import TaskID

log = logging.getLogger(__name__)

FORMATS = ("text", "json")
FORMAT_VARIABLE = "HRPRO_LOG_FORMAT"

# Seconds between events of a task as JSON.
_JSON_SECONDS = 1.0
# Without a terminal: a line for each tenth of a task, but not sooner, and at the latest after so many seconds.
_TENTH_SECONDS, _LINE_SECONDS = 5.0, 30.0

Item = TypeVar("Item")


class Task:
    """Something that is counted while it goes on: `done` of `total` units (0: not known). `progress` makes it.

    Attributes:
        note: what to show beside the numbers.
        minor: within another task, or over soon as a rule: only a long wait is worth a line.
        video_id: the video that it is about, if it is about one.
    """

    def __init__(
        self, description: str, total: float, unit: str, done: float, minor: bool, video_id: str | None, depth: int
    ) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self.minor, self.video_id, self.depth = minor, video_id, depth
        self.note = ""
        self.row: TaskID | None = None
        self.reported_at = self.reported_done = 0.0
        self._started = self._moved_at = time.monotonic()
        self._skipped = done
        self._videos: dict[str, Task] = {}

    def update(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """So much is done now. May be called from any thread."""
        with _lock:
            if done != self.done:
                self._moved_at = time.monotonic()
            self.done = done
            self.total = self.total if total is None else total
            self.note = self.note if note is None else note
            _display.update(self)

    def advance(self, note: str | None = None) -> None:
        """One more is done."""
        self.update(self.done + 1, note=note)

    def each(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items; each is done when the next one is asked for."""
        for item in items:
            yield item
            self.advance()

    def skip(self) -> None:
        """One more need not be done; it says nothing about the rate."""
        self._skipped += 1
        self.advance()

    def video(self, video_id: str, done: float, total: float, unit: str) -> None:
        """How far one of several videos is, below this task. May be called from any thread."""
        with _lock:
            if video_id not in self._videos:
                task = Task(self.description, total, unit, 0, True, video_id, self.depth + 1)
                _display.begin(task)
                self._videos[video_id] = task
            self._videos[video_id].update(done, total)

    def end_video(self, video_id: str) -> None:
        """No more news of a video, if there have been any."""
        with _lock:
            if (task := self._videos.pop(video_id, None)) is not None:
                _display.end(task)

    @property
    def elapsed(self) -> float:
        """Seconds since the task began."""
        return time.monotonic() - self._started

    @property
    def rate(self) -> float | None:
        """Units a second, from the beginning to the last that was done; None before the first."""
        worked, seconds = self.done - self._skipped, self._moved_at - self._started
        return worked / seconds if worked > 0 and seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None before there is one, and without a total."""
        if self.rate is None or not self.total:
            return None
        return max(0.0, (self.total - self.done) / self.rate - (time.monotonic() - self._moved_at))

    @property
    def rate_text(self) -> str:
        """Such as 12.3 frames/s."""
        if self.rate is None:
            return ""
        digits = ".0f" if self.rate >= 100 else ".1f" if self.rate >= 10 else ".2g"
        return f"{self.rate:{digits}} {self.unit}/s"

    @property
    def left_text(self) -> str:
        """Such as 0:01:20 left."""
        return "" if self.seconds_left is None else f"{_clock(self.seconds_left)} left"

    @property
    def count_text(self) -> str:
        """Such as 12 of 80 videos."""
        return f"{self.done:.0f} of {self.total_text}" if self.total else f"{self.done:.0f} {self.unit}"

    @property
    def total_text(self) -> str:
        """Such as 80 videos, or 1 video."""
        return f"{self.total:.0f} {self.unit.removesuffix('s') if self.total == 1 else self.unit}"

    @property
    def name(self) -> str:
        """What the task does, and with which video."""
        return f"{self.description}, {self.video_id}" if self.video_id else self.description


@contextmanager
def progress(description: str, total: float, unit: str, *, done: float = 0, minor: bool = False) -> Iterator[Task]:
    """Show how far something is while the block runs.

    A task inside another one is shown below it. Of the processes that torchrun started only the first one shows any.

    Args:
        unit: what is counted, in the plural; rates are in units a second.
        done: what an earlier run has done already.
        minor: over soon as a rule.
    """
    global _display
    outermost = not _open
    if outermost:
        _display = _choose()
    task = Task(description, total, unit, done, minor or bool(_open), None, len(_open))
    _open.append(task)
    try:
        with _lock:
            _display.begin(task)
        yield task
    finally:
        _open.remove(task)
        with _lock:
            _display.end(task)
            if outermost:
                _display.close()
                _display = _Nothing()


def say(text: str) -> None:
    """A result for standard output, above the bar where both are on a terminal."""
    if isinstance(_display, _Bar) and sys.stdout.isatty():
        _display.above(text)
    else:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def set_up_logging(style: str, reword: Callable[[str], str] = str) -> None:
    """Send log lines to standard error, as text or as JSON. Processes of torchrun other than the first are silent.

    Args:
        reword: turns what the functions below say into the words of the command line.
    """
    global _json
    _json = style == "json"
    handler = _Handler()
    handler.setFormatter(_JsonFormatter(reword) if _json else _TextFormatter(reword))
    level = logging.ERROR if launch.rank() > 0 else logging.INFO
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("hrpro_pipeline").setLevel(level)  # of other packages only what needs a look
    logging.captureWarnings(True)


def about(event: str, **fields: Any) -> dict[str, Any]:
    """`extra` of a log call: what the line has as JSON beside its text."""
    return {"fields": {"event": event, **fields}}


class _Handler(logging.Handler):
    """Writes above the bar while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if isinstance(_display, _Bar):
            _display.above(text)
        else:
            with suppress(OSError):  # work goes on where nobody listens any more
                sys.stderr.write(text + "\n")  # whatever it is now: a program may have replaced it
                sys.stderr.flush()


class _TextFormatter(logging.Formatter):
    """The message alone."""

    def __init__(self, reword: Callable[[str], str]) -> None:
        super().__init__("%(message)s")
        self._reword = reword

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  of the base class
        return self._reword(super().formatMessage(record))


class _JsonFormatter(logging.Formatter):
    """One object a line: time, level, message, and the fields of `about`."""

    def __init__(self, reword: Callable[[str], str]) -> None:
        super().__init__()
        self._reword = reword

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": self._reword(record.getMessage()),
            **{name: self._reword(value) if isinstance(value, str) else value for name, value in fields.items()},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Display(Protocol):
    """Where progress is shown."""

    def begin(self, task: Task) -> None: ...
    def update(self, task: Task) -> None: ...
    def end(self, task: Task) -> None: ...
    def close(self) -> None: ...


class _Nothing:
    """There is no task, or this process is to be silent."""

    def begin(self, task: Task) -> None:
        pass

    update = end = begin

    def close(self) -> None:
        pass


class _Lines:
    """Log lines; as text few, as JSON one a second."""

    def begin(self, task: Task) -> None:
        task.reported_at, task.reported_done = time.monotonic(), task.done
        if _json:
            self._event(task, "begun")
        elif not task.minor:
            before = f", {task.done:.0f} of them done before" if task.done else ""
            log.info("%s: %s%s", task.name, task.total_text, before)

    def update(self, task: Task) -> None:
        waited = time.monotonic() - task.reported_at
        if _json:
            due = waited >= _JSON_SECONDS
        else:
            tenth = not task.minor and 0 < task.total / 10 <= task.done - task.reported_done
            due = waited >= (_TENTH_SECONDS if tenth else _LINE_SECONDS)
        if due:
            task.reported_at, task.reported_done = time.monotonic(), task.done
            self._event(task, "running")

    def end(self, task: Task) -> None:
        if _json:
            self._event(task, "ended")
        elif not task.minor:
            log.info("%s: %s in %s", task.name, task.count_text, _clock(task.elapsed))

    def close(self) -> None:
        pass

    def _event(self, task: Task, state: str) -> None:
        parts = (task.count_text, task.rate_text, task.left_text, task.note)
        fields = {
            "task": task.description,
            "state": state,
            "done": round(task.done, 3),
            "total": round(task.total, 3),
            "unit": task.unit,
            "rate": None if task.rate is None else round(task.rate, 4),
            "elapsed": round(task.elapsed, 3),
            "seconds_left": None if task.seconds_left is None else round(task.seconds_left, 1),
        }
        if task.note:
            fields["note"] = task.note
        if task.video_id is not None:
            fields["video_id"] = task.video_id
        log.info("%s: %s", task.name, ", ".join(filter(None, parts)), extra=about("progress", **fields))


class _Bar:
    """Bars on a terminal, a row for each task."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        def text(of: str) -> TextColumn:
            return TextColumn("{task.fields[shown_task]." + of + "}", markup=False)

        console = Console(stderr=True, force_terminal=True)
        # Standard output is not the bar's: it may go to a file.
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=max(4, min(24, console.width - 84))),
            *(text("count_text"), text("rate_text"), TimeElapsedColumn(), text("left_text"), text("note")),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._bars.start()

    def begin(self, task: Task) -> None:
        name = "  " * task.depth + (task.video_id or task.description)
        task.row = self._bars.add_task(name, total=None, shown_task=task)
        self.update(task)

    def update(self, task: Task) -> None:
        assert task.row is not None
        self._bars.update(task.row, completed=task.done, total=task.total or None)

    def end(self, task: Task) -> None:
        if task.row in self._bars.task_ids:
            assert task.row is not None
            self._bars.remove_task(task.row)

    def close(self) -> None:
        self._bars.stop()

    def above(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _choose() -> _Display:
    if launch.rank() > 0:
        return _Nothing()
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return _Bar() if is_terminal and not _json else _Lines()


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


# What this process shows now. There is one standard error, so there is one of these.
_lock = threading.RLock()
_json = False
_display: _Display = _Nothing()
_open: list[Task] = []
