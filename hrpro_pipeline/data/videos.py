"""Video files by their ids: in folders of this machine and at URLs."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from hrpro_pipeline.data.files import VIDEO_SUFFIXES, is_video_name, safe_id
from hrpro_pipeline.data.storage import Location, is_url, list_remote, name_of
from hrpro_pipeline.errors import HrproError, one_line

File = TypeVar("File", Path, str)


def find_videos(paths: Sequence[Location]) -> dict[str, Location]:
    """Video id -> file, for files and folders (not their sub-folders), in the order given; the same for URLs.

    A file given by name is taken whatever its suffix; in folders, those with the suffix of a video. Symbolic links are
    followed, as they are the user's own; files that a media file names are never opened.

    Raises:
        HrproError: a path that does not exist, a folder without videos, two files with the same id.
    """
    videos: dict[str, Location] = {}
    for path in paths:
        for file in _remote_videos(str(path)) if is_url(path) else _local_videos(Path(path)):
            video_id = safe_id(PurePosixPath(name_of(file)).stem)
            other = videos.setdefault(video_id, file)
            if other != file and (is_url(other) or is_url(file) or Path(other).resolve() != Path(file).resolve()):
                raise HrproError(f"{other} and {file}: both would be video {video_id!r}; rename one of them")
    return videos


def _local_videos(path: Path) -> list[Path]:
    if not path.is_dir():
        return [video_file(path, may_be_empty=True)]
    return _unless_empty(path, sorted(file for file in path.iterdir() if _is_visible_video(file.name)))


def _remote_videos(url: str) -> list[str]:
    files = list_remote(url)
    return [url] if files is None else _unless_empty(url, [file for file in files if _is_visible_video(name_of(file))])


def _is_visible_video(name: str) -> bool:
    return is_video_name(name) and not name.startswith(".")


def _unless_empty(folder: Location, files: list[File]) -> list[File]:
    if not files:
        hint = "" if is_url(folder) else _hint_for_folder(Path(folder))
        raise HrproError(
            f"{folder}: no videos in this folder; expected files such as {', '.join(VIDEO_SUFFIXES[:4])}{hint}"
        )
    return files


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
