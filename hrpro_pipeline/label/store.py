"""What people labeled: points, done videos, keys of classes and answers; every change on disk, undone and redone.

The state is four tables of values by key. A change names a table, a key, the value before and the value after; it holds
only if the value is still the one before, so that two pages never overwrite each other, and undoing it is the same
change the other way round.
"""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any
from uuid import uuid4

from hrpro_pipeline.data.files import is_safe_id, write_text
from hrpro_pipeline.data.names import class_name, visible
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.label.files import done_path, point_value, read_done, read_point_values, render_done, render_points
from hrpro_pipeline.label.journal import Journal

log = logging.getLogger(__name__)

TABLES = ("points", "done", "classes", "answers")
_MOST_CHARACTERS = {"class": 200, "note": 2000}
_SETTLING_SECONDS, _MOST_SETTLING_SECONDS = 0.1, 2.0
_MOST_CHANGES = 100_000  # in one step: a class of so many points can be renamed


class ConflictError(HrproError):
    """The value has changed since the page last heard of it."""


@dataclass(frozen=True)
class Change:
    """A value of a table before and after; None where it is not there."""

    table: str
    key: str
    before: Any
    after: Any

    @property
    def reverse(self) -> "Change":
        return Change(self.table, self.key, self.after, self.before)

    def as_json(self) -> dict[str, Any]:
        return {"table": self.table, "key": self.key, "before": self.before, "after": self.after}


class LabelStore:
    """The labels in a points CSV, and beside it what was labeled there: `.done` and `.journal`.

    Attributes:
        tables: `points` by id, `done` (True) by video id, `classes` ({"key": letter}) by name, `answers` by suggestion.
        sequence: number of the last entry of the journal.

    Raises:
        HrproError: files that cannot be read or written, or that another process labels.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done_path = done_path(path)
        self.tables: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
        self._undone: list[list[Change]] = []
        self._history: list[list[Change]] = []
        self._lock = threading.RLock()
        self._seen: dict[Path, tuple[int, ...] | None] = {}
        if path.exists():
            read_point_values(path)  # says what is wrong before a journal appears beside it
        self._journal = Journal(path.with_name(f"{path.name}.journal"))
        try:
            self._replay()
            self._meet_files()
        except BaseException:
            self._journal.close()
            raise

    @property
    def sequence(self) -> int:
        return len(self._journal.entries)

    def close(self) -> None:
        """Close the journal; another process can then label."""
        with self._lock:
            self._journal.close()

    def snapshot(self) -> dict[str, Any]:
        """All tables, the number of the last change, and how much can be undone and redone."""
        with self._lock:
            return {"tables": {name: dict(table) for name, table in self.tables.items()}, **self._position()}

    def since(self, sequence: int) -> dict[str, Any]:
        """The changes after an entry, whoever made them, files changed by hand among them."""
        with self._lock:
            self.look()
            entries = self._journal.entries[max(0, sequence) :]
            return {"entries": [{"do": item["do"], "changes": item["changes"]} for item in entries], **self._position()}

    def change(self, changes: Sequence[Change]) -> None:
        """Make changes together; they are on disk when this returns. What is so already is left alone.

        Raises:
            ConflictError: a value is no longer the one before.
            HrproError: a value that cannot be, or files that cannot be written.
        """
        if len(changes) > _MOST_CHANGES:
            raise HrproError(f"{len(changes)} changes at once; expected at most {_MOST_CHANGES}")
        changes = [_checked(change) for change in changes]
        with self._lock:
            self.look()
            changes = [item for item in changes if self.tables[item.table].get(item.key) != item.after]
            for item in changes:
                if self.tables[item.table].get(item.key) != item.before:
                    raise ConflictError(f"{_described(item)}: it was changed elsewhere meanwhile; look again")
            # Keys of classes are settings: undoing leaves them alone.
            if changes:
                self._commit("change" if any(item.table != "classes" for item in changes) else "settings", changes)

    def undo(self) -> list[Change]:
        """Take the last change back -> what changed; nothing where there is none, or its values are others by now."""
        with self._lock:
            self.look()
            return self._go("undo", [item.reverse for item in reversed(self._history[-1])]) if self._history else []

    def redo(self) -> list[Change]:
        """Make the change again that was taken back last."""
        with self._lock:
            self.look()
            return self._go("redo", self._undone[-1]) if self._undone else []

    def look(self) -> None:
        """Take over what was changed in the files by hand. Raises HrproError where they cannot be read."""
        with self._lock:
            for path, read, name in self._files():
                if path.exists() and _status(path) != self._seen.get(path):
                    seen = _settled(path)
                    changes = _differences(name, self.tables[name], read(path))
                    if changes:
                        log.info("%s was changed meanwhile: %d changes taken over", path, len(changes))
                        self._record("reload", changes)
                    self._seen[path] = seen

    def _position(self) -> dict[str, Any]:
        return {"sequence": self.sequence, "undo": len(self._history), "redo": len(self._undone)}

    def _files(self) -> tuple[tuple[Path, Callable[[Path], Any], str], ...]:
        return (self.path, read_point_values, "points"), (self.done_path, read_done, "done")

    def _go(self, do: str, changes: list[Change]) -> list[Change]:
        """Undo or redo; what was changed by hand since is left as it is."""
        changes = [item for item in changes if self.tables[item.table].get(item.key) == item.before]
        self._commit(do, changes)
        return changes

    def _commit(self, do: str, changes: list[Change]) -> None:
        """Journal, state, files, in this order: a process killed in between finds the change in the journal."""
        try:
            self._record(do, changes)
            self._write({item.table for item in changes})
        except OSError as error:
            raise HrproError(f"{self.path}: cannot be written ({one_line(error)}); nothing more is saved") from None

    def _record(self, do: str, changes: list[Change]) -> None:
        self._journal.append({"do": do, "changes": [item.as_json() for item in changes]})
        self._apply(do, changes)

    def _apply(self, do: str, changes: list[Change]) -> None:
        for item in changes:
            if item.after is None:
                self.tables[item.table].pop(item.key, None)
            else:
                self.tables[item.table][item.key] = item.after
        if do == "change":
            self._history.append(changes)
            self._undone.clear()
        elif do == "undo" and self._history:
            self._undone.append(self._history.pop())
        elif do == "redo" and self._undone:
            self._history.append(self._undone.pop())

    def _write(self, tables: Iterable[str]) -> None:
        for path, _, name in self._files():
            if name in tables:
                table = self.tables[name]
                write_text(path, render_points(table.values()) if name == "points" else render_done(table))
                self._seen[path] = _status(path)

    def _replay(self) -> None:
        for number, entry in enumerate(self._journal.entries, start=1):
            try:
                changes = [
                    Change(item["table"], item["key"], item["before"], item["after"]) for item in entry["changes"]
                ]
                self._apply(entry["do"], changes)
            except (KeyError, TypeError) as error:
                raise HrproError(f"{self._journal.path}, line {number}: not a change ({error}); move it away") from None

    def _meet_files(self) -> None:
        """Bring journal and files together: the last change may not have reached them, or they were changed by hand."""
        if not self.path.exists() and self.tables["points"]:
            raise HrproError(
                f"{self.path}: is gone, and {self._journal.path.name} knows {len(self.tables['points'])} points of it; "
                "put it back, or move the journal away to start anew"
            )
        for path, read, name in self._files():
            if not path.exists():
                continue
            values, table = read(path), self.tables[name]
            if differences := _differences(name, table, values):
                # Older than the journal, and as before its last change: that one had not reached it.
                is_behind = path.stat().st_mtime_ns < self._journal.modified_ns
                if is_behind and not _differences(name, self._before_last(name), values):
                    log.info("%s: the last change had not reached it; it is in the journal, and is written now", path)
                    self._write([name])
                else:
                    self._record("reload", differences)
            self._seen[path] = _status(path)

    def _before_last(self, name: str) -> dict[str, Any]:
        """A table before the journal's last entry."""
        table = dict(self.tables[name])
        for item in reversed(self._journal.entries[-1]["changes"] if self._journal.entries else []):
            if item["table"] == name and item["before"] is None:
                table.pop(item["key"], None)
            elif item["table"] == name:
                table[item["key"]] = item["before"]
        return table


def _differences(name: str, table: dict[str, Any], values: list[Any]) -> list[Change]:
    """What turns a table into the content of its file; points have no name there: equal ones are the same."""
    if name == "done":
        gone = [Change(name, key, True, None) for key in table.keys() - set(values)]
        return gone + [Change(name, key, None, True) for key in dict.fromkeys(values) if key not in table]
    new = Counter(map(_spelled, values))
    changes = []
    for key, value in table.items():
        if new[_spelled(value)] > 0:
            new[_spelled(value)] -= 1
        else:
            changes.append(Change(name, key, value, None))
    for value in values:
        if new[_spelled(value)] > 0:
            new[_spelled(value)] -= 1
            changes.append(Change(name, uuid4().hex, None, value))
    return changes


def _spelled(value: Any) -> str:
    return dumps(value, sort_keys=True)


def _settled(path: Path) -> tuple[int, ...]:
    """The status of a file that nobody is writing just now: half of one is not what somebody meant."""
    end = time.monotonic() + _MOST_SETTLING_SECONDS
    status = _status(path)
    while time.monotonic() < end:
        time.sleep(_SETTLING_SECONDS)
        last, status = status, _status(path)
        if status == last:
            break
    return status


def _status(path: Path) -> tuple[int, ...]:
    """What changes when a file does."""
    status = os.stat(path)  # noqa: PTH116
    return status.st_mtime_ns, status.st_size, status.st_ino


def _described(change: Change) -> str:
    value = change.before or change.after
    if change.table == "points" and isinstance(value, dict):
        return f"{value.get('video_id')}, {value.get('class')} at {value.get('time')} s"
    return f"{change.table} {change.key}"


def _checked(change: Change) -> Change:
    """A change as it may be stored. Raises HrproError for a value that cannot be."""
    if change.table not in TABLES or not isinstance(change.key, str) or not 0 < len(change.key) <= 500:
        raise HrproError(f"{change.table!r}, {change.key!r}: expected one of {', '.join(TABLES)} and a key")
    check = {"points": _checked_point, "done": _checked_done, "classes": _checked_class, "answers": _checked_answer}
    after = None if change.after is None else check[change.table](change.key, change.after)
    return Change(change.table, change.key, change.before, after)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > _MOST_CHARACTERS[name]:
        raise HrproError(f"{name}: expected text of at most {_MOST_CHARACTERS[name]} characters")
    return class_name(value) if name == "class" else " ".join(visible(value.replace("\n", " ")).split())


def _checked_point(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HrproError("a point: expected video_id, class, time and note")
    video_id, seconds, extra = value.get("video_id"), value.get("time"), value.get("extra", {})
    if not isinstance(video_id, str) or not is_safe_id(video_id):
        raise HrproError(f"video_id is {video_id!r}; expected a plain name")
    if not isinstance(seconds, int | float) or finite_number(seconds) is None or seconds < 0:
        raise HrproError(f"{video_id}: time is {seconds!r}; expected seconds, at least 0")
    if not (label := _text(value.get("class"), "class")):
        raise HrproError(f"{video_id}: class is empty")
    if not isinstance(extra, dict) or not all(isinstance(text, str) for text in (*extra, *extra.values())):
        raise HrproError(f"{video_id}: other columns are {extra!r}; expected text by name")
    return point_value(video_id, label, seconds, _text(value.get("note", ""), "note"), extra)


def _checked_done(key: str, value: Any) -> bool:
    if value is not True or not is_safe_id(key):
        raise HrproError(f"done of {key!r} is {value!r}; expected a video's id and true")
    return True


def _checked_class(key: str, value: Any) -> dict[str, str]:
    if _text(key, "class") != key:
        raise HrproError(f"class {key!r}: expected a name without spaces at its ends")
    letter = value.get("key") if isinstance(value, dict) else None
    if not isinstance(letter, str) or len(letter) > 1:
        raise HrproError(f"class {key}: its key is {letter!r}; expected one character, or none")
    return {"key": letter}


def _checked_answer(key: str, value: Any) -> str:
    if value not in ("yes", "no", "other", "move"):
        raise HrproError(f"answer to {key} is {value!r}; expected yes, no, other or move")
    return str(value)
