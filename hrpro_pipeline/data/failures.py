"""`failures.jsonl` in a folder of features or detections: the videos that failed, and why; one JSON object a line."""

import contextlib
import json
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.data.leases import alone
from hrpro_pipeline.data.storage import Location, exists, is_url, joined, local_copy, remove, upload

FILE_NAME = "failures.jsonl"


@dataclass(frozen=True)
class Failure:
    """A video that failed, and why in one line."""

    video_id: str
    reason: str
    source: str = ""


def read_failures(folder: Location) -> list[Failure]:
    """The failures that a folder knows of; lines that are none are left out."""
    path = joined(folder, FILE_NAME)
    if not exists(path):
        return []
    found = []
    with local_copy(path) as copy:
        for line in copy.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError):
                failure = Failure(**json.loads(line))
                if all(isinstance(value, str) for value in asdict(failure).values()):
                    found.append(failure)
    return found


def update_failures(folder: Location, seen: Collection[str], failed: Iterable[Failure]) -> None:
    """Replace what the folder says of the videos `seen` by `failed`; other videos' lines stay. No lines, no file."""
    if is_url(folder):
        _update(folder, seen, failed)
    else:
        with alone(Path(folder), f"/{FILE_NAME}"):  # no video has such an id
            _update(folder, seen, failed)


def _update(folder: Location, seen: Collection[str], failed: Iterable[Failure]) -> None:
    before = read_failures(folder)
    after = [failure for failure in before if failure.video_id not in seen] + list(failed)
    if after == before:
        return
    path = joined(folder, FILE_NAME)
    if not after:
        remove(path)
        return
    text = "".join(json.dumps(asdict(failure)) + "\n" for failure in sorted(after, key=lambda each: each.video_id))
    if isinstance(path, Path):
        write_text(path, text)
        return
    with tempfile.TemporaryDirectory(prefix="hrpro-") as temporary:
        local = Path(temporary) / FILE_NAME
        local.write_text(text, encoding="utf-8")
        upload(local, path)
