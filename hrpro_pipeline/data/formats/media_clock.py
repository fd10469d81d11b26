"""Several media files that play one after another on one running clock, as BORIS has them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class MediaClock:
    """Files of one player on one clock.

    Attributes:
        files: their names, in the order in which they play.
        lengths: of each file in seconds; None where nobody says it.
        offset: the clock's time, in seconds, at which the first file starts.
    """

    files: tuple[str, ...]
    lengths: tuple[float | None, ...]
    offset: float = 0.0

    def parts(self, start: float, end: float | None) -> Iterator[tuple[str, float, float | None]]:
        """The file of a time, or each file that a segment reaches into, with its own seconds.

        Raises:
            ValueError: the length of a file before that time is not known.
        """
        start, end = start - self.offset, None if end is None else end - self.offset
        for file, first, last in self._spans():
            if end is None:
                if start < last:
                    yield file, start - first, None
                    return
            elif first < end and start < last:
                yield file, max(start, first) - first, min(end, last) - first

    def _spans(self) -> Iterator[tuple[str, float, float]]:
        """Each file with the seconds at which it starts and ends, from the offset on; the last one never ends."""
        first = 0.0
        for number, file in enumerate(self.files):
            if number == len(self.files) - 1:
                yield file, first, math.inf
                return
            length = self.lengths[number] if number < len(self.lengths) else None
            if length is None:
                raise ValueError(f"the length of {file} is not known, so that times in the next file are not, either")
            yield file, first, first + length
            first += length
