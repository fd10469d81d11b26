"""Feature rows of a video under way: those of more than a few minutes are kept in a temporary file."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from hrpro_pipeline.errors import HrproError

# Rows in memory: 4 MB of 1024 float32 numbers each, 11 minutes of video.
_BLOCK = 1024


class Rows:
    """Rows [D] of one type, given one by one. The file has no name, and is deleted with the last array of it."""

    def __init__(self) -> None:
        self._block: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        self._width, self._dtype = 0, np.dtype(np.float32)

    def append(self, row: np.ndarray) -> None:
        """Add a row. Raises HrproError if the temporary folder has no room."""
        self._width, self._dtype = len(row), row.dtype
        self._block.append(row)
        if len(self._block) == _BLOCK:
            self._spill()

    def array(self) -> np.ndarray:
        """All rows, [T, D], mapped from the file if there is one.

        Raises:
            HrproError: as `append`.
            ValueError: no rows.
        """
        if self._file is None:
            return np.stack(self._block)
        if self._block:
            self._spill()
        with _advice_on_room():
            return np.asarray(np.memmap(self._file, self._dtype, "c")).reshape(-1, self._width)

    def _spill(self) -> None:
        with _advice_on_room():
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="hrpro-")  # noqa: SIM115  the array reads from it
            self._file.write(np.stack(self._block).data)
            self._file.flush()
        self._block.clear()


@contextmanager
def _advice_on_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HrproError(
            f"temporary files: {error.strerror}; make room in the temporary folder, or set TMPDIR to another"
        ) from None
