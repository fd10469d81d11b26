"""Tables as spreadsheets save them: their encoding, separator, decimal sign and clock times."""

import codecs
import csv
import io
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hrpro_pipeline.errors import HrproError

log = logging.getLogger(__name__)

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_REMEDY = "save it as 'CSV UTF-8' (comma delimited)"
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# More accented letters in a row are a text of another alphabet.
_FOREIGN_RUN = re.compile(r"[^\W\d_a-zA-Z]{3}")
_WESTERN = re.compile(r"[\x00-\x7fÀ-ÖØ-öø-ÿŒœŠšŸŽž‘’“”–—…°€]*")
_DECIMAL_COMMA = re.compile(r"\d+,\d+")
_CLOCK = re.compile(r"(?:(?P<hours>\d+):(?=\d?\d:))?(?P<minutes>\d+):(?P<seconds>[0-5]?\d(?:[.,]\d+)?)")


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        columns: of the header.
        rows: cells of the lines that are not blank, with the number of the line.
        separator: between the cells.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    separator: str


def read_table(path: Path, needed: Iterable[str], expected: str) -> Table:
    """Read a CSV, or a table with semicolons or tabs between its cells.

    Args:
        needed: columns by which the separator is told.
        expected: what the file should be, for errors.

    Raises:
        HrproError: no such file, an encoding that cannot be told, or no CSV.
    """
    text = _text(path, expected)
    first, _, rest = text.partition("\n")
    skipped = 0
    if (hint := re.fullmatch(r"sep=(.)\r?", first)) and hint[1] in SEPARATORS:  # as spreadsheets write
        text, skipped = rest, 1
        first = text.partition("\n")[0]
    separator = _separator(first, set(needed))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        columns = tuple(name.strip() for name in next(reader, []))
        lines = [(reader.line_num + skipped, tuple(cell.strip() for cell in cells)) for cells in reader]
    except csv.Error as error:
        raise HrproError(f"{path}, line {reader.line_num + skipped}: not CSV that can be read ({error})") from None
    return Table(columns, tuple((line, cells) for line, cells in lines if any(cells)), separator)


def _text(path: Path, expected: str) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise HrproError(f"{path}: no such file; expected {expected}") from None
    except IsADirectoryError:
        raise HrproError(f"{path}: is a folder; expected {expected}") from None
    except OSError as error:
        raise HrproError(f"{path}: cannot be read ({error}); expected {expected}") from None
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise HrproError(f"{path}: a spreadsheet, not text; {_REMEDY}; expected {expected}")
    try:
        return data.decode(_encoding(data))
    except UnicodeDecodeError:
        pass
    text = data.decode("cp1252", "replace")
    if not _WESTERN.fullmatch(text) or _FOREIGN_RUN.search(text):
        line = next(number for number, line in enumerate(data.split(b"\n"), start=1) if not _is_utf8(line))
        raise HrproError(f"{path}, line {line}: cannot be read as text (not UTF-8); {_REMEDY}; expected {expected}")
    log.warning("%s: not UTF-8, read as Windows-1252; if names look wrong, %s", path, _REMEDY)
    return text


def _encoding(data: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return encoding
    # The header's letters are of two bytes each.
    head = data[:64]
    if len(head) > 1 and not any(head[1::2]):
        return "utf-16-le"
    return "utf-16-be" if len(head) > 1 and not any(head[::2]) else "utf-8"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _separator(header: str, needed: set[str]) -> str:
    """The separator by which the header has the most of the needed columns; a comma otherwise."""

    def found(separator: str) -> int:
        try:
            names = next(csv.reader([header], delimiter=separator), [])
        except csv.Error:  # reading with any separator says what is wrong
            return 0
        return len(needed & {name.strip() for name in names})

    return max(SEPARATORS, key=found)


def has_decimal_commas(texts: Iterable[str], separator: str) -> bool:
    """Whether commas in a column of numbers are decimal commas, and nothing else.

    Examples:
        >>> has_decimal_commas(["3,5", "12"], ";"), has_decimal_commas(["3,5", "1.5"], ";")
        (True, False)
        >>> has_decimal_commas(["1,234"], ",")  # or a thousand?
        False
    """
    texts = [text for text in texts if text]
    with_comma = [text for text in texts if _DECIMAL_COMMA.fullmatch(text)]
    if any("." in text for text in texts):
        return False
    return bool(with_comma) and (separator != "," or any(len(text.partition(",")[2]) != 3 for text in with_comma))


def clock_seconds(text: str) -> float | None:
    """Seconds of a clock time as players show it, else None.

    Examples:
        >>> clock_seconds("1:02:03.4"), clock_seconds("75:30"), clock_seconds("00:01:02:12")
        (3723.4, 4530.0, None)
    """
    match = _CLOCK.fullmatch(text)
    if match is None or (match["hours"] and int(match["minutes"]) > 59):
        return None
    seconds = float(match["seconds"].replace(",", "."))
    return round(3600 * float(match["hours"] or 0) + 60 * float(match["minutes"]) + seconds, 6)
