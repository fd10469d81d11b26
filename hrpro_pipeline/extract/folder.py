"""Many videos into a FEATURES folder: what is complete stays, what fails costs only itself, runs share the work."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import BaseFileLock

from hrpro_pipeline.base.progress import Task, progress
from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.failures import Failure, update_failures
from hrpro_pipeline.data.features import feature_name, read_header
from hrpro_pipeline.data.files import sha256
from hrpro_pipeline.data.leases import give_back, take_lease, tidy
from hrpro_pipeline.data.storage import Location, check_writable, is_url, joined, local_copy, version
from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError, UsageError
from hrpro_pipeline.extract.backbones import weight_digests
from hrpro_pipeline.extract.engines import Engine, in_processes, in_this_process
from hrpro_pipeline.extract.extractor import Job, check_decoder, stored_settings
from hrpro_pipeline.extract.flow import resolve_backend
from hrpro_pipeline.extract.ray_engine import on_ray
from hrpro_pipeline.extract.worker import Extraction, Outcome
from hrpro_pipeline.models.device import resolve_device

ENGINES = ("local", "ray")

# Between looks at videos that another run is at.
_LEASE_SECONDS = 1.0


@dataclass
class ExtractionSummary:
    """What became of the videos.

    Attributes:
        done: ids of those extracted now.
        skipped: ids of those that were complete already, or that another run has extracted meanwhile.
        failed: the others.
        partial: of those extracted now, why features end before the video does.
        video_seconds: of video extracted now.
        seconds: that it took.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    partial: dict[str, str] = field(default_factory=dict)
    video_seconds: float = 0.0
    seconds: float = 0.0


def extract_folder(
    paths: Sequence[Location],
    out: Location,
    settings: ExtractSettings,
    *,
    weights: str = "kinetics",
    flow: str = "auto",
    decoder: str = "auto",
    device: str = "auto",
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    overwrite: bool = False,
    keep_partial: bool = False,
    on_video: Callable[[str, str], None] | None = None,
) -> ExtractionSummary:
    """Extract videos, and the videos in folders, into `out`, one file each.

    A video is skipped if its file was made from the same video with the same settings and weights. Another run on the
    same folder does other videos meanwhile. `failures.jsonl` in the folder lists the videos that failed.

    Args:
        paths, out: on this machine, or fsspec URLs (a remote folder is not shared by leases).
        weights: "kinetics", "random" or a folder of weight files.
        flow: "auto", "torch" or "opencv".
        engine: "local" or "ray".
        workers: processes; by default one for each GPU, or this process alone on the CPU; for Ray, as many as fit.
        ray_address: of a running cluster.
        overwrite: extract all of them again.
        keep_partial: keep the features of videos that can be decoded in part, marked so.
        on_video: called with each video id and "done", "skipped" or "failed".

    Raises:
        HrproError: what concerns all videos: paths, weights, device, a full disk. A failing video is in the summary.
    """
    started = time.monotonic()
    if not is_url(out):
        out = Path(out).absolute()
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r}; expected {' or '.join(ENGINES)}")
    check_decoder(decoder)
    videos = find_videos(paths)
    stored = stored_settings(settings, resolve_backend(flow))
    wanted = None if overwrite else _Wanted(stored, weight_digests(settings, weights), keep_partial)
    extraction = Extraction(settings, str(out), weights, flow, decoder, device, keep_partial)
    run = _engine(extraction, engine, workers, ray_address)
    _check_writable(out)
    summary = ExtractionSummary()
    with progress("extracting", len(videos), "videos") as task:
        shown = _Shown(task, on_video)
        remaining = videos
        while remaining:
            remaining = _round(remaining, out, wanted, run, summary, shown)
            if remaining:
                time.sleep(_LEASE_SECONDS)
    update_failures(out, {*summary.done, *summary.skipped}, [])
    if isinstance(out, Path):
        _sweep(out)
        tidy(out)
    summary.seconds = time.monotonic() - started
    return summary


@dataclass(frozen=True)
class _Wanted:
    """What a complete file says of itself."""

    settings: dict[str, Any]
    weights: dict[str, str]
    keep_partial: bool


@dataclass(frozen=True)
class _Shown:
    """The display: all videos, and a row for each that is under way."""

    task: Task
    on_video: Callable[[str, str], None] | None

    def frames(self, video_id: str, count: int, total: int) -> None:
        """So many frames of a video are done; a total of 0 is not known yet."""
        self.task.video(video_id, count, total, "frames")

    def finished(self, video_id: str, status: str) -> None:
        """A video is "done", "skipped" or "failed"."""
        self.task.end_video(video_id)
        self.task.skip() if status == "skipped" else self.task.advance()
        if self.on_video is not None:
            self.on_video(video_id, status)


def _round(
    videos: dict[str, Location],
    out: Location,
    wanted: _Wanted | None,
    run: Engine,
    summary: ExtractionSummary,
    shown: _Shown,
) -> dict[str, Location]:
    """Extract what no other run is at -> the videos that another run is at."""
    leases: dict[str, BaseFileLock] = {}
    elsewhere: dict[str, Location] = {}
    ended = threading.Event()

    def skipped(video_id: str) -> None:
        summary.skipped.append(video_id)
        shown.finished(video_id, "skipped")

    def failed(video_id: str, reason: str) -> None:
        _note(Outcome(video_id, reason=reason), videos, summary, out)
        shown.finished(video_id, "failed")

    jobs = _jobs(videos, out, wanted, leases, elsewhere, skipped, failed)
    try:
        for outcome in run(_until(ended, jobs, leases), shown.frames):
            if outcome.concerns_all:
                raise HrproError(outcome.reason)
            _note(outcome, videos, summary, out)
            if (lease := leases.pop(outcome.video_id, None)) is not None:
                give_back(lease)
            shown.finished(outcome.video_id, "done" if outcome.reason is None else "failed")
    finally:
        ended.set()
        for lease in list(leases.values()):
            give_back(lease)
    return elsewhere


def _jobs(
    videos: dict[str, Location],
    out: Location,
    wanted: _Wanted | None,
    leases: dict[str, BaseFileLock],
    elsewhere: dict[str, Location],
    skipped: Callable[[str], None],
    failed: Callable[[str, str], None],
) -> Iterator[Job]:
    """Videos that are left to do, each with a lease; those that another run is at go to `elsewhere`."""
    for video_id, source in videos.items():
        if wanted is not None and _is_complete(out, video_id, source, wanted):
            skipped(video_id)
            continue
        if isinstance(out, Path):
            try:
                lease = take_lease(out, video_id)
            except OSError as error:
                failed(video_id, f"{out}: {error.strerror}: the lease on {video_id}")
                continue
            if lease is None:
                elsewhere[video_id] = source
                continue
            # Another run may have finished it since the look above.
            if wanted is not None and _is_complete(out, video_id, source, wanted):
                give_back(lease)
                skipped(video_id)
                continue
            leases[video_id] = lease
        yield Job(video_id, str(source if is_url(source) else Path(source).absolute()))


def _until(ended: threading.Event, jobs: Iterator[Job], leases: dict[str, BaseFileLock]) -> Iterator[Job]:
    """Jobs until the round has ended: a worker that has not noticed takes none, and no lease stays."""
    while not ended.is_set() and (job := next(jobs, None)):
        if ended.is_set():
            if (lease := leases.pop(job.video_id, None)) is not None:
                give_back(lease)
            return
        yield job


def _sweep(out: Path) -> None:
    """Remove what workers and runs that were killed have left half-written, unless another run is at the video."""
    for part in out.glob(".*.h5.*.part"):
        video_id = part.name[1:].rpartition(".h5.")[0]
        if (lease := take_lease(out, video_id)) is not None:
            part.unlink(missing_ok=True)
            give_back(lease)


def _engine(extraction: Extraction, engine: str, workers: int | None, ray_address: str | None) -> Engine:
    if engine == "ray":
        return partial(on_ray, extraction, address=ray_address, workers=workers)
    if ray_address is not None:
        raise UsageError("--ray-address goes with --engine ray")
    device = resolve_device(extraction.device)
    if device.type == "cuda":
        # All that are visible, unless one was named. On a GPU decoders run in the worker: never in this process.
        gpus = [str(device)] if device.index is not None else [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        devices = [gpus[i % len(gpus)] for i in range(workers or len(gpus))]
        many = [replace(extraction, device=name) for name in devices]
    else:
        if workers in (None, 1):
            return partial(in_this_process, extraction)
        assert workers is not None
        threads = max(1, torch.get_num_threads() // workers)
        many = [replace(extraction, device="cpu", threads=threads)] * workers
    return partial(in_processes, many)


def _note(outcome: Outcome, sources: dict[str, Location], summary: ExtractionSummary, out: Location) -> None:
    if outcome.reason is None:
        summary.done.append(outcome.video_id)
        summary.video_seconds += outcome.seconds
        if outcome.partial_reason is not None:
            summary.partial[outcome.video_id] = outcome.partial_reason
        return
    # A file's name may hold anything: line feeds, what a terminal takes for commands.
    reason = "".join(character for character in " ".join(outcome.reason.split()) if character.isprintable())
    failure = Failure(outcome.video_id, reason, str(sources[outcome.video_id]))
    summary.failed.append(failure)
    update_failures(out, {outcome.video_id}, [failure])


def _is_complete(out: Location, video_id: str, video: Location, wanted: _Wanted) -> bool:
    """Whether a file holds this video's features, made with the same settings and weights."""
    try:
        header = read_header(joined(out, feature_name(video_id)))
        same = header.settings == wanted.settings and header.weights == wanted.weights
        if not same or (header.partial_reason is not None and not wanted.keep_partial):
            return False
        now = version(video)
        if header.source.get("size") != now["size"]:
            return False
        if now["modified"] is not None and header.source.get("modified") == now["modified"]:
            return True
        with local_copy(video) as copy:  # a copy of the same video, or another one
            return bool(header.source.get("sha256") == sha256(copy))
    except (HrproError, OSError):
        return False  # not there, damaged, or of another version: made again. A video that has vanished fails then.


def _check_writable(out: Location) -> None:
    if not isinstance(out, Path):
        check_writable(out)
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out, prefix=".", suffix=".part"):
            pass
    except OSError as error:
        raise HrproError(f"{out}: cannot be written to ({error.strerror}); choose another folder with --out") from None
