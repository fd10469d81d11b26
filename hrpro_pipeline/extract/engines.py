"""Where videos are extracted: in this process, in processes of this machine, or on a Ray cluster.

An engine takes an extraction and jobs, and yields an outcome for each job. Jobs are taken one by one, as workers have
room for them, possibly from other threads. A worker that dies is replaced, and its videos are given out again.
"""

import logging
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from itertools import chain

from hrpro_pipeline.base.child import Child, ChildError
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.ahead import Shared, ahead
from hrpro_pipeline.extract.extractor import Job, OnFrames
from hrpro_pipeline.extract.worker import Extraction, Outcome, extract_to

log = logging.getLogger(__name__)

# A worker that says nothing for so long hangs. Decoders have their own, shorter limit.
SILENCE_SECONDS = 900.0
# A video on which workers have died so often is given to a worker alone, so that it takes no other down with it ...
_ALONE_FROM = 2
# ... and this often: it has failed.
_MOST_DEATHS = 4
# Workers that die before they take a job will not do better.
_MOST_FALSE_STARTS = 3

# An engine with its extraction.
Engine = Callable[[Iterable[Job], OnFrames], Iterator[Outcome]]


def in_this_process(extraction: Extraction, jobs: Iterable[Job], on_frames: OnFrames) -> Iterator[Outcome]:
    """One worker, without a process of its own. Raises HrproError if the networks cannot be loaded."""
    if some := with_first(jobs):
        yield from extract_to(extraction.out, some, extraction.load(), on_frames)


def in_processes(extractions: Sequence[Extraction], jobs: Iterable[Job], on_frames: OnFrames) -> Iterator[Outcome]:
    """A worker process for each extraction; they differ in device or threads alone.

    Raises:
        HrproError: a worker that cannot load its networks, or does not start.
    """
    shared = Shared(jobs)
    stopped = threading.Event()
    try:
        workers = [_process(replace(extraction, apart=True), shared, on_frames, stopped) for extraction in extractions]
        yield from ahead(workers, len(extractions))
    finally:
        stopped.set()


def with_first(jobs: Iterable[Job]) -> Iterator[Job] | None:
    """The same jobs, or None if there are none: then nothing needs to be loaded."""
    rest = iter(jobs)
    first = next(rest, None)
    return None if first is None else chain([first], rest)


def survivors(jobs: Iterable[Job], reason: str) -> tuple[list[Job], list[Outcome]]:
    """Of jobs whose worker died: those to be given out again, and outcomes of those that it happened to too often."""
    counted = [replace(job, deaths=job.deaths + 1) for job in jobs]
    again = [job for job in counted if job.deaths < _MOST_DEATHS]
    text = f"the worker process {reason}, {_MOST_DEATHS} times; re-encode or remove it"
    return again, [Outcome(job.video_id, reason=f"{job.video_id}: {text}") for job in counted if job not in again]


def is_suspect(job: Job) -> bool:
    """Whether a job is to be given to a worker alone."""
    return job.deaths >= _ALONE_FROM


def _process(
    extraction: Extraction, jobs: Iterator[Job], on_frames: OnFrames, stopped: threading.Event
) -> Iterator[Outcome]:
    """One worker process after another, until all jobs are done."""
    again: deque[Job] = deque()
    false_starts = 0
    while not stopped.is_set() and (first := again[0] if again else next(jobs, None)):
        again = again or deque([first])
        out_there: dict[str, Job] = {}
        try:
            # A folder for temporary files, which one that is killed leaves behind.
            with (
                tempfile.TemporaryDirectory(prefix="hrpro-", ignore_cleanup_errors=True) as folder,
                closing(Child("hrpro_pipeline.extract.worker", SILENCE_SECONDS, {"TMPDIR": folder})) as child,
            ):
                yield from _serve(child, extraction, _given(again, jobs), out_there, on_frames, stopped)
        except ChildError as error:
            false_starts = false_starts + 1 if again and again[0] is first else 0
            if false_starts == _MOST_FALSE_STARTS:
                raise HrproError(f"a worker process {error} before its first video; run with --debug") from None
            retried, failed = survivors(out_there.values(), str(error))
            again += retried
            yield from failed


def _given(again: deque[Job], jobs: Iterator[Job]) -> Iterator[Job]:
    """What one worker process is given: a suspect alone; else what has to be done again, then the others."""
    first = again.popleft()
    yield first
    while not is_suspect(first) and (job := _next(again, jobs)):
        yield job


def _next(again: deque[Job], jobs: Iterator[Job]) -> Job | None:
    if again:
        return None if is_suspect(again[0]) else again.popleft()
    return next(jobs, None)


def _serve(
    child: Child,
    extraction: Extraction,
    jobs: Iterator[Job],
    out_there: dict[str, Job],
    on_frames: OnFrames,
    stopped: threading.Event,
) -> Iterator[Outcome]:
    """Give a worker its jobs until there are no more and all have their outcome. Raises ChildError if it dies."""
    child.ask(extraction.as_json())
    ended = False
    while not stopped.is_set():
        header, _ = child.answer()
        kind = header.pop("kind")
        if kind == "want":
            job = next(jobs, None)
            if job is None:
                ended = True
            else:
                out_there[job.video_id] = job
            child.ask({} if job is None else asdict(job))
        elif kind == "frames":
            on_frames(header["video_id"], header["done"], header["total"])
        elif kind == "log":
            log.log(header["level"], "%s", header["text"])
        elif kind == "outcome":
            outcome = Outcome(**header)
            if out_there.pop(outcome.video_id, None) is not None:
                yield outcome
        else:
            raise HrproError(header["reason"])
        if ended and not out_there:
            return
