"""Overlays and clips, made in a process of its own: a video that crashes a decoder costs only its own pictures.

`python -m hrpro_pipeline.show.render` is the process; `Renderer` is who speaks to it.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av

from hrpro_pipeline.base.child import Channel, Child, ChildError, serve
from hrpro_pipeline.data.detections import Detection
from hrpro_pipeline.data.storage import Location, local_copy
from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.show.clips import num_passes, write_clips
from hrpro_pipeline.show.encoder import Shown, shown_frames
from hrpro_pipeline.show.overlay import write_overlay

# A process that finishes no frame for so long hangs.
SILENCE_SECONDS = 180.0
_NEWS_SECONDS = 0.5

OnFrame = Callable[[int, int], None]  # frames done, and about how many there are


@dataclass(frozen=True)
class RenderJob:
    """What to make of one video.

    Attributes:
        overlay: the file to write, or None.
        clips: the folder for the clips, or None.
        shown: detections of the overlay. cut: those of the clips, best first.
        colors: `#RRGGBB` by label.
        decoder, keep_partial: as for `decoders.decode`.
    """

    overlay: Path | None
    clips: Path | None
    shown: tuple[Detection, ...]
    cut: tuple[Detection, ...]
    colors: Mapping[str, str]
    decoder: str = "auto"
    keep_partial: bool = False


def render(path: Path, job: RenderJob, on_frame: OnFrame = lambda *_: None) -> None:
    """Make a video's overlay and clips in this process.

    Args:
        on_frame: called after each frame with how many are done, and about how many there are to do.

    Raises:
        HrproError: the video cannot be decoded, or its pictures cannot be encoded.
    """
    info = probe(path)
    passes = int(job.overlay is not None) + (num_passes(job.cut) if job.clips is not None else 0)
    total, done = round(passes * info.duration_seconds * info.fps), 0

    def read() -> Iterator[Shown]:
        nonlocal done
        for shown in shown_frames(decode(path, job.decoder, keep_partial=job.keep_partial)):
            yield shown
            done += 1
            on_frame(min(done, total), total)

    try:
        if job.overlay is not None:
            write_overlay(job.overlay, read(), info, job.shown, job.colors)
        if job.clips is not None:
            write_clips(job.clips, read, info, job.cut)
    except (av.FFmpegError, ValueError) as error:
        raise HrproError(f"{path.name}: cannot be encoded as H.264 ({one_line(error)})") from None


class Renderer:
    """A process that renders one video after another. It is started when it is needed, and again when it died."""

    def __init__(self, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._silence_seconds = silence_seconds
        self._child: Child | None = None

    def render(self, video: Location, job: RenderJob, on_frame: OnFrame = lambda *_: None) -> None:
        """As the function `render`; where a decoder crashes or hangs, PyAV gets a try.

        Raises:
            HrproError: as there, or the process died.
        """
        with local_copy(video) as path:
            try:
                self._attempt(path, job, job.decoder, on_frame)
            except ChildError:
                try:
                    self._attempt(path, job, "pyav", on_frame)
                except ChildError as error:
                    raise HrproError(f"{path.name}: drawing {error}; re-encode or remove it") from None

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _attempt(self, path: Path, job: RenderJob, decoder: str, on_frame: OnFrame) -> None:
        content = asdict(job) | {"path": path.absolute(), "decoder": decoder}
        finished = False
        try:
            self._child = self._child or Child(__name__, self._silence_seconds)
            self._child.ask({name: str(value) if isinstance(value, Path) else value for name, value in content.items()})
            while not finished:
                header, _ = self._child.answer()
                if header["kind"] == "frames":
                    on_frame(header["done"], header["total"])
                finished = header["kind"] in ("done", "failed")
        finally:
            if not finished:
                self.close()
        if header["kind"] == "failed":
            raise HrproError(header["reason"])


def main() -> None:
    """Answer requests until there are no more."""
    channel = serve()
    while (message := channel.receive()) is not None:
        path, job = _read(message[0])
        try:
            render(path, job, _News(channel))
            channel.send({"kind": "done"})
        except BrokenPipeError:
            return
        except HrproError as error:
            channel.send({"kind": "failed", "reason": str(error)})
        except Exception as error:  # noqa: BLE001  a file of an unforeseen kind: the next one may be better
            channel.send({"kind": "failed", "reason": f"{path.name}: {type(error).__name__}: {one_line(error)}"})


def _read(content: dict[str, Any]) -> tuple[Path, RenderJob]:
    for name in ("overlay", "clips", "path"):
        content[name] = Path(content[name]) if content[name] is not None else None
    for name in ("shown", "cut"):
        content[name] = tuple(Detection(**item) for item in content[name])
    return content.pop("path"), RenderJob(**content)


class _News:
    """Says now and then how far it is: a sign of life, too."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._last = channel, -math.inf

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last > _NEWS_SECONDS:
            self._last = time.monotonic()
            self._channel.send({"kind": "frames", "done": done, "total": total})


if __name__ == "__main__":
    main()
