"""Extraction on a Ray cluster: an actor is a worker; one that dies, alone or with its node, is replaced.

Every node needs this package at the version of the machine that starts the run, and the videos, the weights and the
output folder under the same paths or URLs.
"""

import contextlib
import importlib
import os
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hrpro_pipeline._version import __version__
from hrpro_pipeline.data.storage import is_url
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.engines import Engine, is_suspect, survivors, unless_empty
from hrpro_pipeline.extract.extractor import Extractor, Job, OnFrames
from hrpro_pipeline.extract.options import Workers
from hrpro_pipeline.extract.worker import Extraction, Outcome, extract_to

# Threads of a worker on the CPU: more workers of fewer threads are faster, but each has its networks in memory.
_CPUS_A_WORKER = 4
# Videos that an actor on a GPU is given at once, so that short ones share a batch.
_GROUP = {"cpu": 1, "cuda": 8}
_CONNECT_SECONDS = 10.0
# A cluster that has lost its last node with room for a worker may take so long to get another.
_PATIENCE_SECONDS = 60.0
# Between looks at whether nodes have joined the cluster.
_LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class _Size:
    """How many workers there are, and the CPUs and GPUs of each."""

    workers: int
    cpus: int
    gpus: int


def ray_engine(extraction: Extraction, workers: Workers) -> Engine:
    """Workers on a Ray cluster: a running one, or one that is started on this machine."""
    return partial(on_ray, extraction, workers)


def on_ray(extraction: Extraction, workers: Workers, jobs: Iterable[Job], on_frames: OnFrames) -> Iterator[Outcome]:
    """Spread jobs over a Ray cluster. Progress within a video is not reported.

    Raises:
        HrproError: Ray is not installed, the cluster cannot be reached or has no room, or actors cannot start.
    """
    ray = _import_ray(workers.ray_address)
    remaining = unless_empty(jobs)
    if remaining is None:
        return
    started = not ray.is_initialized()
    if started:
        _start(ray, workers.ray_address)
    try:
        size = _size(ray.nodes(), extraction.options.device, workers.count)
        grows = workers.count is None
        yield from _Actors(ray, _for_actors(extraction, size), remaining, size, grows=grows).outcomes()
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any, address: str | None) -> None:
    if address is not None:
        _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without an address Ray would look for a cluster that somebody has left running here.
    cluster = {"address": "local", "include_dashboard": False} if address is None else {"address": address}
    try:
        # Workers import from the folder that the driver is in while it connects: it is to be this package's.
        with contextlib.chdir(Path(__file__).resolve().parents[2]):
            ray.init(**cluster, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # noqa: BLE001  Ray raises many types
        raise HrproError(f"Ray cluster {address or 'on this machine'}: {_last_line(error)}") from None


def _check_reachable(address: str) -> None:
    """Raise HrproError if nothing answers at an address; Ray itself would try for long."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():  # "auto", or what Ray will complain of
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS):
            pass
    except (OSError, OverflowError) as error:
        raise HrproError(f"Ray cluster {address}: {error}; start it with `ray start --head`, or name another") from None


def _for_actors(extraction: Extraction, size: _Size) -> Extraction:
    """With the device and threads of an actor, and with paths that mean the same in it, whatever folder it runs in."""
    options = extraction.options
    weights = options.weights
    if weights not in ("kinetics", "random"):
        weights = str(Path(weights).absolute())
    return Extraction(
        extraction.settings,
        extraction.out if is_url(extraction.out) else str(Path(extraction.out).absolute()),
        # An actor sees its own GPU alone; one without a GPU may see them all, and is to leave them.
        replace(options, weights=weights, device="cuda" if size.gpus else "cpu"),
        threads=max(1, size.cpus),
        apart=True,
    )


class _Actors:
    """Actors of a cluster and the jobs that they work on.

    Args:
        grows: nodes that join the cluster get actors as well.
    """

    def __init__(
        self, ray: Any, extraction: Extraction, jobs: Iterator[Job], size: _Size, *, grows: bool = False
    ) -> None:
        self._ray = ray
        self._extraction = extraction
        self._jobs = jobs
        self._size = size
        self._grows = grows
        self._looked = time.monotonic()
        self._group = _GROUP["cuda" if size.gpus else "cpu"]
        self._again: deque[Job] = deque()  # jobs of actors that died
        # By pending result, actors with their jobs, or without while they start. An actor for which there is no room
        # any more, as its node is gone, never starts: jobs are given only to those that have started.
        self._busy: dict[Any, tuple[Any, list[Job]]] = {}
        self._idle: list[Any] = []
        self._deaths_in_a_row = 0
        self._actor_type = ray.remote(num_cpus=size.cpus, num_gpus=size.gpus, max_restarts=0)(_Worker)

    def outcomes(self) -> Iterator[Outcome]:
        """Outcomes of all jobs. Raises HrproError if actors cannot start, have no room, or die one after another."""
        for _ in range(self._size.workers):
            self._start_actor()
        while True:
            while self._idle and (jobs := self._next_jobs()):
                actor = self._idle.pop()
                self._busy[actor.extract.remote(jobs)] = actor, jobs
            if self._idle and not self._is_working():
                return
            results, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=_PATIENCE_SECONDS)
            if results:
                yield from self._collect(results[0])
            elif not self._is_working():
                _check_room(self._ray.nodes(), self._size)
            self._grow()

    def _grow(self) -> None:
        """Start actors on nodes that have joined."""
        if self._grows and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            for _ in range(_room(self._ray.nodes(), self._size) - len(self._busy) - len(self._idle)):
                self._start_actor()

    def _start_actor(self) -> None:
        actor = self._actor_type.remote(self._extraction.as_json(), __version__)
        self._busy[actor.started.remote()] = actor, []

    def _is_working(self) -> bool:
        return any(jobs for _, jobs in self._busy.values())

    def _collect(self, result: Any) -> Iterator[Outcome]:
        """Outcomes of an actor that has answered or died."""
        actor, jobs = self._busy.pop(result)
        try:
            outcomes = self._ray.get(result)
        except self._ray.exceptions.RayError as error:  # the actor or its node died, had no memory, or raised
            if isinstance(cause := getattr(error, "cause", None), HrproError):  # about all videos
                raise HrproError(str(cause)) from None
            self._deaths_in_a_row += 1
            if self._deaths_in_a_row > 3 * self._size.workers + 3:
                raise HrproError(f"Ray workers die one after another: {_last_line(error)}") from None
            self._ray.kill(actor)
            self._start_actor()
            again, failed = survivors(jobs, "died")
            self._again += again
            yield from failed
        else:
            if jobs:  # to have started is no success
                self._deaths_in_a_row = 0
            self._idle.append(actor)
            yield from outcomes

    def _next_jobs(self) -> list[Job]:
        """The next jobs for one actor: a suspect alone."""
        if self._again and is_suspect(self._again[0]):
            return [self._again.popleft()]
        jobs: list[Job] = []
        while len(jobs) < self._group and not (self._again and is_suspect(self._again[0])):
            job = self._again.popleft() if self._again else next(self._jobs, None)
            if job is None:
                break
            jobs.append(job)
        return jobs


class _Worker:
    """An actor: loads the networks with its first jobs, so that what is wrong with them is an answer, not a death."""

    def __init__(self, extraction: dict[str, Any], version: str) -> None:
        self._fields = extraction  # not parsed yet: another version may have other fields
        self._version = version
        self._extractor: Extractor | None = None

    def started(self) -> list[Outcome]:
        """No outcomes: answers when the actor has its place. Raises HrproError for another version of this package."""
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


def _size(nodes: list[dict[str, Any]], device: str, count: int | None) -> _Size:
    """Workers for a cluster of these nodes; as many as fit if no count is given."""
    if device not in ("auto", "cpu", "cuda"):
        raise HrproError(
            f"device {device}: with `engine=ray` auto, cpu or cuda; Ray chooses among the GPUs of its nodes"
        )
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    num_gpus = sum(int(node.get("GPU", 0)) for node in resources)
    if device == "cpu" or (device == "auto" and num_gpus == 0):
        return _size_on_cpus(resources, count)
    if num_gpus == 0:
        raise HrproError(f"device {device}: the Ray cluster has no GPU; use `device=cpu`")
    # Of each node with GPUs the share of one; it may have fewer CPUs than GPUs.
    shares = [int(node.get("CPU", 0)) // int(node["GPU"]) for node in resources if node.get("GPU", 0) >= 1]
    return _Size(count or num_gpus, min(_CPUS_A_WORKER, *shares), 1)


def _size_on_cpus(resources: list[dict[str, Any]], count: int | None) -> _Size:
    cpus = [num_cpus for node in resources if (num_cpus := int(node.get("CPU", 0))) > 0]
    if not cpus:
        raise HrproError("the Ray cluster has no CPUs; start nodes with `ray start --num-cpus N`")
    threads = min(_CPUS_A_WORKER, *cpus)  # every node with CPUs is of use
    if count is not None:
        threads = max(1, min(min(cpus), sum(cpus) // count))
    return _Size(count or sum(num_cpus // threads for num_cpus in cpus), threads, 0)


def _room(nodes: list[dict[str, Any]], size: _Size) -> int:
    """How many workers the nodes hold, with nothing else on them."""
    needs = [(kind, amount) for kind, amount in (("CPU", size.cpus), ("GPU", size.gpus)) if amount]
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    return sum(min(int(node.get(kind, 0)) // amount for kind, amount in needs) for node in resources)


def _check_room(nodes: list[dict[str, Any]], size: _Size) -> None:
    """Raise HrproError if no node could hold a worker, even with nothing else on it."""
    if _room(nodes, size) == 0:
        needed = f"{size.cpus} CPUs" + (f" and {size.gpus} GPU" if size.gpus else "")
        raise HrproError(f"the Ray cluster has no node left with {needed}; run the command again when it has")


def _import_ray(address: str | None) -> Any:
    if address is not None:  # where another program answers, it would try for a quarter of an hour, not 40 s
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise HrproError("`engine=ray` needs Ray: pip install 'hrpro-pipeline[ray]'") from None


def _last_line(error: BaseException) -> str:
    """The text of an error of Ray's, without the lines above it that say where it was raised."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:300]
