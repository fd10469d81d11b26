"""Leases: several runs on one folder share its videos. A run that is killed, in whatever way, loses its leases."""

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

_FOLDER = ".leases"


def take_lease(folder: Path, name: str) -> BaseFileLock | None:
    """The lease on a name in a folder, to be ended by `return_lease`; None if another process has it."""
    lock = _lock(folder, name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except FileNotFoundError:  # another run removed the folder of leases
        return take_lease(folder, name)
    return lock


def return_lease(lease: BaseFileLock) -> None:
    """End a lease. Its file is removed first: filelock takes no lock on a file that is gone."""
    with contextlib.suppress(OSError):
        Path(lease.lock_file).unlink()
    lease.release()


def remove_leases_folder(folder: Path) -> None:
    """Remove the place of leases in a folder, unless another run has some."""
    with contextlib.suppress(OSError):
        (folder / _FOLDER).rmdir()


@contextmanager
def holding_lease(folder: Path, name: str) -> Iterator[None]:
    """Wait for the lease on a name, and hold it for a block."""
    while True:
        lock = _lock(folder, name)
        with contextlib.suppress(FileNotFoundError):  # another run removed the folder of leases: once more
            lock.acquire()
            break
    try:
        yield
    finally:
        return_lease(lock)


def _lock(folder: Path, name: str) -> BaseFileLock:
    # A digest, as the name may be as long as a file's name can be.
    path = folder / _FOLDER / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False)  # the thread that takes a lease need not be the one that ends it
