"""Many short videos, and processes killed at random while they are extracted; JSON on standard output.

    python benchmarks/soak.py [--videos 500] [--kills 20] [--workers 2] [--side 64] [--seed 0]

Made videos are extracted once undisturbed. Then again into another folder, while processes of the run - workers and the
decoders below them - are killed with SIGKILL, each when a random number of videos is done. The run must end well, and
every file must be the same to the bit. Exit code 1 if not.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from descendants import descendants
from machine import describe, emit
from made_videos import write_drifting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--side", type=int, default=64, help="extract.resize and extract.crop")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k in range(arguments.videos):
            write_drifting(folder / "videos" / f"v{k:04d}.mp4", rng.randint(5, 60), 80, 64, seed=k % 20)
        sizes = ["--set", f"extract.resize={arguments.side}", "--set", f"extract.crop={arguments.side}"]
        options = ["--workers", str(arguments.workers), "--weights", "random", "--device", "cpu", *sizes]
        calm_seconds, calm, _ = _extract(folder, "calm", options, [], rng)
        moments = sorted(rng.sample(range(arguments.videos), arguments.kills))
        seconds, code, killed = _extract(folder, "soaked", options, moments, rng)
        same = [
            path.name
            for path in sorted((folder / "calm").glob("*.h5"))
            if (folder / "soaked" / path.name).is_file()
            and path.read_bytes() == (folder / "soaked" / path.name).read_bytes()
        ]
        rest = sorted({path.name for path in (folder / "soaked").iterdir()} - set(same))
    good = calm == 0 and code == 0 and len(same) == arguments.videos and not rest
    good = good and sum(killed.values()) == arguments.kills
    emit(
        {
            "what": "soak",
            "videos": arguments.videos,
            "workers": arguments.workers,
            "killed": killed,
            "exit_code": code,
            "undisturbed_seconds": calm_seconds,
            "seconds": seconds,
            "identical_files": len(same),
            "other_files": rest[:5],
            "good": good,
            **describe(torch.device("cpu")),
        }
    )
    sys.exit(0 if good else 1)


def _extract(
    folder: Path, out: str, options: list[str], moments: list[int], rng: random.Random
) -> tuple[float, int, dict[str, int]]:
    """Seconds, exit code, and how many processes of each kind were killed, one when so many videos were done."""
    words = ["extract", folder / "videos", "--out", folder / out, *options]
    started = time.perf_counter()
    killed = {"extract.worker": 0, "video.process": 0}
    with subprocess.Popen([sys.executable, "-m", "hrpro_pipeline", *map(str, words)], stdout=sys.stderr) as process:
        for moment in moments:
            while process.poll() is None:
                alive = [(pid, kind) for kind in killed for pid in descendants(process.pid, kind)]
                if alive and len(list((folder / out).glob("[!.]*.h5"))) >= moment:
                    pid, kind = rng.choice(alive)
                    os.kill(pid, signal.SIGKILL)
                    killed[kind] += 1
                    break
                time.sleep(rng.uniform(0.01, 0.2))
        code = process.wait()
    return time.perf_counter() - started, code, killed


if __name__ == "__main__":
    main()
