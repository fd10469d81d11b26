"""First stage: videos to chunks of resized frames."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import cache, partial

from hrpro_pipeline.data.files import sha256
from hrpro_pipeline.data.storage import local_copy, name_of, version
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.extractor import Extractor, Job, OnFrames
from hrpro_pipeline.extract.preprocess import Windows
from hrpro_pipeline.extract.stages.passage import Decoded, Passage, as_hrpro_error, make_current
from hrpro_pipeline.extract.video.process import DecodeRecord, DecodeRequest, DecoderProcess

log = logging.getLogger(__name__)

# Between signs of life while a video is copied and read through.
_ALIVE_SECONDS = 5.0


def decode_stage(jobs: Iterable[Job], extractor: Extractor, on_frames: OnFrames) -> Iterator[Decoded]:
    """One video after another: its facts, its chunks of frames, its record; or what is wrong with it."""
    settings, reach = extractor.settings, extractor.reach()
    make_current(extractor.device)
    with closing(DecoderProcess()) as process:
        for job in jobs:
            video = Passage(job.video_id, Windows(settings.snippet_frames, settings.stride, *reach))
            try:
                yield from _decoded(video, job, extractor, process, on_frames)
            except (HrproError, OSError) as error:
                yield video, as_hrpro_error(job.video_id, error)


def _decoded(
    video: Passage, job: Job, extractor: Extractor, process: DecoderProcess, on_frames: OnFrames
) -> Iterator[Decoded]:
    on_bytes = _now_and_then(partial(on_frames, job.video_id, 0, 0))
    facts = version(job.source)  # before it is read: a change meanwhile shows next time
    with local_copy(job.source, on_bytes) as path:
        video.source = {"name": name_of(job.source), **facts, "sha256": sha256(path, on_bytes)}
        settings = extractor.settings
        request = DecodeRequest(path, extractor.decoder, settings.fps, settings.resize, extractor.keep_partial)
        # On the GPU in this process, if that may die, and unless one has died on the video before.
        on_gpu = extractor.apart and job.deaths == 0 and extractor.decoder in ("auto", "torchcodec")
        stream = process.stream(request, str(extractor.device) if on_gpu else "cpu")
        with closing(stream) as items:  # type: ignore[type-var]
            for item in items:
                if video.failed:  # in a later stage
                    return
                if isinstance(item, DecodeRecord) and item.time_note is not None:
                    log.warning("%s: %s", job.video_id, item.time_note)
                if isinstance(item, DecodeRecord) and on_gpu and extractor.device.type == "cuda":
                    warn_of_cpu(item)
                yield video, item


def warn_of_cpu(record: DecodeRecord) -> None:
    """Say once for each reason that a video was decoded on the CPU though it was to be on the GPU."""
    if record.decoder_device == "cpu" and record.fallback_reason is not None:
        _warn_once(record.fallback_reason)


@cache
def _warn_once(reason: str) -> None:
    log.warning("decoded on the CPU, not on the GPU, which is slower: %s; feature files say so of each video", reason)


def _now_and_then(call: Callable[[], object]) -> Callable[[], None]:
    """`call`, but not more often than every few seconds."""
    last = time.monotonic()

    def called() -> None:
        nonlocal last
        if time.monotonic() - last > _ALIVE_SECONDS:
            last = time.monotonic()
            call()

    return called
