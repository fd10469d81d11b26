"""How well a Ray cluster is used while nodes are lost and join; a JSON line, after what Ray itself says of lost nodes.

    python benchmarks/ray_cluster.py --annotations gt.json [--nodes 10] [--videos 250] [--lost 2] [--joining 2]

The nodes are processes on this machine, with a CPU each. All of `hrpro extract --engine ray` is real but the network,
which waits instead of computing: for each video in proportion to its length in the annotations, `--mean` seconds on
average. One node is a straggler, which takes three times as long. In the middle of the run nodes are killed, and
others join.

Efficiency is the time that networks spent on videos that were finished, over the time that nodes were there, from the
first video's start to the last one's end. Exit code 1 if a video is lost, or in the folder twice.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe, emit
from made_videos import write_level

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.annotations import read_annotations
from hrpro_pipeline.extract.folder import extract_folder
from hrpro_pipeline.extract.options import ExtractOptions, Workers

SLOW = 3
STORE_BYTES = 80 << 20  # of each node
LEVELS = 200  # of brightness, which says how long a video takes
# The brightness of a clip is the share of the longest time that it takes.
NETWORK = """
import json, os, time
import torch
from hrpro_pipeline import Network


class Waiting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.longest = torch.nn.Parameter(torch.tensor({longest}))

    def forward(self, clips):
        started = time.time()
        time.sleep(float(clips.mean() * 255 / {levels} * self.longest) * float(os.environ.get("HRPRO_SLOW", 1)))
        with open({log!r}, "a") as file:
            file.write(json.dumps([started, time.time()]) + "\\n")
        return clips.mean(dim=(2, 3, 4))


def build():
    return Network(Waiting(), width=3, frames=16, rate=1, side=32, mean=0, std=1, bf16=False)
"""


def main() -> None:
    arguments = _arguments()
    rng = random.Random(arguments.seed)
    lengths = [video.duration_seconds for video in read_annotations(arguments.annotations).values()]
    drawn = np.array(rng.choices([length for length in lengths if length], k=arguments.videos))
    seconds = np.minimum(drawn / drawn.mean(), 6) * arguments.mean
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "videos").mkdir()
        for number, share in enumerate(seconds / seconds.max()):
            write_level(folder / "videos" / f"v{number:04d}.mkv", max(1, round(share * LEVELS)))
        log = folder / "log.jsonl"
        (folder / "waiting.py").write_text(NETWORK.format(longest=seconds.max(), levels=LEVELS, log=str(log)))
        line, there = _run(folder, arguments)
        spans = np.array([json.loads(text) for text in log.read_text().splitlines()])
    first, last = spans[:, 0].min(), spans[:, 1].max()
    alive = sum(min(end, last) - max(start, first) for start, end in there)
    emit(
        {
            "what": "ray cluster",
            "nodes": arguments.nodes,
            "videos": arguments.videos,
            "seconds": last - first,
            "longest_video_seconds": float((spans[:, 1] - spans[:, 0]).max()),
            "runs_of_the_network": len(spans),
            "efficiency": float((spans[:, 1] - spans[:, 0]).sum() / alive),
            **line,
            **describe(torch.device("cpu")),
        }
    )
    sys.exit(0 if line["in_the_folder"] == line["done"] == arguments.videos else 1)


def _run(folder: Path, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    """Extract, and kill and add nodes meanwhile -> what became of the videos; from when to when each node was there."""
    from ray.cluster_utils import Cluster

    small: dict[str, Any] = {"object_store_memory": STORE_BYTES}
    cluster = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    slow = {"HRPRO_SLOW": str(SLOW)}
    nodes = [cluster.add_node(num_cpus=1, env_vars={} if k else slow, **small) for k in range(arguments.nodes)]
    cluster.wait_for_nodes()
    ended: list[str] = []
    spans = [[0.0, np.inf] for _ in nodes]
    joined: list[subprocess.Popen[bytes]] = []
    finished = threading.Event()

    def disturb() -> None:
        """From a quarter of the videos on, nodes go, one after another, and then others come."""
        steps = ["lost"] * arguments.lost + ["joins"] * arguments.joining
        for place, step in enumerate(steps):
            while len(ended) < arguments.videos * (0.25 + 0.4 * place / len(steps)) and not finished.is_set():
                time.sleep(0.1)
            if step == "lost":
                spans[arguments.nodes - 1 - place][1] = time.time()
                cluster.remove_node(nodes.pop(), allow_graceful=False)
            else:
                joined.append(_join(cluster.address))
                spans.append([time.time(), np.inf])

    pool = ThreadPoolExecutor(1)
    disturbance = pool.submit(disturb)
    try:
        summary = extract_folder(
            [folder / "videos"],
            folder / "features",
            ExtractSettings(backbone="waiting.py:build", streams=("rgb",), resize=32, crop=32),
            ExtractOptions(weights="random", device="cpu", own=(f"{folder / 'waiting.py'}:build",)),
            Workers("ray", ray_address=cluster.address),
            on_video=lambda video_id, status: ended.append(video_id),
        )
    finally:
        finished.set()
        disturbance.result()
        for process in joined:
            process.terminate()
        cluster.shutdown()
    files = sorted(path.name for path in (folder / "features").iterdir())
    line = {"done": len(set(summary.done)), "failed": len(summary.failed), "in_the_folder": len(files)}
    return line, [(start, end) for start, end in spans]


def _join(address: str) -> "subprocess.Popen[bytes]":
    """Start a node of its own, as on another machine."""
    size = ["--num-cpus", "1", "--object-store-memory", str(STORE_BYTES)]
    ray = Path(sys.executable).with_name("ray")
    return subprocess.Popen([ray, "start", "--address", address, *size, "--block"], stdout=subprocess.DEVNULL)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True, help="an ActivityNet file with durations")
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--videos", type=int, default=250)
    parser.add_argument("--mean", type=float, default=6.0, help="seconds a video")
    parser.add_argument("--lost", type=int, default=2, help="nodes that are killed")
    parser.add_argument("--joining", type=int, default=2, help="nodes that join")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
