"""Peak memory of extraction against the length of a video; JSON lines on standard output.

    python benchmarks/memory.py [--minutes 5 60] [--resize 256 --crop 224] [--streams rgb,flow] [--device cpu]

A made video of each length is extracted by `hrpro extract` in a process of its own. The peak is that of the process and
the decoder's below it together, as the kernel counts them.
"""

import argparse
import contextlib
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
            code, peaks = _peaks([sys.executable, "-m", "hrpro_pipeline", *map(str, words)])
            total = sum(peaks.values())
            first = first or total
            emit(
                {
                    "what": "memory",
                    "minutes": minutes,
                    "resize": arguments.resize,
                    "streams": arguments.streams,
                    "exit_code": code,
                    "process_mib": peaks["process"] / 2**10,
                    "decoder_mib": peaks["decoder"] / 2**10,
                    "over_the_first": total / first,
                    **describe(torch.device("cpu")),
                }
            )


def _peaks(command: list[str]) -> tuple[int, dict[str, int]]:
    """Exit code of a command, and the largest resident sets in KiB: its own, and its decoder's."""
    peaks = {"process": 0, "decoder": 0}
    with subprocess.Popen(command, stdout=sys.stderr) as process:
        while process.poll() is None:
            for child in descendants(process.pid, "video.process"):
                peaks["decoder"] = max(peaks["decoder"], _peak(child, "video.process"))
            peaks["process"] = max(peaks["process"], _peak(process.pid, "hrpro_pipeline"))
            time.sleep(0.2)
    return process.returncode, peaks


def _peak(pid: int, module: str) -> int:
    """The kernel's high-water mark of a process that runs a module, in KiB; 0 if it is another one, or gone."""
    with contextlib.suppress(OSError):
        if module in Path(f"/proc/{pid}/cmdline").read_text():
            return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0])
    return 0


if __name__ == "__main__":
    main()
