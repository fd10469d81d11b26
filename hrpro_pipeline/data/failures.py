"""`failures.jsonl` in a folder of features or detections: the videos that failed, and why; one JSON object a line."""

import contextlib
import json
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.data.leases import holding_lease
from hrpro_pipeline.data.storage import Location, exists, is_url, joined, local_copy, remove, upload

FILE_NAME = "failures.jsonl"


@dataclass(frozen=True)
class Failure:
    """A video that failed, and why in one line."""

    video_id: str
    reason: str
    source: str = ""


def read_failures(folder: Location) -> list[Failure]:
    """The failures in a folder's list; lines that are no failures are left out."""
    path = joined(folder, FILE_NAME)
    if not exists(path):
        return []
    failures = []
    with local_copy(path) as copy:
        for line in copy.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError):
                failure = Failure(**json.loads(line))
                if all(isinstance(value, str) for value in asdict(failure).values()):
                    failures.append(failure)
    return failures


def update_failures(folder: Location, video_ids: Collection[str], failures: Iterable[Failure]) -> None:
    """Replace the folder's lines on some videos; other videos' lines stay. A list without lines is removed.

    Args:
        video_ids: the videos whose lines go.
        failures: the lines that come instead.
    """
    if is_url(folder):
        _update(folder, video_ids, failures)
    else:
        with holding_lease(Path(folder), f"/{FILE_NAME}"):  # no video has such an id
            _update(folder, video_ids, failures)


def _update(folder: Location, video_ids: Collection[str], failures: Iterable[Failure]) -> None:
    before = read_failures(folder)
    after = [failure for failure in before if failure.video_id not in video_ids] + list(failures)
    if after == before:
        return
    path = joined(folder, FILE_NAME)
    if not after:
        remove(path)
        return
    after.sort(key=lambda failure: failure.video_id)
    text = "".join(json.dumps(asdict(failure)) + "\n" for failure in after)
    if isinstance(path, Path):
        write_text(path, text)
        return
    with tempfile.TemporaryDirectory(prefix="hrpro-") as temporary:
        local = Path(temporary) / FILE_NAME
        local.write_text(text, encoding="utf-8")
        upload(local, path)
