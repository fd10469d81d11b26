"""First bytes and length of a media file by its own structure, before any decoder is trusted with it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# First bytes of files of containers with an index. All versions of FFmpeg take a file that starts so for that
# container, and never for a play list or another text that names files and addresses.
_FIRST_BYTES = {
    "mov": re.compile(rb"(?=.{0,3}\0).{4}(ftyp|moov|mdat|wide|free|skip)", re.DOTALL),
    "matroska": re.compile(rb"\x1a\x45\xdf\xa3"),
    "avi": re.compile(rb"RIFF.{4}AVI ", re.DOTALL),
    "flv": re.compile(rb"FLV\x01"),
    "asf": re.compile(rb"\x30\x26\xb2\x75"),
}

# By so much writers get lengths wrong.
_SLACK_BYTES = 16

# Parts of a file that are read: a day of fragments of a second.
_MAX_PARTS = 200_000


def starts_as(path: Path, container: str) -> bool:
    """Whether a file starts as those of a container with an index do; False for containers without one.

    Args:
        container: FFmpeg's name, such as "matroska,webm".
    """
    expected = _FIRST_BYTES.get(container.split(",")[0])
    with path.open("rb") as file:
        return expected is not None and expected.match(file.read(16)) is not None


def cut_off(path: Path, container: str) -> str | None:
    """By how much a file is shorter than it says, in words; None if it is not, or says nothing about its length."""
    part_ends = {"mov": _mov_part_ends, "matroska": _matroska_part_ends, "avi": _avi_part_ends}.get(
        container.split(",")[0]
    )
    if part_ends is None:
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        end = max(part_ends(file), default=0)
    return f"cut off: {size} of {end} bytes" if end > size + _SLACK_BYTES else None


def _mov_part_ends(file: BinaryIO) -> Iterator[int]:
    """Ends of an MP4 or MOV file's boxes that hold data, in bytes from the start."""
    start = 0
    for _ in range(_MAX_PARTS):
        head = _read_at(file, start, 16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if len(head) < 8 or length < 8:
            return
        start += length
        if kind in (b"moov", b"moof", b"mdat"):
            yield start


def _matroska_part_ends(file: BinaryIO) -> Iterator[int]:
    """End of the segment in bytes from the start; nothing where its length was not known (live streams)."""
    length, start = _matroska_length(_read_at(file, 4, 8), 4)
    head = _read_at(file, start + length, 12)
    if head[:4] == b"\x18\x53\x80\x67" and len(head) == 12:
        length, start = _matroska_length(head[4:], start + length + 4)
        yield start + length


def _matroska_length(data: bytes, start: int) -> tuple[int, int]:
    """A length of one to eight bytes at `start`, 0 if unknown; and where it ends."""
    first = data[0] if data else 0
    width = 9 - first.bit_length() if first else 8
    value = int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), start + width


def _avi_part_ends(file: BinaryIO) -> Iterator[int]:
    """Ends of an AVI file's RIFF chunks, in bytes from the start."""
    start = 0
    for _ in range(_MAX_PARTS):
        head = _read_at(file, start, 8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # the latter were never filled in
            return
        start += 8 + length + length % 2
        yield start


def _read_at(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(min(start, os.fstat(file.fileno()).st_size))
    return file.read(count)
