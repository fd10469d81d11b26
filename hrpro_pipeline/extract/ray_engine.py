"""Extraction on a Ray cluster: an actor is a worker; one that dies, alone or with its node, is replaced.

Every node needs this package at the version of the machine that starts the run, and the videos, the weights and the
output folder under the same paths or URLs.
"""

import contextlib
import importlib
import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrpro_pipeline._version import __version__
from hrpro_pipeline.data.storage import is_url
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.engines import is_suspect, survivors, with_first
from hrpro_pipeline.extract.extractor import Job, OnFrames
from hrpro_pipeline.extract.worker import Extraction, Outcome, extract_to

# Threads of a worker on the CPU: more workers of fewer threads are faster, but each holds its networks.
_CPUS_A_WORKER = 4
# Videos that an actor on a GPU is given at once, so that short ones share a batch.
_GROUP = {"cpu": 1, "cuda": 8}
_CONNECT_SECONDS = 10.0
# For so long a cluster that has lost its last node with room for a worker may take to get another.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class _Size:
    """Workers, and what each is given."""

    workers: int
    cpus: int
    gpus: int


def on_ray(
    extraction: Extraction, jobs: Iterable[Job], on_frames: OnFrames, *, address: str | None, workers: int | None
) -> Iterator[Outcome]:
    """Spread jobs over a Ray cluster. Progress within a video is not reported.

    Args:
        address: of a running cluster, or "auto"; None for one that is started on this machine, and ended.
        workers: actors; None for as many as the cluster has room for.

    Raises:
        HrproError: Ray is not installed, the cluster cannot be reached or has no room, or actors cannot start.
    """
    ray = _ray(address)
    some = with_first(jobs)
    if some is None:
        return
    started = not ray.is_initialized()
    if started:
        _start(ray, address)
    try:
        size = _size(ray.nodes(), extraction.device, workers)
        # An actor sees its own GPU alone; one without a GPU may see them all, and is to leave them.
        device = "cuda" if size.gpus else "cpu"
        given = replace(_absolute(extraction), threads=max(1, size.cpus), device=device, apart=True)
        yield from _spread(ray, given, some, size)
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any, address: str | None) -> None:
    if address is not None:
        _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without an address Ray would look for a cluster that somebody has left running here.
    where = {"address": "local", "include_dashboard": False} if address is None else {"address": address}
    try:
        # Workers import from the folder that the driver is in while it connects: from that of this package, wherever
        # they find it, and not from that of the user.
        with contextlib.chdir(Path(__file__).resolve().parents[2]):
            ray.init(**where, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # noqa: BLE001  Ray raises many types
        raise HrproError(f"Ray cluster {address or 'on this machine'}: {_last_line(error)}") from None


def _check_reachable(address: str) -> None:
    """Raise HrproError if nobody answers; Ray itself would try for long."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():  # "auto", or what Ray will complain of
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        raise HrproError(f"Ray cluster {address}: {error}; start it with `ray start --head`, or name another") from None


def _absolute(extraction: Extraction) -> Extraction:
    """With paths that mean the same in a worker, whatever folder it runs in."""
    out = extraction.out if is_url(extraction.out) else str(Path(extraction.out).absolute())
    known = extraction.weights in ("kinetics", "random")
    return replace(
        extraction, out=out, weights=extraction.weights if known else str(Path(extraction.weights).absolute())
    )


def _spread(ray: Any, extraction: Extraction, jobs: Iterator[Job], size: _Size) -> Iterator[Outcome]:
    group = _GROUP["cuda" if size.gpus else "cpu"]
    again: deque[Job] = deque()
    # What each actor is busy with: its jobs, or none while it starts. One for which there is no room any more, as its
    # node is gone, starts for ever: jobs are given only to those that have started.
    busy: dict[Any, tuple[Any, list[Job]]] = {}
    idle: list[Any] = []
    actor_type = ray.remote(num_cpus=size.cpus, num_gpus=size.gpus, max_restarts=0)(_Worker)

    def start() -> None:
        actor = actor_type.remote(extraction.as_json(), __version__)
        busy[actor.started.remote()] = actor, []

    for _ in range(size.workers):
        start()
    deaths_in_a_row = 0
    while True:
        while idle and (given := _group(again, jobs, group)):
            actor = idle.pop()
            busy[actor.extract.remote(given)] = actor, given
        if idle and not any(given for _, given in busy.values()):
            return
        finished, _ = ray.wait(list(busy), num_returns=1, timeout=_PATIENCE_SECONDS)
        if not finished:
            if not any(given for _, given in busy.values()):
                _check_room(ray.nodes(), size)
            continue
        (result,) = finished
        actor, given = busy.pop(result)
        try:
            outcomes = ray.get(result)
        except ray.exceptions.RayError as error:  # the actor or its node died, had no memory, or raised
            if isinstance(cause := getattr(error, "cause", None), HrproError):  # about all videos
                raise HrproError(str(cause)) from None
            deaths_in_a_row += 1
            if deaths_in_a_row > 3 * size.workers + 3:
                raise HrproError(f"Ray workers die one after another: {_last_line(error)}") from None
            ray.kill(actor)
            start()
            retried, failed = survivors(given, "died")
            again += retried
            yield from failed
        else:
            deaths_in_a_row = 0
            idle.append(actor)
            yield from outcomes


class _Worker:
    """An actor: loads the networks with its first jobs, so that what is wrong with them is an answer, not a death."""

    def __init__(self, extraction: dict[str, Any], version: str) -> None:
        self._fields = extraction
        self._version = version
        self._extractor: Any = None

    def started(self) -> list[Outcome]:
        """Answers when the actor has its place."""
        if self._version != __version__:
            text = (
                f"Ray node {socket.gethostname()} has hrpro {__version__}; install {self._version}, as on this machine"
            )
            raise HrproError(text)
        return []

    def extract(self, jobs: list[Job]) -> list[Outcome]:
        """Extract a few videos."""
        extraction = Extraction.from_json(self._fields)
        self._extractor = self._extractor or extraction.load()
        return list(extract_to(extraction.out, jobs, self._extractor))


def _group(again: deque[Job], jobs: Iterator[Job], most: int) -> list[Job]:
    """The next jobs for one actor: a suspect alone."""
    if again and is_suspect(again[0]):
        return [again.popleft()]
    found: list[Job] = []
    while len(found) < most and not (again and is_suspect(again[0])):
        job = again.popleft() if again else next(jobs, None)
        if job is None:
            break
        found.append(job)
    return found


def _size(nodes: list[dict[str, Any]], device: str, workers: int | None) -> _Size:
    if device not in ("auto", "cpu", "cuda"):
        raise HrproError(
            f"device {device}: with --engine ray auto, cpu or cuda; Ray chooses among the GPUs of its nodes"
        )
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in alive]
    gpus = sum(int(node.get("GPU", 0)) for node in alive)
    if device == "cuda" or (device == "auto" and gpus):
        if gpus == 0:
            raise HrproError(f"device {device}: the Ray cluster has no GPU; use --device cpu")
        count = workers or gpus
        # Of each node with GPUs the share of one; it may have fewer CPUs than GPUs.
        shares = [int(node.get("CPU", 0)) // int(node["GPU"]) for node in alive if node.get("GPU", 0) >= 1]
        return _Size(count, min(_CPUS_A_WORKER, *shares), 1)
    useful = [count for count in cpus if count > 0]
    if not useful:
        raise HrproError("the Ray cluster has no CPUs; start nodes with `ray start --num-cpus N`")
    each = min(_CPUS_A_WORKER, *useful) if workers is None else max(1, min(min(useful), sum(useful) // workers))
    return _Size(workers or sum(count // each for count in useful), each, 0)


def _check_room(nodes: list[dict[str, Any]], size: _Size) -> None:
    """Raise HrproError if no node could hold a worker, even with nothing else on it."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(node.get("CPU", 0) >= size.cpus and node.get("GPU", 0) >= size.gpus for node in alive):
        needed = f"{size.cpus} CPUs" + (f" and {size.gpus} GPU" if size.gpus else "")
        raise HrproError(f"the Ray cluster has no node left with {needed}; run the command again when it has")


def _ray(address: str | None) -> Any:
    if address is not None:  # where something else than Ray answers it would try for a quarter of an hour, not 40 s
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise HrproError("--engine ray needs Ray: pip install 'hrpro-pipeline[ray]'") from None


def _last_line(error: BaseException) -> str:
    """What Ray says of an error; the lines above it say where."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:300]
