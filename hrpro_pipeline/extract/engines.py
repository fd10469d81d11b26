"""Extraction in this process or in processes of this machine.

An engine takes jobs and yields an outcome for each. Jobs are taken one by one, as workers have room for them, possibly
from other threads. A worker that dies is replaced, and its videos are given out again.
"""

import logging
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from itertools import chain

import torch

from hrpro_pipeline.base.child import Child, ChildError
from hrpro_pipeline.errors import HrproError, UsageError
from hrpro_pipeline.extract.ahead import Shared, ahead
from hrpro_pipeline.extract.extractor import Job, OnFrames
from hrpro_pipeline.extract.options import Workers
from hrpro_pipeline.extract.worker import Extraction, Outcome, extract_to
from hrpro_pipeline.models.device import resolve_device

log = logging.getLogger(__name__)

# A worker that says nothing for so long hangs. Decoders have a shorter limit.
SILENCE_SECONDS = 900.0
# A video on which workers have died so often is given to a worker alone, so that no other video is lost with it ...
_ALONE_FROM = 2
# ... and this often: it has failed.
_MAX_DEATHS = 4
# Workers that die before they take a job will not do better.
_MAX_FALSE_STARTS = 3

# An engine with its extraction.
Engine = Callable[[Iterable[Job], OnFrames], Iterator[Outcome]]


def local_engine(extraction: Extraction, workers: Workers) -> Engine:
    """Workers on this machine: a process for each GPU, or this process alone on the CPU, unless a count is given.

    Raises:
        HrproError: a device that this machine does not have, or an address of a Ray cluster.
    """
    if workers.ray_address is not None:
        raise UsageError("`ray_address` goes with `engine=ray`")
    device = resolve_device(extraction.options.device)
    if device.type == "cuda":
        # All that are visible, unless one was named. On a GPU decoders run in the worker: never in this process.
        gpus = [str(device)] if device.index is not None else [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        devices = [gpus[i % len(gpus)] for i in range(workers.count or len(gpus))]
        # Workers share the cores, whether on one GPU or on several.
        threads = max(1, len(os.sched_getaffinity(0)) // len(devices))
        extractions = [
            replace(extraction, options=replace(extraction.options, device=name), threads=threads) for name in devices
        ]
        return partial(in_processes, extractions)
    count = workers.count or 1
    if count == 1:
        return partial(in_this_process, extraction)
    on_cpu = replace(extraction.options, device="cpu")
    one = replace(extraction, options=on_cpu, threads=max(1, torch.get_num_threads() // count))
    return partial(in_processes, [one] * count)


def in_this_process(extraction: Extraction, jobs: Iterable[Job], on_frames: OnFrames) -> Iterator[Outcome]:
    """One worker, without a process of its own. Raises HrproError if the networks cannot be loaded."""
    remaining = unless_empty(jobs)
    if remaining is not None:
        yield from extract_to(extraction.out, remaining, extraction.load(), on_frames)


def in_processes(extractions: Sequence[Extraction], jobs: Iterable[Job], on_frames: OnFrames) -> Iterator[Outcome]:
    """A worker process for each extraction; they differ in device or threads alone.

    Raises:
        HrproError: a worker that cannot load its networks, or does not start.
    """
    shared = Shared(jobs)
    stopped = threading.Event()
    try:
        workers = [
            _ReplacedWorker(replace(extraction, apart=True), shared, on_frames, stopped) for extraction in extractions
        ]
        yield from ahead([worker.outcomes() for worker in workers], len(extractions))
    finally:
        stopped.set()


def unless_empty(jobs: Iterable[Job]) -> Iterator[Job] | None:
    """The same jobs, or None if there are none: then nothing needs to be loaded."""
    remaining = iter(jobs)
    first = next(remaining, None)
    return None if first is None else chain([first], remaining)


def survivors(jobs: Iterable[Job], reason: str) -> tuple[list[Job], list[Outcome]]:
    """Of jobs whose worker died: those to be given out again, and outcomes of those on which workers died too often."""
    jobs = [replace(job, deaths=job.deaths + 1) for job in jobs]
    again = [job for job in jobs if job.deaths < _MAX_DEATHS]
    text = f"the worker process {reason}, {_MAX_DEATHS} times; re-encode or remove it"
    return again, [Outcome(job.video_id, reason=f"{job.video_id}: {text}") for job in jobs if job not in again]


def is_suspect(job: Job) -> bool:
    """Whether a job is to be given to a worker alone."""
    return job.deaths >= _ALONE_FROM


class _ReplacedWorker:
    """One worker process after another, until all jobs are done.

    Args:
        jobs: shared with other workers.
        stopped: set when nobody waits for outcomes any more.
    """

    def __init__(
        self, extraction: Extraction, jobs: Iterator[Job], on_frames: OnFrames, stopped: threading.Event
    ) -> None:
        self._extraction = extraction
        self._jobs = jobs
        self._on_frames = on_frames
        self._stopped = stopped
        self._again: deque[Job] = deque()  # jobs that were in a process which died
        self._in_process: dict[str, Job] = {}

    def outcomes(self) -> Iterator[Outcome]:
        """Outcomes as they come. Raises HrproError for a worker that cannot load its networks, or does not start."""
        false_starts = 0
        while not self._stopped.is_set() and (first := self._again[0] if self._again else next(self._jobs, None)):
            if not self._again:
                self._again.append(first)
            self._in_process = {}
            try:
                # A folder for temporary files, which a process that is killed leaves behind.
                with (
                    tempfile.TemporaryDirectory(prefix="hrpro-", ignore_cleanup_errors=True) as folder,
                    closing(Child("hrpro_pipeline.extract.worker", SILENCE_SECONDS, {"TMPDIR": folder})) as child,
                ):
                    yield from self._serve(child)
            except ChildError as error:
                false_starts = false_starts + 1 if self._again and self._again[0] is first else 0
                if false_starts == _MAX_FALSE_STARTS:
                    raise HrproError(f"a worker process {error} before its first video; run with `debug`") from None
                again, failed = survivors(self._in_process.values(), str(error))
                self._again += again
                yield from failed

    def _serve(self, child: Child) -> Iterator[Outcome]:
        """Give a process its jobs until there are no more and all have their outcome. Raises ChildError if it dies."""
        child.ask(self._extraction.as_json())
        jobs = self._jobs_of_process()
        ended = False
        while not self._stopped.is_set():
            header, _ = child.answer()
            kind = header.pop("kind")
            if kind == "want":
                job = next(jobs, None)
                ended = job is None
                if job is not None:
                    self._in_process[job.video_id] = job
                child.ask({} if job is None else asdict(job))
            elif kind == "frames":
                self._on_frames(header["video_id"], header["done"], header["total"])
            elif kind == "log":
                log.log(header["level"], "%s", header["text"])
            elif kind == "outcome":
                outcome = Outcome(**header)
                if self._in_process.pop(outcome.video_id, None) is not None:
                    yield outcome
            else:
                raise HrproError(header["reason"])
            if ended and not self._in_process:
                return

    def _jobs_of_process(self) -> Iterator[Job]:
        """Jobs for one process: a suspect alone; else the jobs to be done again, then the others."""
        first = self._again.popleft()
        yield first
        while not is_suspect(first) and (job := self._next_job()):
            yield job

    def _next_job(self) -> Job | None:
        if self._again:
            return None if is_suspect(self._again[0]) else self._again.popleft()
        return next(self._jobs, None)
