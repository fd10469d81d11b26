"""What a media file's own structure says, before any decoder is trusted with it: its first bytes and its length."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# What files of containers with an index start with. FFmpeg takes a file that does so for that container, in all of
# its versions, and never for a play list or another text that names files and addresses.
_FIRST_BYTES = {
    "mov": re.compile(rb"(?=.{0,3}\0).{4}(ftyp|moov|mdat|wide|free|skip)", re.DOTALL),
    "matroska": re.compile(rb"\x1a\x45\xdf\xa3"),
    "avi": re.compile(rb"RIFF.{4}AVI ", re.DOTALL),
    "flv": re.compile(rb"FLV\x01"),
    "asf": re.compile(rb"\x30\x26\xb2\x75"),
}

# Bytes by which writers get lengths wrong.
_SLACK = 16

# Parts of a file that are looked at: a day of fragments of a second.
_MOST_PARTS = 200_000


def starts_as(path: Path, container: str) -> bool:
    """Whether a file starts as those of a container with an index do; False for containers without one.

    Args:
        container: FFmpeg's name, such as "matroska,webm".
    """
    expected = _FIRST_BYTES.get(container.split(",")[0])
    with path.open("rb") as file:
        return expected is not None and expected.match(file.read(16)) is not None


def cut_off(path: Path, container: str) -> str | None:
    """That a file is shorter than it says, in words; None if it is not, or says nothing about its length."""
    parts = {"mov": _mov_parts, "matroska": _matroska_parts, "avi": _avi_parts}.get(container.split(",")[0])
    if parts is None:
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        end = max(parts(file), default=0)
    return f"cut off: {size} of {end} bytes" if end > size + _SLACK else None


def _mov_parts(file: BinaryIO) -> Iterator[int]:
    """Where the boxes of an MP4 or MOV file end that hold data."""
    start = 0
    for _ in range(_MOST_PARTS):
        head = _read_at(file, start, 16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if len(head) < 8 or length < 8:
            return
        start += length
        if kind in (b"moov", b"moof", b"mdat"):
            yield start


def _matroska_parts(file: BinaryIO) -> Iterator[int]:
    """Where the segment ends, unless it was written without knowing (live streams)."""
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


def _avi_parts(file: BinaryIO) -> Iterator[int]:
    start = 0
    for _ in range(_MOST_PARTS):
        head = _read_at(file, start, 8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # the latter were never filled in
            return
        start += 8 + length + length % 2
        yield start


def _read_at(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(min(start, os.fstat(file.fileno()).st_size))
    return file.read(count)
