"""Overlays and clips, drawn in a process of its own: a video that crashes a decoder costs only its pictures.

`python -m hrpro_pipeline.show.render` is the process; `Renderer` starts it and sends it requests.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av

from hrpro_pipeline.base.child import Channel, Child, ChildError, FrameReporter, answer_requests
from hrpro_pipeline.data.detections import Detection
from hrpro_pipeline.data.storage import Location, local_copy
from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.show.clips import num_passes, write_clips
from hrpro_pipeline.show.encoder import TimedImage, timed_images
from hrpro_pipeline.show.overlay import write_overlay

# A process that finishes no frame for so long hangs.
SILENCE_SECONDS = 180.0

OnFrame = Callable[[int, int], None]  # frames done, and about how many there are


@dataclass(frozen=True)
class RenderJob:
    """A request to draw and cut one video.

    Attributes:
        overlay: the file to write, or None.
        clips: the folder for the clips, or None.
        overlay_detections: in any order.
        clip_detections: best first.
        colors: `#RRGGBB` by label.
        decoder, keep_partial: as for `decode`.
    """

    overlay: Path | None
    clips: Path | None
    overlay_detections: tuple[Detection, ...]
    clip_detections: tuple[Detection, ...]
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
    passes = int(job.overlay is not None) + (num_passes(job.clip_detections) if job.clips is not None else 0)
    total, done = round(passes * info.duration_seconds * info.fps), 0

    def read() -> Iterator[TimedImage]:
        nonlocal done
        for image in timed_images(decode(path, job.decoder, keep_partial=job.keep_partial)):
            yield image
            done += 1
            on_frame(min(done, total), total)

    try:
        if job.overlay is not None:
            write_overlay(job.overlay, read(), info, job.overlay_detections, job.colors)
        if job.clips is not None:
            write_clips(job.clips, read, info, job.clip_detections)
    except (av.FFmpegError, ValueError) as error:
        raise HrproError(f"{path.name}: cannot be encoded as H.264 ({one_line(error)})") from None


class Renderer:
    """A process that renders one video after another. It is started when it is needed, and again after it died."""

    def __init__(self, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._silence_seconds = silence_seconds
        self._child: Child | None = None

    def render(self, video: Location, job: RenderJob, on_frame: OnFrame = lambda *_: None) -> None:
        """As the function `render`; a video on which a decoder crashes or hangs is tried again with PyAV.

        Raises:
            HrproError: as for `render`, or the process died.
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
    answer_requests(_answer)


def _answer(request: dict[str, Any], channel: Channel) -> None:
    path, job = _job_from(request)
    render(path, job, FrameReporter(channel))
    channel.send({"kind": "done"})


def _job_from(content: dict[str, Any]) -> tuple[Path, RenderJob]:
    """The video and the job of a request, which is JSON."""
    for name in ("overlay", "clips", "path"):
        content[name] = Path(content[name]) if content[name] is not None else None
    for name in ("overlay_detections", "clip_detections"):
        content[name] = tuple(Detection(**item) for item in content[name])
    return content.pop("path"), RenderJob(**content)


if __name__ == "__main__":
    main()
