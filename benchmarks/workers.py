"""How extraction grows with workers and with Ray nodes; JSON lines on standard output.

    python benchmarks/workers.py [--videos 12] [--frames 75] [--workers 1 2] [--nodes 1 2]

Made videos of 340 x 256 are extracted with so many worker processes, and on a local Ray cluster of so many nodes of one
CPU each. Starting (imports, networks, the cluster) is in the time, and given alone as well: it is what a run of one
video of a few frames takes.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from machine import describe, emit
from made_videos import write_drifting

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.extract.folder import extract_folder
from hrpro_pipeline.extract.options import ExtractOptions, Workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--frames", type=int, default=75)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k in range(arguments.videos):
            write_drifting(folder / "videos" / f"v{k}.mp4", arguments.frames, seed=k)
        write_drifting(folder / "short" / "v.mp4", 2)
        for count in arguments.workers:
            # One worker by itself runs in this process, with every thread; here each has its own, and one thread.
            threads = torch.get_num_threads()
            torch.set_num_threads(count)
            _measure(folder, f"{count} local", arguments, Workers(count=max(count, 1)))
            torch.set_num_threads(threads)
        for count in arguments.nodes:
            _on_nodes(folder, count, arguments)


def _on_nodes(folder: Path, count: int, arguments: argparse.Namespace) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        _measure(folder, f"{count} ray", arguments, Workers("ray", ray_address=cluster.address))
    finally:
        cluster.shutdown()


def _measure(folder: Path, what: str, arguments: argparse.Namespace, workers: Workers) -> None:
    seconds = {}
    options = ExtractOptions(weights="random", device=arguments.device)
    for part in ("short", "videos"):
        started = time.perf_counter()
        out = folder / f"{what} {part}"
        summary = extract_folder([folder / part], out, ExtractSettings(), options, workers)
        seconds[part] = time.perf_counter() - started
        assert not summary.failed, summary.failed
    working = seconds["videos"] - seconds["short"]
    emit(
        {
            "what": what,
            "videos": arguments.videos,
            "frames": arguments.frames,
            "seconds": seconds["videos"],
            "starting_seconds": seconds["short"],
            "videos_per_second": arguments.videos / working,
            "times_real_time": arguments.videos * arguments.frames / 25 / working,
            **describe(torch.device("cpu")),
        }
    )


if __name__ == "__main__":
    main()
