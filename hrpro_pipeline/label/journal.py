"""A journal of changes: a line of JSON for each, on disk before anybody hears of it."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from hrpro_pipeline.errors import HrproError

SCHEMA = "hrpro.label/1"


class Journal:
    """The journal of one file of points. It is locked, so that two servers do not write the same points.

    Attributes:
        entries: all lines that it has, the oldest one first.
        modified_ns: when it was last written before it was opened.

    Raises:
        HrproError: another process has it open, it cannot be written, or it is no journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        except OSError as error:
            raise HrproError(
                f"{path}: cannot be written ({error.strerror}); choose another place by `points`"
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise HrproError(
                f"{path}: another `hrpro label` has these points open; use its page, or end it first"
            ) from None
        self.modified_ns = os.fstat(self._file.fileno()).st_mtime_ns
        self.entries = self._read()

    def _read(self) -> list[dict[str, Any]]:
        """The complete lines; a last one that was cut off is removed."""
        data = self._file.read()
        complete = data.rfind(b"\n") + 1
        if complete < len(data):
            self._file.truncate(complete)
            self._file.seek(complete)
        entries = []
        for number, line in enumerate(data[:complete].split(b"\n")[:-1], start=1):
            try:
                entry = json.loads(line)
                if not isinstance(entry, dict) or not isinstance(entry["changes"], list) or "do" not in entry:
                    raise ValueError("not an entry")
                if number == 1 and entry.get("schema") != SCHEMA:
                    raise ValueError(f"expected schema {SCHEMA}")
            except (ValueError, KeyError, RecursionError) as error:
                self._file.close()
                raise HrproError(
                    f"{self.path}, line {number}: not a journal that can be read ({error}); move it away to start a "
                    "new one (the points stay, undo starts anew)"
                ) from None
            entries.append(entry)
        return entries

    def append(self, entry: dict[str, Any]) -> None:
        """Write an entry; it is on disk when this returns. Raises OSError, and the journal is as it was."""
        if not self.entries:
            entry = {"schema": SCHEMA} | entry
        place = self._file.seek(0, os.SEEK_END)
        data = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) or 0 :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(place)
            raise
        self.entries.append(entry)

    def close(self) -> None:
        """Close the file, which ends the lock."""
        self._file.close()
