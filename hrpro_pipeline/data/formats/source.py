"""A file of labels, opened safely: text, JSON, XML or tables, whichever a format asks for."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from hrpro_pipeline.data.formats.label import id_of_media
from hrpro_pipeline.errors import HrproError, one_line

_MOST_BYTES = 256 << 20
Table = list[list[str]]


class Source:
    """A file that may hold labels; each form of its content is made when first asked for.

    All of them raise HrproError with one line for content that is not of that form.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suffix = path.suffix.lower()

    @property
    def video_id(self) -> str:
        """The video by the name of the file, for formats that name none: `a.mp4.srt` and `a.srt` are of `a`."""
        return id_of_media(self.path.stem)

    @cached_property
    def content(self) -> bytes:
        """All bytes."""
        try:
            if self.path.stat().st_size > _MOST_BYTES:
                raise HrproError(f"{self.path}: over {_MOST_BYTES >> 20} MB; expected a file of labels")
            return self.path.read_bytes()
        except FileNotFoundError:
            raise HrproError(f"{self.path}: no such file; expected a file of labels") from None
        except OSError as error:
            raise HrproError(f"{self.path}: cannot be read ({one_line(error)}); expected a file of labels") from None

    @cached_property
    def text(self) -> str:
        """UTF-8, or UTF-16 with its mark; lines end with a line feed."""
        is_wide = self.content.startswith((b"\xff\xfe", b"\xfe\xff"))
        try:
            text = self.content.decode("utf-16" if is_wide else "utf-8-sig")
        except UnicodeDecodeError as error:
            raise HrproError(f"{self.path}: not text in UTF-8 ({one_line(error, 80)}); save it as UTF-8") from None
        return text.replace("\r\n", "\n").replace("\r", "\n")

    @property
    def start(self) -> str:
        """The first characters of the text; empty for a file that is not text."""
        try:
            return self.text[:4096].lstrip()
        except HrproError:
            return ""

    def mentions(self, *words: str) -> bool:
        """Whether all words are somewhere in the text."""
        return bool(self.start) and all(word in self.text for word in words)

    @cached_property
    def json(self) -> Any:
        """The content of a JSON file."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, lists in lists in lists
            raise HrproError(f"{self.path}: not JSON that can be read ({one_line(error, 80)})") from None

    @cached_property
    def xml(self) -> Element:
        """The root of an XML file, without entities and document types of its own."""
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import fromstring

        try:
            root: Element = fromstring(self.content, forbid_dtd=True)
        except DefusedXmlException:
            raise HrproError(f"{self.path}: XML that defines entities, which is not read; export it again") from None
        except (ParseError, ValueError, LookupError, RecursionError) as error:
            raise HrproError(f"{self.path}: not XML that can be read ({one_line(error, 80)})") from None
        return root

    @cached_property
    def tables(self) -> list[Table]:
        """The rows of a CSV or TSV file, or of each sheet of an Excel file; cells are text without margins."""
        if self.suffix == ".xlsx":
            return list(self._sheets())
        lines = self.text.split("\n", 60)[:60]
        mark = max(",\t;", key=lambda mark: max((line.count(mark) for line in lines), default=0))
        reader = csv.reader(io.StringIO(self.text), delimiter=mark)
        try:
            return [[[cell.strip() for cell in row] for row in reader]]
        except csv.Error as error:
            raise HrproError(f"{self.path}, line {reader.line_num}: not CSV that can be read ({error})") from None

    def _sheets(self) -> Iterator[Table]:
        import openpyxl

        try:
            with zipfile.ZipFile(io.BytesIO(self.content)) as parts:
                if sum(part.file_size for part in parts.infolist()) > _MOST_BYTES:
                    raise HrproError(f"{self.path}: over {_MOST_BYTES >> 20} MB unpacked; expected a file of labels")
            book = openpyxl.load_workbook(io.BytesIO(self.content), read_only=True, data_only=True)
            for sheet in book.worksheets:
                yield [["" if cell is None else str(cell).strip() for cell in row] for row in sheet.values]
        except HrproError:
            raise
        except Exception as error:  # noqa: BLE001 - a damaged workbook raises anything, from KeyError on
            raise HrproError(f"{self.path}: not an Excel file that can be read ({one_line(error, 80)})") from None
