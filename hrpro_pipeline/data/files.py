"""Files that are complete or absent: atomic writes, digests, safe names."""

import hashlib
import os
import re
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hrpro_pipeline.data.names import visible
from hrpro_pipeline.errors import HrproError

# Of the containers that are read (extract/video/probe.py).
VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".avi", ".mov", ".webm", ".ts", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp", ".3g2", ".mts"),
    *(".m2ts", ".m2t", ".tod", ".vob", ".mpe", ".mod", ".m1v", ".m2v", ".asf", ".f4v", ".ogv", ".ogm", ".mxf", ".gif"),
    *(".qt", ".mj2", ".mk3d", ".divx", ".ivf", ".nut", ".h264", ".264", ".avc", ".h265", ".265", ".hevc"),
)

# The umask can only be read by setting it, which is the whole process's.
_umask_lock = threading.Lock()
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_PLAIN = re.compile(r"[\w.+=@,()\[\] \u200c\u200d-]")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that is renamed to `path` when the block ends without an error.

    The block may write the file in any way. When it raises, the temporary file is removed
    and `path` is left as it was. A killed process leaves only a `.part` file, never a half-written `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    # mkstemp makes files that only their owner can read; results follow the umask like any other file.
    temporary.chmod(0o666 & ~_umask())
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    with _umask_lock:
        umask = os.umask(0)
        os.umask(umask)
    return umask


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path, expected: str) -> str:
    """Read UTF-8 text. Raises HrproError that says what the file is expected to be."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise HrproError(f"{path}: no such file; expected {expected}") from None
    except IsADirectoryError:
        raise HrproError(f"{path}: is a folder; expected {expected}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise HrproError(f"{path}: cannot be read as text ({error}); expected {expected}") from None


def sha256(path: Path, on_bytes: Callable[[], object] = lambda: None) -> str:
    """Hex SHA-256 of a file's content; `on_bytes` is called now and then meanwhile."""
    digest = hashlib.sha256()
    buffer = bytearray(1 << 22)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
            on_bytes()
    return digest.hexdigest()


def git_blob_sha1(path: Path) -> str:
    """The name Git gives a file's content: SHA-1 of `blob <size>\\0` and the content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def is_video_name(name: str) -> bool:
    """Whether a file is a video by its name."""
    return name.lower().endswith(VIDEO_SUFFIXES)


def holds_videos(folder: Path) -> bool:
    """Whether a folder has files that are videos by their names."""
    return any(is_video_name(file.name) for file in folder.glob("*"))


def video_id_of(name: str) -> str:
    """The id of the video that is called so, with or without a suffix: ids are made and matched here alone.

    Raises:
        HrproError: no usable character is left.

    Examples:
        >>> video_id_of("John's clip.mp4")
        'John_s clip'
        >>> video_id_of("Cafe\\u0301") == video_id_of("Caf\\u00e9.MOV")
        True
    """
    return safe_id(without_suffix(name))


def without_suffix(name: str) -> str:
    """A name without white space around it and without suffixes of videos."""
    name = name.strip()
    while is_video_name(name) and len(stem := name.rpartition(".")[0].rstrip()) > 0:
        name = stem
    return name


def safe_id(name: str) -> str:
    """A name as a plain file name: letters (composed), marks, digits and a few signs; all else becomes `_`.

    Raises:
        HrproError: no usable character is left.
    """
    cleaned = _cleaned(name)
    if not cleaned:
        raise HrproError(f"{name!r}: cannot be made into a video id; rename the file")
    return cleaned


def _cleaned(name: str) -> str:
    shown = visible(_CONTROL.sub("_", name))
    letters = (" " if letter.isspace() else letter if _is_plain(letter) else "_" for letter in shown)
    return "".join(letters).strip().lstrip(".")


def _is_plain(letter: str) -> bool:
    return _PLAIN.match(letter) is not None or unicodedata.category(letter).startswith("M")


def is_safe_id(name: str) -> bool:
    """Whether an id read from a file can name a file in a folder without leaving it."""
    is_plain_name = name == Path(name).name and name not in (".", "..") and "\0" not in name
    return is_plain_name and bool(_cleaned(name))
