"""Extraction on Ray: real clusters of several nodes on this machine, whose nodes and workers are killed at work."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from conftest import skip_or_fail
from make_videos import moving_square, write_video
from processes import wait_for

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract import engines, ray_engine
from hrpro_pipeline.extract.extractor import Job
from hrpro_pipeline.extract.folder import extract_folder
from hrpro_pipeline.extract.options import ExtractOptions, Workers
from hrpro_pipeline.extract.ray_engine import _Actors, _Size, _size
from hrpro_pipeline.extract.worker import Extraction, Outcome

SETTINGS = ExtractSettings(resize=36, crop=32, precision="float32")
RANDOM = ExtractOptions(weights="random", device="cpu")
OVERRIDES = ["extract.resize=36", "extract.crop=32", "extract.precision=float32"]
VIDEOS = 12
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    if find_spec("ray") is None or sys.platform != "linux":
        skip_or_fail("Ray is not installed (pip install '.[ray]'), or this is not Linux")
    from ray.cluster_utils import Cluster

    # A node that is gone is missed after some 4 s.
    health = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 6}
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20, "_system_config": health}
    cluster = Cluster(True, head_node_args=head)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def cluster(running: Any) -> Any:
    """A head that does no work, and two nodes with a CPU each."""
    while len(running.worker_nodes) < 2:
        running.add_node(num_cpus=1, object_store_memory=80 << 20)
    return running


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for k in range(VIDEOS):
        write_video(folder / f"v{k:02}.mp4", moving_square(18 + k, seed=k))
    return folder


@pytest.fixture(scope="module")
def expected(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the local engine writes, with as many threads as a worker on a node with one CPU has."""
    out = tmp_path_factory.mktemp("local")
    extract_folder([videos], out, SETTINGS, RANDOM)
    return contents(out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.h5")}


def on_cluster(
    cluster: Any,
    videos: Path,
    out: Path,
    options: ExtractOptions = RANDOM,
    on_video: Callable[[str, str], None] | None = None,
) -> Any:
    workers = Workers("ray", ray_address=cluster.address)
    return extract_folder([videos], out, SETTINGS, options, workers, on_video=on_video)


def hrpro(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, in another folder than the checkout's, which it is found in by PYTHONPATH alone."""
    overrides = [part for value in OVERRIDES for part in ("--set", value)]
    return subprocess.run(
        [sys.executable, "-m", "hrpro_pipeline", "extract", *arguments, "--weights", "random", *overrides],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def processes(in_cmdline: str = "", in_environment: str = "") -> dict[int, int]:
    """Process id -> parent of those whose title and environment hold these words."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = folder.joinpath("environ").read_bytes() if in_environment else b""
            if (
                in_cmdline.encode() in folder.joinpath("cmdline").read_bytes()
                and in_environment.encode() in environment
            ):
                found[int(folder.name)] = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone meanwhile
            continue
    return found


def raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def workers_at(cluster: Any, title: str = "ray::_Worker") -> list[tuple[int, Any]]:
    """Process id and node of our actors on a cluster."""
    nodes = {raylet(node): node for node in cluster.worker_nodes}
    return [(pid, nodes[parent]) for pid, parent in processes(title).items() if parent in nodes]


def worker_that(extract: Callable[[list[Job]], list[Outcome]]) -> type:
    """An actor's class that extracts by a function; of this function, so that it travels to workers by value."""

    class Worker:
        def __init__(self, extraction: Any, version: str) -> None: ...

        def started(self) -> list[Outcome]:
            return []

        def extract(self, jobs: list[Job]) -> list[Outcome]:
            return extract(jobs)

    return Worker


@contextmanager
def beside(action: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread while the block runs, and raise what it raises."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(action)
        yield
        future.result()


def test_a_node_is_killed_at_work(cluster: Any, videos: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    def kill() -> None:
        wait_for(lambda: len(contents(tmp_path)) >= 2, 120)
        _, node = wait_for(lambda: workers_at(cluster, "ray::_Worker.extract"), 120)[0]
        cluster.remove_node(node, allow_graceful=False)

    with beside(kill):
        summary = on_cluster(cluster, videos, tmp_path)
    assert len(summary.done) == VIDEOS
    assert contents(tmp_path) == expected
    # The rest of the cluster runs on, without our workers.
    (left,) = cluster.worker_nodes
    assert Path(f"/proc/{raylet(left)}").exists()
    wait_for(lambda: not workers_at(cluster), 30)


def test_a_worker_is_killed_at_work(cluster: Any, videos: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    def kill() -> None:
        pid, _ = wait_for(lambda: workers_at(cluster, "ray::_Worker.extract"), 120)[0]
        os.kill(pid, signal.SIGKILL)

    with beside(kill):
        summary = on_cluster(cluster, videos, tmp_path)
    assert not summary.failed
    assert contents(tmp_path) == expected


def test_the_last_node_is_lost(
    cluster: Any, videos: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "_PATIENCE_SECONDS", 1.0)

    def kill(video_id: str, status: str) -> None:
        for node in list(cluster.worker_nodes):
            cluster.remove_node(node, allow_graceful=False)

    with pytest.raises(HrproError, match="no node left with 1 CPUs; run the command again when it has"):
        on_cluster(cluster, videos, tmp_path, on_video=kill)
    done = contents(tmp_path)
    assert 1 <= len(done) < VIDEOS
    assert all(expected[name] == content for name, content in done.items())


def test_a_cluster_of_its_own(videos: Path, tmp_path: Path, running: Any) -> None:
    """Not the one that runs on this machine anyway; paths relative to a folder that no worker runs in."""
    mark = uuid4().hex
    some = sorted(videos.iterdir())[:4]
    here = [os.path.relpath(path, tmp_path) for path in some]
    run = hrpro(*here, "--out", "features", "--engine", "ray", "--workers", "1", folder=tmp_path, HRPRO_MARK=mark)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "4 extracted, 0 there already, 0 failed: features\n"
    # The worker has all CPUs, and float32 features depend on the number of threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        extract_folder(some, tmp_path / "local", SETTINGS, RANDOM)
    finally:
        torch.set_num_threads(threads)
    assert contents(tmp_path / "features") == contents(tmp_path / "local")
    wait_for(lambda: not processes(in_environment=mark), 30)


def test_workers_that_start_and_fail_end_the_run(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the video: not each of ten thousand is to fail by itself."""
    ray = pytest.importorskip("ray")

    def extract(jobs: list[Job]) -> list[Outcome]:
        raise ZeroDivisionError("always")

    monkeypatch.setattr(ray_engine, "_Worker", worker_that(extract))
    jobs = [Job(f"v{k}", f"v{k}") for k in range(60)]
    ray_engine._start(ray, cluster.address)
    try:
        with pytest.raises(HrproError, match="Ray workers die one after another: ZeroDivisionError: always"):
            list(_Actors(ray, Extraction(SETTINGS, "out"), iter(jobs), _Size(1, 1, 0)).outcomes())
    finally:
        ray.shutdown()


def test_a_node_that_joins_works_too(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def extract(jobs: list[Job]) -> list[Outcome]:
        time.sleep(0.5)
        return [Outcome(job.video_id, partial_reason=ray.get_runtime_context().get_node_id()) for job in jobs]

    monkeypatch.setattr(ray_engine, "_Worker", worker_that(extract))
    monkeypatch.setattr(ray_engine, "_LOOK_SECONDS", 0.5)
    joined = []
    used: dict[bool, set[str]] = {}
    ray_engine._start(ray, cluster.address)
    try:
        for grows, count in ((False, 16), (True, 40)):
            jobs = [Job(f"v{k}", f"v{k}") for k in range(count)]
            outcomes = []
            actors = _Actors(ray, Extraction(SETTINGS, "out"), iter(jobs), _Size(2, 1, 0), grows=grows)
            for outcome in actors.outcomes():
                if not outcomes:
                    joined.append(cluster.add_node(num_cpus=1, object_store_memory=80 << 20))
                outcomes.append(outcome)
            assert sorted(outcome.video_id for outcome in outcomes) == sorted(job.video_id for job in jobs)
            used[grows] = {str(outcome.partial_reason) for outcome in outcomes}
    finally:
        ray.shutdown()
        for node in joined:
            cluster.remove_node(node)
    assert len(used[False]) == 2
    assert len(used[True]) == 4  # as two have joined by then


def test_a_video_that_kills_its_worker_fails_alone(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def extract(jobs: list[Job]) -> list[Outcome]:
        if any(job.video_id == "bad" for job in jobs):
            os._exit(1)
        return [Outcome(job.video_id) for job in jobs]

    monkeypatch.setattr(ray_engine, "_Worker", worker_that(extract))
    monkeypatch.setattr(engines, "_MAX_DEATHS", 3)
    monkeypatch.setitem(ray_engine._GROUP, "cpu", 3)
    jobs = [Job(name, name) for name in ("a", "bad", "b", "c", "d")]
    ray_engine._start(ray, cluster.address)
    try:
        outcomes = list(_Actors(ray, Extraction(SETTINGS, "out"), iter(jobs), _Size(2, 1, 0)).outcomes())
    finally:
        ray.shutdown()
    assert {outcome.video_id for outcome in outcomes} == {"a", "b", "c", "d", "bad"}
    ((video_id, reason),) = [(each.video_id, each.reason) for each in outcomes if each.reason]
    assert video_id == "bad"
    assert reason == "bad: the worker process died, 3 times; re-encode or remove it"


def test_another_version_on_a_node(cluster: Any, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "__version__", "0.0.1")
    with pytest.raises(HrproError, match=r"^Ray node \S+ has hrpro [\d.]+; install 0\.0\.1, as on this machine$"):
        on_cluster(cluster, videos, tmp_path)


def test_no_gpu_in_the_cluster(cluster: Any, videos: Path, tmp_path: Path) -> None:
    with pytest.raises(HrproError, match=r"^device cuda: the Ray cluster has no GPU; use `device=cpu`$"):
        on_cluster(cluster, videos, tmp_path, replace(RANDOM, device="cuda"))


def test_without_ray(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HrproError, match=r"^`engine=ray` needs Ray: pip install 'hrpro-pipeline\[ray\]'$"):
        extract_folder([videos], tmp_path, SETTINGS, RANDOM, Workers("ray"))


def test_nobody_at_the_address(running: Any, videos: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    run = hrpro(str(videos), "--out", "out", "--engine", "ray", "--ray-address", "127.0.0.1:9", folder=tmp_path)
    assert run.returncode == 1
    assert "error: Ray cluster 127.0.0.1:9: [Errno 111] Connection refused" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert time.monotonic() - start < 30


def node(cpu: float, gpu: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpu, "GPU": gpu} if gpu else {"CPU": cpu}}


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "size"),
    [
        ([node(16)], "auto", None, _Size(4, 4, 0)),
        ([node(0), node(6), node(9, alive=False)], "auto", None, _Size(1, 4, 0)),
        ([node(2), node(16)], "cpu", None, _Size(9, 2, 0)),  # every node is of use
        ([node(2)], "cpu", 4, _Size(4, 1, 0)),
        ([node(16, gpu=2), node(8, gpu=1)], "auto", None, _Size(3, 4, 1)),
        ([node(4, gpu=8)], "cuda", None, _Size(8, 0, 1)),  # fewer CPUs than GPUs
        ([node(64), node(8, gpu=8)], "cuda", None, _Size(8, 1, 1)),
        ([node(16, gpu=2)], "cpu", None, _Size(4, 4, 0)),
    ],
)
def test_workers_that_fit(nodes: list[dict[str, Any]], device: str, workers: int | None, size: _Size) -> None:
    assert _size(nodes, device, workers) == size


@pytest.mark.parametrize("device", ["cuda:1", "tpu"])
def test_a_device_that_ray_does_not_choose(device: str) -> None:
    with pytest.raises(HrproError, match=f"^device {device}: with `engine=ray` auto, cpu or cuda; Ray chooses"):
        _size([node(16, gpu=2)], device, None)


def test_a_cluster_without_cpus() -> None:
    with pytest.raises(HrproError, match="no CPUs"):
        _size([node(0), node(4, alive=False)], "auto", None)
