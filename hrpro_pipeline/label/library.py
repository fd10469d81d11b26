"""The videos that the page shows: their files, the times of their frames, and the copies that browsers play."""

import logging
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrpro_pipeline.data.files import replacing
from hrpro_pipeline.data.storage import Location, is_url, local_copy, name_of
from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.label.cache import cache_folder, cache_key, tidy
from hrpro_pipeline.label.process import MediaProcess

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """A video of the list; `location` of a file is its real path, without symbolic links."""

    video_id: str
    name: str
    location: Location


@dataclass
class CopyState:
    """How far a copy is: `state` is waiting, making, ready or failed; `text` says why, or what it lacks."""

    state: str = "waiting"
    done: int = 0
    total: int = 0
    text: str = ""


def list_videos(paths: Sequence[Location]) -> list[Video]:
    """Videos of files, folders and URLs, in the order given.

    A symbolic link in a folder that leads out of it is left out: the page serves what it is given, and nothing else.

    Raises:
        HrproError: as `find_videos`, or no video is left.
    """
    found = find_videos(paths)
    for failure in found.failures:
        log.warning("%s", failure.reason)
    folders = [Path(path) for path in paths if not is_url(path) and Path(path).is_dir()]
    roots = {folder.absolute(): folder.resolve() for folder in folders}
    named = {Path(path).absolute() for path in paths if not is_url(path)}
    videos = []
    for video_id, location in found.by_id.items():
        if is_url(location):
            videos.append(Video(video_id, name_of(location), location))
            continue
        file = Path(location).absolute()
        real, root = file.resolve(), roots.get(file.parent)
        if file not in named and root is not None and not real.is_relative_to(root):
            log.warning("%s: left out, a symbolic link out of its folder; give %s itself", file, real)
            continue
        videos.append(Video(video_id, file.name, real))
    if not videos:
        raise HrproError(f"{', '.join(map(str, paths))}: no video is left to label")
    return videos


class Library:
    """What the page asks about its videos, by number. Safe to be asked by several threads.

    Raises (all methods):
        HrproError: the video cannot be read.
    """

    def __init__(self, videos: Sequence[Video]) -> None:
        self.videos = list(videos)
        self._folder = cache_folder()
        tidy(self._folder)
        # A long copy or sound never keeps thumbnails waiting.
        self._reader, self._listener, self._copier = MediaProcess(), MediaProcess(), MediaProcess()
        self._facts: dict[int, tuple[str, dict[str, Any], bytes]] = {}
        self._copies: dict[int, CopyState] = {}
        self._queue: list[int] = []
        self._wake = threading.Condition()
        self._fetching = threading.Lock()
        self._is_closed = False
        threading.Thread(target=self._make_copies, daemon=True).start()

    def close(self) -> None:
        """End the processes."""
        with self._wake:
            self._is_closed = True
            self._wake.notify_all()
        for process in (self._reader, self._listener, self._copier):
            process.close()

    def file(self, number: int) -> Path:
        """A video's file on this machine; that of a URL is fetched."""
        video = self.videos[number]
        if not is_url(video.location):
            path = Path(video.location)
            if not path.is_file() or path.resolve() != path:
                raise HrproError(f"{video.name}: is gone, or another file by now; start `hrpro label` again")
            return path
        with self._fetching:
            path = self._folder / f"{self._key(number)}.source{Path(video.name).suffix}"
            if not path.is_file():
                with local_copy(video.location) as copy, replacing(path) as temporary:
                    shutil.copyfile(copy, temporary)
            return path

    def facts(self, number: int) -> tuple[dict[str, Any], bytes]:
        """What the page has to know, and the times of the frames, float64 [N] little-endian: as `playable`."""
        path, key = self.file(number), self._key(number)
        if number not in self._facts or self._facts[number][0] != key:
            self._facts[number] = (key, *self._reader.ask("playable", path))
            while len(self._facts) > 16:  # an hour is a megabyte
                self._facts.pop(next(iter(self._facts)))
        return self._facts[number][1:]

    def strip(self, number: int, first: int, step: int, count: int) -> bytes:
        """Thumbnails of frames side by side, a JPEG: of the copy, where there has to be one."""
        path = self.file(number)
        if self.facts(number)[0]["copy_reason"]:
            path = self.copied_file(number)
        return self._reader.ask("strip", path, first=first, step=step, count=count)[1]

    def peaks(self, number: int) -> bytes:
        """The wave form, a byte for each hundredth of a second."""
        path, kept = self.file(number), self._folder / f"{self._key(number)}.peaks"
        if not kept.is_file():
            with replacing(kept) as temporary:
                temporary.write_bytes(self._listener.ask("peaks", path)[1])
        return kept.read_bytes()

    def copy(self, number: int) -> CopyState:
        """How far the copy is that a browser plays; it is made if it is not there."""
        self.file(number)
        with self._wake:
            if self._copy_path(number).is_file():
                return CopyState("ready", text=self._copies.get(number, CopyState()).text)
            state = self._copies.get(number)
            if state is None or state.state == "ready":
                state = self._copies[number] = CopyState()
            if state.state == "waiting":  # what was asked for last comes first
                self._queue = [other for other in self._queue if other != number] + [number]
                self._wake.notify_all()
            return state

    def copied_file(self, number: int) -> Path:
        """The copy. Raises HrproError where there is none yet."""
        path = self._copy_path(number)
        if not path.is_file():
            raise HrproError(f"{self.videos[number].name}: its copy is not made yet")
        return path

    def _key(self, number: int) -> str:
        return cache_key(self.videos[number].location)

    def _copy_path(self, number: int) -> Path:
        return self._folder / f"{self._key(number)}.mp4"

    def _make_copies(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._is_closed:
                    self._wake.wait()
                if self._is_closed:
                    return
                number = self._queue.pop()
                state = self._copies[number]
                state.state = "making"
            try:
                self._make_copy(number, state)
                state.state = "ready"
            except (HrproError, OSError) as error:
                state.text, state.state = one_line(error, 300), "failed"

    def _make_copy(self, number: int, state: CopyState) -> None:
        def on_frame(done: int, total: int) -> None:
            state.done, state.total = done, total

        path, target = self.file(number), self._copy_path(number)
        log.info("%s: a copy for the browser is being made", self.videos[number].name)
        with replacing(target) as temporary:
            header, _ = self._copier.ask("copy", path, on_frame, out=str(temporary))
        state.text = header["missing"]
