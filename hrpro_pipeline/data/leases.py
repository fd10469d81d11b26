"""Leases: several runs on one folder share its videos. A run that is killed, in whatever way, has lost its leases."""

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

_FOLDER = ".leases"


def take_lease(folder: Path, name: str) -> BaseFileLock | None:
    """The lease on a name in a folder; None if another process has it. To be given to `give_back`."""
    lock = _lock(folder, name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except FileNotFoundError:  # another run tidied up
        return take_lease(folder, name)
    return lock


def give_back(lease: BaseFileLock) -> None:
    """End a lease. Its file is removed first: filelock takes no lock on a file that is gone."""
    with contextlib.suppress(OSError):
        Path(lease.lock_file).unlink()
    lease.release()


def tidy(folder: Path) -> None:
    """Remove what leases leave in a folder, unless another run has some."""
    with contextlib.suppress(OSError):
        (folder / _FOLDER).rmdir()


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Wait for the lease on a name, and keep it for a block."""
    while True:
        lock = _lock(folder, name)
        with contextlib.suppress(FileNotFoundError):  # another run tidied up: once more
            lock.acquire()
            break
    try:
        yield
    finally:
        give_back(lock)


def _lock(folder: Path, name: str) -> BaseFileLock:
    # A name may be as long as names can be, and the lock's would be longer.
    path = folder / _FOLDER / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False)  # the thread that takes a lease need not be the one that ends it
