"""Peak memory of extraction against the length of a video; JSON lines on standard output.

    python benchmarks/memory.py [--minutes 5 60] [--resize 256 --crop 224] [--streams rgb,flow] [--device cpu]

A made video of each length is extracted by `hrpro extract` in a process of its own. The peak is that of the process and
the decoder's below it together, as the kernel counts them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from machine import describe, emit
from made_videos import write_drifting

# Runs the command, and says the largest resident set of itself and of its children that have ended.
RUN = """
import json, resource, sys
from hrpro_pipeline.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code
own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"code": code, "own": own, "children": children}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 60])
    parser.add_argument("--resize", type=int, default=256)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--streams", default="rgb,flow")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for minutes in arguments.minutes:
            video = write_drifting(Path(folder) / f"{minutes:g} minutes.mp4", round(minutes * 60 * 25))
            sizes = [f"extract.resize={arguments.resize}", f"extract.crop={arguments.crop}"]
            words = ["extract", video, "--out", Path(folder) / "out", "--weights", "random"]
            words += [
                "--streams",
                arguments.streams,
                "--device",
                arguments.device,
                "--set",
                sizes[0],
                "--set",
                sizes[1],
            ]
            run = subprocess.run(
                [sys.executable, "-c", RUN, *map(str, words)], capture_output=True, text=True, check=True
            )
            peaks = json.loads(run.stdout.splitlines()[-1])
            total = (peaks["own"] + peaks["children"]) / 2**10
            first = first or total
            emit(
                {
                    "what": "memory",
                    "minutes": minutes,
                    "resize": arguments.resize,
                    "streams": arguments.streams,
                    "exit_code": peaks["code"] or 0,
                    "process_mib": peaks["own"] / 2**10,
                    "decoder_mib": peaks["children"] / 2**10,
                    "over_the_first": total / first,
                    **describe(torch.device("cpu")),
                }
            )


if __name__ == "__main__":
    main()
