"""A worker: videos in, feature files out; in this process, or as a process that an engine starts.

`python -m hrpro_pipeline.extract.worker` is such a process: it receives the extraction, asks for jobs, and answers with
the outcome of each.
"""

import errno
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hrpro_pipeline.base.child import Channel, serve
from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import VideoFeatures, store_features
from hrpro_pipeline.data.storage import Location, is_url
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.extractor import Extractor, Job, OnFrames, load_extractor
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.extract.pipeline import extract_videos


@dataclass(frozen=True)
class Extraction:
    """An extractor and where its features go, in words that a process anywhere understands.

    Attributes:
        out: folder or URL.
        threads: of the CPU, for a worker; None for as many as there are cores.
        apart: in a process of its own, which is replaced when it dies: a decoder may use its GPU.
    """

    settings: ExtractSettings
    out: str
    options: ExtractOptions = ExtractOptions()
    threads: int | None = None
    apart: bool = False

    def as_json(self) -> dict[str, Any]:
        """The extraction for `from_json`."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "out": self.out,
            "options": asdict(self.options),
            "threads": self.threads,
            "apart": self.apart,
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Extraction":
        """The extraction that `as_json` gave."""
        settings = ExtractSettings.model_validate(fields["settings"])
        options = fields["options"] | {"own": tuple(fields["options"]["own"])}
        return cls(**fields | {"settings": settings, "options": ExtractOptions(**options)})

    def load(self) -> Extractor:
        """The networks. Raises HrproError for weights or a device that cannot be had."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return replace(load_extractor(self.settings, self.options, self.threads), apart=self.apart)


@dataclass(frozen=True)
class Outcome:
    """How a video ended.

    Attributes:
        seconds: of video that were extracted.
        reason: why it failed, in one line; None if it did not.
        partial_reason: why its features end before the video does; None if they do not.
        concerns_all: no other video would fare better: a full disk, say.
    """

    video_id: str
    seconds: float = 0.0
    reason: str | None = None
    partial_reason: str | None = None
    concerns_all: bool = False


def extract_to(
    out: Location, jobs: Iterable[Job], extractor: Extractor, on_frames: OnFrames = lambda *_: None
) -> Iterator[Outcome]:
    """Extract videos and store their features; gives the outcome of each as it is done."""
    for video_id, features in extract_videos(jobs, extractor, on_frames):
        yield _stored(out, video_id, features)


def _stored(out: Location, video_id: str, features: VideoFeatures | HrproError) -> Outcome:
    if isinstance(features, HrproError):
        return Outcome(video_id, reason=str(features))
    try:
        store_features(out if is_url(out) else Path(out), features)
    except HrproError as error:
        return Outcome(video_id, reason=str(error))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "no space is left; make room and run the command again" if full else str(error)
        return Outcome(video_id, reason=f"{out}: {reason}", concerns_all=full or error.errno == errno.EROFS)
    header = features.header
    return Outcome(video_id, header.duration_seconds, partial_reason=header.partial_reason)


def main() -> None:
    """Serve the engine that started this process."""
    channel = serve()
    logging.basicConfig(level=logging.WARNING, handlers=[_ToEngine(channel)])
    logging.getLogger("hrpro_pipeline.extract.weights").setLevel(logging.ERROR)  # the engine's process says it
    message = channel.receive()
    if message is None:
        return
    extraction = Extraction.from_json(message[0])
    try:
        extractor = extraction.load()
    except HrproError as error:
        channel.send({"kind": "unable", "reason": str(error)})
        return
    for outcome in extract_to(extraction.out, _jobs(channel), extractor, _reporter(channel)):
        channel.send({"kind": "outcome", **asdict(outcome)})


class _ToEngine(logging.Handler):
    """Hands log lines to the engine's process, which owns the terminal."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.send({"kind": "log", "level": record.levelno, "text": record.getMessage()})


def _jobs(channel: Channel) -> Iterator[Job]:
    """Jobs, asked for one at a time."""
    while True:
        channel.send({"kind": "want"})
        message = channel.receive()
        if message is None or "video_id" not in message[0]:
            return
        yield Job(**message[0])


def _reporter(channel: Channel) -> OnFrames:
    def report(video_id: str, done: int, total: int) -> None:
        channel.send({"kind": "frames", "video_id": video_id, "done": done, "total": total})

    return report


if __name__ == "__main__":
    main()
