"""Media files are opened in processes of their own: one that crashes a decoder costs only its own pictures.

`python -m hrpro_pipeline.label.process` is such a process; `MediaProcess` starts it and asks it.
"""

import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from hrpro_pipeline.base.child import Channel, Child, ChildError, FrameReporter, answer_requests
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.label.copies import frames_at, write_copy
from hrpro_pipeline.label.playable import playable
from hrpro_pipeline.label.sound import sound_peaks
from hrpro_pipeline.show.thumbnails import sheet, thumbnail

_SILENCE_SECONDS = 300.0
# From so many seconds between thumbnails on, a key frame that is not far before each will do.
_COARSE_SECONDS = 2.0


class MediaProcess:
    """Answers one question after another; started when it is needed, and again after it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._is_closed = False

    def ask(
        self, question: str, path: Path, on_frame: Callable[[int, int], None] = lambda done, total: None, **values: Any
    ) -> tuple[dict[str, Any], bytes]:
        """The answer to a question: `playable`, `strip`, `peaks` or `copy`.

        Raises:
            HrproError: the file cannot be read, or it killed the process.
        """
        with self._lock:
            if self._is_closed:
                raise HrproError(f"{path.name}: the server is ending")
            try:
                self._child = self._child or Child(__name__, _SILENCE_SECONDS)
                self._child.ask({"question": question, "path": str(path), **values})
                while True:
                    header, payload = self._child.answer()
                    if header["kind"] != "frames":
                        break
                    on_frame(header["done"], header["total"])
            except ChildError as error:
                self._end()
                raise HrproError(f"{path.name}: reading it {error}; re-encode or remove it") from None
        if header["kind"] == "failed":
            raise HrproError(header["reason"])
        return header, bytes(payload)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._is_closed = True
        self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()


def main() -> None:
    """Answer questions until there are no more."""
    answer_requests(_answer)


def _answer(request: dict[str, Any], channel: Channel) -> None:
    path, question = Path(request.pop("path")), request.pop("question")
    header, payload = _ANSWERS[question](path, channel, **request)
    channel.send({"kind": "done", **header}, payload)


@lru_cache(maxsize=8)
def _info(path: Path, modified_ns: int) -> VideoInfo:
    return probe(path)


def _probed(path: Path) -> VideoInfo:
    return _info(path, path.stat().st_mtime_ns)


def _playable(path: Path, channel: Channel) -> tuple[dict[str, Any], bytes]:
    facts = playable(path)
    names = ("duration", "codec", "has_sound", "copy_reason", "warning")
    header = {name: getattr(facts, name) for name in names}
    return header, np.ascontiguousarray(facts.timestamps, "<f8").tobytes()


def _strip(path: Path, channel: Channel, first: int, step: int, count: int) -> tuple[dict[str, Any], bytes]:
    """Thumbnails of `count` frames from number `first` on, every `step`, side by side; those beyond the end black."""
    info = _probed(path)
    numbers = [number for number in range(first, first + step * count, step) if number < info.num_packets]
    if not numbers:
        raise HrproError(f"{path.name}: frame {first} of {info.num_packets}; expected one of them")
    images = []
    apart = step / info.fps
    try:
        for frame in frames_at(info, numbers, apart / 2 if apart >= _COARSE_SECONDS else 0.0):
            images.append(thumbnail(frame, 1.0))
    except (av.FFmpegError, OSError, ValueError):  # damaged from here on
        if not images:
            raise
    if not images:
        raise HrproError(f"{path.name}: no frame can be decoded there")
    images += [np.zeros_like(images[0])] * (count - len(images))
    return {"count": count}, sheet(images, count)


def _peaks(path: Path, channel: Channel) -> tuple[dict[str, Any], bytes]:
    info = _probed(path)
    return {}, sound_peaks(path, info.start_seconds, info.duration_seconds).tobytes()


def _copy(path: Path, channel: Channel, out: str) -> tuple[dict[str, Any], bytes]:
    return {"missing": write_copy(path, Path(out), FrameReporter(channel))}, b""


_ANSWERS: dict[str, Callable[..., tuple[dict[str, Any], bytes]]] = {
    "playable": _playable,
    "strip": _strip,
    "peaks": _peaks,
    "copy": _copy,
}


if __name__ == "__main__":
    main()
