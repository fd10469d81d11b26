"""Fonts of this machine that have the letters of a text, and texts without the letters that no font has."""

import struct
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

_HOME = Path.home()
_FOLDERS = (
    *(Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), _HOME / ".fonts", _HOME / ".local/share/fonts"),
    *(Path("/System/Library/Fonts"), Path("/Library/Fonts"), _HOME / "Library/Fonts", Path("C:/Windows/Fonts")),
)
_SUFFIXES = (".ttf", ".otf", ".ttc")
# Taken only where nothing plainer has the letters.
_STYLES = ("bold", "black", "italic", "oblique", "light", "thin", "mono", "condensed", "serif", "medium")
# These join or vary other letters, and need no picture of their own.
WITHOUT_PICTURE = {"\u200c", "\u200d", *map(chr, range(0xFE00, 0xFE10))}


def find_font(text: str) -> Path | None:
    """An installed font with outlines of all letters of a text; None if there is none."""
    needed = {ord(letter) for letter in text if not letter.isspace() and letter not in WITHOUT_PICTURE}
    return next((path for path in installed_fonts() if needed <= letters_of(path)), None)


@lru_cache(maxsize=1)
def installed_fonts() -> tuple[Path, ...]:
    """Font files in the folders of the system and the user, plain ones first."""
    files = [file for folder in _FOLDERS if folder.is_dir() for file in folder.rglob("*")]
    fonts = [file for file in files if file.suffix.lower() in _SUFFIXES]
    return tuple(sorted(fonts, key=lambda path: (sum(style in path.name.lower() for style in _STYLES), path)))


@cache
def letters_of(path: Path) -> frozenset[int]:
    """Code points that a font file draws by outlines; none for pictures in color, and for a file that is no font."""
    try:
        data = path.read_bytes()
        start = struct.unpack_from(">I", data, 12)[0] if data[:4] == b"ttcf" else 0
        tables = {}
        for number in range(struct.unpack_from(">H", data, start + 4)[0]):
            tag, _, offset, _ = struct.unpack_from(">4sIII", data, start + 12 + 16 * number)
            tables[tag] = offset
        has_outlines = bool(tables.keys() & {b"glyf", b"CFF "})
        return _mapped(data, tables[b"cmap"]) if has_outlines and b"cmap" in tables else frozenset()
    except (OSError, struct.error):
        return frozenset()


def _mapped(data: bytes, cmap: int) -> frozenset[int]:
    """Code points in the character map at an offset, of its Unicode tables (formats 4 and 12)."""
    found: set[int] = set()
    for number in range(struct.unpack_from(">H", data, cmap + 2)[0]):
        platform, encoding, offset = struct.unpack_from(">HHI", data, cmap + 4 + 8 * number)
        if platform != 0 and (platform, encoding) not in ((3, 1), (3, 10)):
            continue
        table = cmap + offset
        kind = struct.unpack_from(">H", data, table)[0]
        if kind == 4:
            found |= _segments(data, table)
        elif kind == 12:
            for group in range(struct.unpack_from(">I", data, table + 12)[0]):
                first, last, _ = struct.unpack_from(">III", data, table + 16 + 12 * group)
                found.update(range(first, min(last, sys.maxunicode) + 1))
    return frozenset(found - {0})


def _segments(data: bytes, table: int) -> set[int]:
    """Code points of a character map of format 4."""
    count = struct.unpack_from(">H", data, table + 6)[0] // 2
    ends, starts = table + 14, table + 16 + 2 * count
    offsets = starts + 4 * count
    found = set()
    for number in range(count):
        last, first, offset = (
            struct.unpack_from(">H", data, place + 2 * number)[0] for place in (ends, starts, offsets)
        )
        for code in range(first, last + 1):
            glyph = offsets + 2 * number + offset + 2 * (code - first)
            if not offset or (glyph + 2 <= len(data) and data[glyph : glyph + 2] != b"\0\0"):
                found.add(code)
    return found - {0xFFFF}


def spelled_out(text: str, is_known: Callable[[str], bool]) -> str:
    """A text with code points in place of the letters that a font lacks: other texts never look the same.

    Examples:
        >>> spelled_out("run \\u0928\\u092e", str.isascii)
        'run [928 92E]'
    """
    parts: list[str] = []
    unknown: list[str] = []
    for letter in [*text, ""]:
        if letter in WITHOUT_PICTURE and not unknown:
            continue
        if letter and not letter.isspace() and not is_known(letter):
            unknown.append(f"{ord(letter):X}")
            continue
        if unknown:
            parts.append(f"[{' '.join(unknown)}]")
            unknown = []
        parts.append(letter)
    return "".join(parts)
