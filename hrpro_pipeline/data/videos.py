"""Video files by their ids: in folders of this machine and at URLs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from hrpro_pipeline.data.failures import Failure
from hrpro_pipeline.data.files import VIDEO_SUFFIXES, is_video_name, video_id_of
from hrpro_pipeline.data.storage import Location, is_url, list_remote, name_of
from hrpro_pipeline.errors import HrproError, one_line

log = logging.getLogger(__name__)

# Files that are left out and named one by one.
_MOST_NAMED = 5

File = TypeVar("File", Path, str)


@dataclass(frozen=True)
class FoundVideos:
    """Videos that were found.

    Attributes:
        by_id: the file of each, in the order given.
        failures: files whose names give the same id; none of them is in `by_id`.
    """

    by_id: dict[str, Location]
    failures: tuple[Failure, ...] = ()


def find_videos(paths: Sequence[Location]) -> FoundVideos:
    """Videos by id, for files and folders (not their sub-folders), in the order given; the same for URLs.

    A file given by name is taken whatever its suffix; in folders, those with the suffix of a video, and a line says
    which were left out. Symbolic links are followed, as they are the user's own; files that a media file names are
    never opened.

    Raises:
        HrproError: a path that does not exist, a folder without videos.
    """
    files_by_id: dict[str, list[Location]] = {}
    failures = []
    for path in paths:
        for file in _remote_videos(str(path)) if is_url(path) else _local_videos(Path(path)):
            try:
                files = files_by_id.setdefault(video_id_of(PurePosixPath(name_of(file)).stem), [])
            except HrproError as error:
                failures.append(Failure(name_of(file), str(error), str(file)))
            else:
                if not any(_is_same(file, other) for other in files):
                    files.append(file)
    for video_id, files in files_by_id.items():
        failures += _clash(video_id, files) if len(files) > 1 else []
    return FoundVideos({video_id: files[0] for video_id, files in files_by_id.items() if len(files) == 1}, (*failures,))


def _is_same(file: Location, other: Location) -> bool:
    if is_url(file) or is_url(other):
        return file == other
    return Path(file).resolve() == Path(other).resolve()


def _clash(video_id: str, files: Sequence[Location]) -> list[Failure]:
    """Why none of these files is taken, a failure for each."""
    reasons = (
        f"{file} and {files[number == 0]}: both would be video {video_id!r}; rename one of them"
        for number, file in enumerate(files)
    )
    return [Failure(video_id, reason, str(file)) for reason, file in zip(reasons, files, strict=True)]


def _local_videos(path: Path) -> list[Path]:
    if not path.is_dir():
        return [video_file(path, may_be_empty=True)]
    return _videos_among(path, sorted(path.iterdir()))


def _remote_videos(url: str) -> list[str]:
    files = list_remote(url)
    return [url] if files is None else _videos_among(url, files)


def _is_visible_video(name: str) -> bool:
    return is_video_name(name) and not name.startswith(".")


def _videos_among(folder: Location, files: list[File]) -> list[File]:
    """The files of a folder that are videos by their names; a line says which others there are."""
    videos = [file for file in files if _is_visible_video(name_of(file))]
    if not videos:
        hint = "" if is_url(folder) else _hint_for_folder(Path(folder))
        raise HrproError(
            f"{folder}: no videos in this folder; expected files such as {', '.join(VIDEO_SUFFIXES[:4])}{hint}"
        )
    others = [name_of(file) for file in files if not is_video_name(name_of(file)) and _is_plain_file(file)]
    if others:
        names = ", ".join(sorted(others)[:_MOST_NAMED]) + (", ..." if len(others) > _MOST_NAMED else "")
        files_text = "1 file" if len(others) == 1 else f"{len(others)} files"
        log.info("%s: left out %s, without the suffix of a video: %s", folder, files_text, names)
    return videos


def _is_plain_file(file: Location) -> bool:
    return not name_of(file).startswith(".") and (is_url(file) or Path(file).is_file())


def _hint_for_folder(folder: Path) -> str:
    """Advice on a folder without videos, by its other content."""
    if any(folder.glob("*.h5")):
        return "; it holds features: give it to `hrpro train` or `hrpro detect`"
    subfolders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    with_videos = [path for path in subfolders if any(_is_visible_video(file.name) for file in path.iterdir())]
    return f"; give the folders that hold them, such as {with_videos[0]}" if with_videos else ""


def video_file(path: Path, may_be_empty: bool = False) -> Path:
    """The absolute path of a video file. Raises HrproError if there is no such file, or it cannot be read."""
    try:
        if not path.exists():
            hint = "; only local files are read" if ":/" in str(path) else "; expected a video or a folder of videos"
            raise HrproError(f"{path}: no such file{hint}")
        if not path.is_file():
            raise HrproError(f"{path}: not a file; expected a video")
        if not may_be_empty:
            with path.open("rb") as file:
                if not file.read(1):
                    raise HrproError(f"{path.name}: empty file (0 bytes); copy or download it again")
    except OSError as error:
        raise HrproError(f"{path}: cannot be read ({one_line(error)}); check its permissions") from None
    return path.absolute()  # a name such as `concat:a` is then never taken for a protocol
