"""Files on this machine and at fsspec URLs (s3://bucket/folder): list, download, upload."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from hrpro_pipeline.errors import HrproError

Location = str | Path  # a path, or a URL as text

# Stores that show a file only when it is complete; elsewhere it is written under another name and renamed.
_ATOMIC = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}
# Names by which stores give a tag or a time that changes with the content.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime", "created")
# Read at once of an opened file: headers are small, and the blocks that stores would choose are of up to 50 MB.
_BLOCK_BYTES = 1 << 16


def is_url(location: Location) -> bool:
    """Whether a location is a URL, and not a path on this machine."""
    return "://" in str(location)


def joined(folder: Location, name: str) -> Location:
    """A name in a folder."""
    return f"{str(folder).rstrip('/')}/{name}" if is_url(folder) else Path(folder) / name


def name_of(location: Location) -> str:
    """The last part of a location."""
    return str(location).rstrip("/").rpartition("/")[2]


def list_remote(url: str) -> list[str] | None:
    """URLs of the files in a remote folder (not its sub-folders), in order; None if the URL is a file.

    Raises:
        HrproError: no such file or folder, or a protocol that is not installed.
    """
    system, path = _system(url)
    with _one_line_errors(url):
        if system.info(path)["type"] == "file":
            return None
        names = [name_of(entry["name"]) for entry in system.ls(path, detail=True) if entry["type"] == "file"]
    return sorted(f"{url.rstrip('/')}/{name}" for name in names)


def exists(location: Location) -> bool:
    """Whether there is a file."""
    if not is_url(location):
        return Path(location).is_file()
    system, path = _system(str(location))
    with _one_line_errors(location):
        try:  # `isfile` takes a store that does not answer for one without the file
            return bool(system.info(path)["type"] == "file")
        except FileNotFoundError:
            return False


@contextmanager
def local_copy(location: Location, on_bytes: Callable[[], object] = lambda: None) -> Iterator[Path]:
    """A path on this machine to read a file at: its own, or that of a temporary copy of a remote file.

    Args:
        on_bytes: called now and then while a copy is made.
    """
    if not is_url(location):
        yield Path(location)
        return
    system, path = _system(str(location))
    with tempfile.TemporaryDirectory(prefix="hrpro-") as folder:
        copy = Path(folder) / name_of(location)
        with _one_line_errors(location):
            system.get_file(path, str(copy), callback=_transfer_callback(on_bytes))
        yield copy


@contextmanager
def opened(location: Location) -> Iterator[IO[bytes]]:
    """A file to read from, wherever it is; of a remote file only the parts that are read travel."""
    if not is_url(location):
        with Path(location).open("rb") as stream:
            yield stream
        return
    system, path = _system(str(location))
    with _one_line_errors(location), system.open(path, "rb", block_size=_BLOCK_BYTES) as stream:
        yield stream


def upload(path: Path, url: str) -> None:
    """Put a file of this machine at a URL, complete or not at all."""
    system, target = _system(url)
    with _one_line_errors(url):
        if system.protocol in _ATOMIC or _ATOMIC.intersection(system.protocol):
            system.put_file(str(path), target)
            return
        part = f"{target}.part"
        system.makedirs(target.rpartition("/")[0], exist_ok=True)
        try:
            system.put_file(str(path), part)
            system.mv(part, target)
        except BaseException:
            with contextlib.suppress(Exception):
                system.rm_file(part)
            raise


def check_writable(folder: str) -> None:
    """Put an empty file into a remote folder and delete it. Raises HrproError if that cannot be done."""
    probe = str(joined(folder, f".hrpro-{uuid4().hex}"))
    with tempfile.NamedTemporaryFile(prefix="hrpro-") as empty:
        try:
            upload(Path(empty.name), probe)
        except HrproError as error:
            reason = str(error).removeprefix(f"{probe}: ")
            raise HrproError(f"{folder}: cannot be written to ({reason}); choose another folder with `out`") from error
    with contextlib.suppress(HrproError):  # not everybody who may write may delete
        remove(probe)


def version(location: Location) -> dict[str, Any]:
    """Size, and what changes when the file does: its time in ns, or the store's tag (None where it has none).

    Cheap: nothing is read.
    """
    if not is_url(location):
        status = Path(location).stat()
        return {"size": status.st_size, "modified": str(status.st_mtime_ns)}
    system, path = _system(str(location))
    with _one_line_errors(location):
        facts = system.info(path)
    changes = next((facts[name] for name in _TAGS if facts.get(name)), None)
    return {"size": facts["size"], "modified": None if changes is None else str(changes)}


def remove(location: Location) -> None:
    """Delete a file if it is there."""
    if is_url(location):
        system, path = _system(str(location))
        with _one_line_errors(location), contextlib.suppress(FileNotFoundError):
            system.rm_file(path)
    else:
        Path(location).unlink(missing_ok=True)


def _transfer_callback(on_bytes: Callable[[], object]) -> Any:
    from fsspec.callbacks import Callback

    return Callback(hooks={"bytes": lambda *_, **__: on_bytes()})


def _system(url: str) -> tuple[Any, str]:
    import fsspec  # slow to import

    protocol = url.partition("://")[0]
    if "::" in url:
        raise HrproError(f"{url}: chained URLs are not supported; give one such as s3://bucket/folder")
    try:
        system, path = fsspec.core.url_to_fs(url)
        system.invalidate_cache()  # of listings: another process, or another run, may have written files since
        return system, path
    except (ImportError, ValueError) as error:
        hint = "; pip install 'hrpro-pipeline[s3]'" if protocol == "s3" else ""
        raise HrproError(f"{url}: {' '.join(str(error).split())}{hint}") from None


@contextmanager
def _one_line_errors(location: Location) -> Iterator[None]:
    """Turn errors of a store into HrproErrors with the URL; they come in as many types as there are stores."""
    try:
        yield
    except (HrproError, GeneratorExit):
        raise
    except FileNotFoundError:
        raise HrproError(f"{location}: no such file or folder") from None
    except Exception as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise HrproError(f"{location}: {text}") from error
