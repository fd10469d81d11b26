"""Many videos into a FEATURES folder: what is complete stays, what fails costs only itself, runs share the work."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from hrpro_pipeline.base.progress import Task, progress
from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.failures import Failure, update_failures
from hrpro_pipeline.data.features import feature_name, read_header
from hrpro_pipeline.data.files import sha256
from hrpro_pipeline.data.leases import remove_leases_folder, return_lease, take_lease
from hrpro_pipeline.data.storage import Location, check_writable, is_url, joined, local_copy, version
from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError, UsageError
from hrpro_pipeline.extract.backbones import weight_digests
from hrpro_pipeline.extract.engines import Engine, local_engine
from hrpro_pipeline.extract.extractor import Job
from hrpro_pipeline.extract.flow import resolve_backend
from hrpro_pipeline.extract.header import stored_settings
from hrpro_pipeline.extract.options import ENGINES, ExtractOptions, Workers
from hrpro_pipeline.extract.ray_engine import ray_engine
from hrpro_pipeline.extract.video.decoding import check_decoder
from hrpro_pipeline.extract.worker import Extraction, Outcome

ENGINE_MAKERS: dict[str, Callable[[Extraction, Workers], Engine]] = {"local": local_engine, "ray": ray_engine}

# Between looks at videos that another run is extracting.
_LEASE_SECONDS = 1.0


@dataclass
class ExtractionSummary:
    """How the videos of a run ended.

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
    options: ExtractOptions = ExtractOptions(),
    workers: Workers = Workers(),
    *,
    overwrite: bool = False,
    on_video: Callable[[str, str], None] | None = None,
) -> ExtractionSummary:
    """Extract videos, and the videos in folders, into `out`, one file each.

    A video is skipped if its file was made from the same video with the same settings and weights. Another run on the
    same folder does other videos meanwhile. `failures.jsonl` in the folder lists the videos that failed.

    Args:
        paths, out: on this machine, or fsspec URLs (a remote folder is not shared by leases).
        overwrite: extract all of them again.
        on_video: called with each video id and "done", "skipped" or "failed".

    Raises:
        HrproError: what concerns all videos: paths, weights, device, a full disk. A failing video is in the summary.
    """
    started = time.monotonic()
    if not is_url(out):
        out = Path(out).absolute()
    if workers.engine not in ENGINES:
        raise UsageError(f"engine {workers.engine!r}; expected {' or '.join(ENGINES)}")
    check_decoder(options.decoder)
    found = find_videos(paths)
    videos = found.by_id
    stored = stored_settings(settings, resolve_backend(options.flow))
    expected = None
    if not overwrite:
        expected = _ExpectedFile(stored, weight_digests(settings, options.weights, options.own), options.keep_partial)
    engine = ENGINE_MAKERS[workers.engine](Extraction(settings, str(out), options), workers)
    _check_writable(out)
    with progress("extracting", len(videos) + len(found.failures), "videos") as task:
        ledger = _Ledger(videos, out, task, on_video)
        ledger.fail(found.failures)
        while videos:
            videos = _Round(videos, out, expected, ledger).run(engine)
            if videos:
                time.sleep(_LEASE_SECONDS)
    summary = ledger.summary
    update_failures(out, {*summary.done, *summary.skipped}, [])
    if isinstance(out, Path):
        _remove_parts(out)
        remove_leases_folder(out)
    summary.seconds = time.monotonic() - started
    return summary


@dataclass(frozen=True)
class _ExpectedFile:
    """The parts of its header by which a complete feature file is told from one to be made again."""

    settings: dict[str, Any]
    weights: dict[str, str]
    keep_partial: bool

    def is_in(self, out: Location, video_id: str, video: Location) -> bool:
        """Whether a folder has this video's features, made with the same settings and weights."""
        try:
            header = read_header(joined(out, feature_name(video_id)))
            if header.settings != self.settings or header.weights != self.weights:
                return False
            if header.partial_reason is not None and not self.keep_partial:
                return False
            current = version(video)
            if header.source.get("size") != current["size"]:
                return False
            if current["modified"] is not None and header.source.get("modified") == current["modified"]:
                return True
            with local_copy(video) as copy:  # a copy of the same video, or another one
                return bool(header.source.get("sha256") == sha256(copy))
        except (HrproError, OSError):
            # No file, damaged, or of another version: made again. A video that has vanished fails then.
            return False


class _Ledger:
    """Keeps how each video ended: in the summary, in `failures.jsonl` and on the display.

    Attributes:
        summary: of the videos so far.
    """

    def __init__(
        self,
        videos: dict[str, Location],
        out: Location,
        task: Task,
        on_video: Callable[[str, str], None] | None,
    ) -> None:
        self.summary = ExtractionSummary()
        self._videos = videos
        self._out = out
        self._task = task
        self._on_video = on_video

    def show_frames(self, video_id: str, count: int, total: int) -> None:
        """So many frames of a video are done; a total of 0 is not known yet."""
        self._task.video(video_id, count, total, "frames")

    def skip(self, video_id: str) -> None:
        """A video is complete."""
        self.summary.skipped.append(video_id)
        self._show_end(video_id, "skipped")

    def note(self, outcome: Outcome) -> None:
        """Keep an outcome; `show` is to follow once the lease on the video is returned."""
        if outcome.reason is None:
            self.summary.done.append(outcome.video_id)
            self.summary.video_seconds += outcome.seconds
            if outcome.partial_reason is not None:
                self.summary.partial[outcome.video_id] = outcome.partial_reason
            return
        # A file's name may hold anything: line feeds, what a terminal takes for commands.
        reason = "".join(character for character in " ".join(outcome.reason.split()) if character.isprintable())
        failure = Failure(outcome.video_id, reason, str(self._videos[outcome.video_id]))
        self.summary.failed.append(failure)
        update_failures(self._out, {outcome.video_id}, [failure])

    def fail(self, failures: Sequence[Failure]) -> None:
        """Keep videos that failed before any was read."""
        self.summary.failed += failures
        update_failures(self._out, {failure.video_id for failure in failures}, failures)
        for failure in failures:
            self._show_end(failure.video_id, "failed")

    def show(self, outcome: Outcome) -> None:
        """Show how a video ended."""
        self._show_end(outcome.video_id, "done" if outcome.reason is None else "failed")

    def _show_end(self, video_id: str, status: str) -> None:
        self._task.end_video(video_id)
        self._task.skip() if status == "skipped" else self._task.advance()
        if self._on_video is not None:
            self._on_video(video_id, status)


class _Round:
    """One pass over videos that extracts those on which no other run has the lease, and owns their leases.

    Args:
        expected: by which complete files are told; None for making all of them again.
    """

    def __init__(
        self, videos: dict[str, Location], out: Location, expected: _ExpectedFile | None, ledger: _Ledger
    ) -> None:
        self._videos = videos
        self._out = out
        self._expected = expected
        self._ledger = ledger
        self._leases: dict[str, BaseFileLock] = {}
        self._elsewhere: dict[str, Location] = {}
        self._ended = threading.Event()

    def run(self, engine: Engine) -> dict[str, Location]:
        """Extract -> the videos that other runs are extracting.

        Raises:
            HrproError: what concerns all videos.
        """
        try:
            for outcome in engine(self._jobs(), self._ledger.show_frames):
                if outcome.concerns_all:
                    raise HrproError(outcome.reason)
                self._ledger.note(outcome)
                self._return_lease(outcome.video_id)
                self._ledger.show(outcome)
        finally:
            self._ended.set()
            for video_id in list(self._leases):
                self._return_lease(video_id)
        return self._elsewhere

    def _jobs(self) -> Iterator[Job]:
        """Jobs until the round has ended; taken from any thread, one at a time.

        A worker that has not noticed the end gets none, and no lease stays.
        """
        for video_id, video in self._videos.items():
            if self._ended.is_set():
                return
            if not self._take(video_id, video):
                continue
            if self._ended.is_set():
                self._return_lease(video_id)
                return
            yield Job(video_id, str(video if is_url(video) else Path(video).absolute()))

    def _take(self, video_id: str, video: Location) -> bool:
        """Whether a video is to be extracted now; this run has its lease then."""
        if self._is_complete(video_id, video):
            self._ledger.skip(video_id)
            return False
        if not isinstance(self._out, Path):
            return True
        try:
            lease = take_lease(self._out, video_id)
        except OSError as error:
            outcome = Outcome(video_id, reason=f"{self._out}: {error.strerror}: the lease on {video_id}")
            self._ledger.note(outcome)
            self._ledger.show(outcome)
            return False
        if lease is None:
            self._elsewhere[video_id] = video
            return False
        # Another run may have finished it since the look above.
        if self._is_complete(video_id, video):
            return_lease(lease)
            self._ledger.skip(video_id)
            return False
        self._leases[video_id] = lease
        return True

    def _is_complete(self, video_id: str, video: Location) -> bool:
        return self._expected is not None and self._expected.is_in(self._out, video_id, video)

    def _return_lease(self, video_id: str) -> None:
        if (lease := self._leases.pop(video_id, None)) is not None:
            return_lease(lease)


def _remove_parts(out: Path) -> None:
    """Remove half-written files of workers and runs that were killed, unless another run extracts the video."""
    for part in out.glob(".*.h5.*.part"):
        video_id = part.name[1:].rpartition(".h5.")[0]
        if (lease := take_lease(out, video_id)) is not None:
            part.unlink(missing_ok=True)
            return_lease(lease)


def _check_writable(out: Location) -> None:
    if not isinstance(out, Path):
        check_writable(out)
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out, prefix=".", suffix=".part"):
            pass
    except OSError as error:
        raise HrproError(f"{out}: cannot be written to ({error.strerror}); choose another folder with `out`") from None
