"""A folder of what was made for the page and can be made again: copies of videos, wave forms, files of URLs."""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from hrpro_pipeline.data.storage import Location, version

MOST_BYTES = 20 << 30
_PART_SECONDS = 3600  # a file that nobody has written to for so long is left of a killed process
_FORMAT = 1  # of what is kept: another number, and all is made anew


def cache_folder() -> Path:
    """Where it is: `hrpro/label` in the user's cache, which others cannot read."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "hrpro" / "label"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def cache_key(location: Location) -> str:
    """A name for what is made from a file, another one when the file changes."""
    facts = json.dumps([_FORMAT, str(location), version(location)], sort_keys=True)
    return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def tidy(folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Delete what was used longest ago where the folder has grown too large, and what killed processes left."""
    files = []
    for file in folder.iterdir():
        with contextlib.suppress(OSError):
            status = file.stat()
            if not file.name.endswith(".part"):
                files.append((max(status.st_atime, status.st_mtime), status.st_size, file))
            elif time.time() - status.st_mtime > _PART_SECONDS:
                file.unlink()
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= most_bytes:
            return
        with contextlib.suppress(OSError):
            file.unlink()
            total -= size
