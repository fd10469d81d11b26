"""All checks on a GPU in the order in which they tell most, and their results as a table: `make gpu-check`.

    python benchmarks/gpu_check.py VIDEO... [--features DIR --annotations FILE --points FILE --videos-folder DIR]
        [--out gpu-check.md]

Versions, the tests marked `gpu`, compute-sanitizer over the kernels where it is installed, flow twice (the first run
compiles), the extraction chain, I3D alone, training where features are given, and two processes of which one fails.
A check that fails is a row of the table, and the next one runs all the same. The exit code is 1 if any failed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import describe

_ROOT = Path(__file__).resolve().parents[1]
_HOUR = 3600
_TESTS = ("test_flow", "test_torchcodec", "test_decoders", "test_extract", "test_training")
# Of a benchmark's lines, what goes into the table; what else they say is in the log.
_FIGURES = (
    *("pairs_per_second", "frames_per_second", "compiled_frames_per_second", "decode_and_resize_frames_per_second"),
    *("flow_frames_per_second", "times_real_time", "seconds"),
)


@dataclass(frozen=True)
class Check:
    """A command of a check; where it cannot run, `missing` says why."""

    name: str
    command: Sequence[str]
    missing: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="*")
    for name in ("features", "annotations", "points", "videos-folder"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--out", type=Path, default=Path("gpu-check.md"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu-check: this machine has no CUDA GPU that torch can use; nothing was checked")
    machine = describe(torch.device("cuda")) | _versions()
    sys.exit(run(checks(arguments), machine, arguments.out))


def checks(arguments: argparse.Namespace) -> list[Check]:
    """The checks in their order."""
    videos = [str(path) for path in arguments.videos]
    no_videos = None if videos else "no VIDEO was given"
    sanitizer = shutil.which("compute-sanitizer")
    pytest = ("-m", "pytest", "-q", "-p", "no:xdist", "-m", "gpu")
    kernels = (sys.executable, *pytest, "tests/test_flow.py")
    found = [Check("tests marked gpu", (sys.executable, *pytest, *(f"tests/{name}.py" for name in _TESTS)))]
    for tool in ("memcheck", "racecheck"):
        command = (sanitizer or "", "--tool", tool, "--error-exitcode", "9", *kernels)
        found.append(Check(f"compute-sanitizer {tool}", command, None if sanitizer else "compute-sanitizer is absent"))
    flow = _benchmark("flow", *videos[:1], "--pairs", "512", "--skip-opencv")
    found += [Check(f"flow, {name}", flow, no_videos) for name in ("first run, which compiles", "second run")]
    chain = ("extract", *videos, "--seconds", "300", "--clips", "64", "--skip-plain")
    found.append(Check("extraction: stages and chain", _benchmark(*chain), no_videos))
    clips = ("extract", *videos[:1], "--seconds", "10", "--clips", "128", "--compile")
    found.append(Check("I3D, eager and compiled", _benchmark(*clips), no_videos))
    given = {name: getattr(arguments, name) for name in ("annotations", "points")}
    options = [word for name, path in given.items() for word in (f"--{name}", str(path))]
    options += ["--videos", str(arguments.videos_folder), "--steps", "1000", "--epochs", "20", "--evaluate-every", "50"]
    no_set = (
        None if arguments.features and all(given.values()) and arguments.videos_folder else "no features were given"
    )
    found.append(Check("training of THUMOS14's shape", _benchmark("train", str(arguments.features), *options), no_set))
    failing = (sys.executable, "-m", "pytest", "-q", "tests/test_gpu_ready.py", "-k", "process_that_fails")
    return [*found, Check("one of two processes fails (gloo)", failing)]


def run(found: Sequence[Check], machine: dict[str, Any], out: Path) -> int:
    """Run checks and write the table after each -> 1 if one failed, else 0. A log of all output lies beside it."""
    rows: list[tuple[str, str, str]] = []
    failed = False
    with out.with_suffix(".log").open("w") as log:
        for check in found:
            started = time.monotonic()
            code, output = (None, "") if check.missing else _output(check.command)
            log.write(f"\n$ {' '.join(check.command)}\n{output}")
            log.flush()
            failed |= code not in (0, None)
            state = f"left out: {check.missing}" if code is None else "passed" if code == 0 else f"FAILED ({code})"
            seconds = "" if code is None else f"{time.monotonic() - started:.0f} s"
            rows.append((check.name, state, "; ".join(filter(None, [*_figures(output), seconds]))))
            out.write_text(_table(machine, rows))
            print(f"{check.name}: {state}", flush=True)
    print(f"wrote {out} and {out.with_suffix('.log')}")
    return int(failed)


def _benchmark(name: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, f"benchmarks/{name}.py", *words, "--device", "cuda")


def _output(command: Sequence[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_HOUR, check=False
        )
    except subprocess.TimeoutExpired as error:
        return 124, f"{(error.stdout or b'').decode(errors='replace')}\nstopped after an hour\n"
    return done.returncode, done.stdout


def _figures(output: str) -> list[str]:
    """Figures of a benchmark's JSON lines, or the last line of a test run."""
    lines = [line for line in output.splitlines() if line.strip()]
    found = []
    for line in lines:
        values = json.loads(line) if line.startswith("{") else {}
        what = values.get("what", "")
        found += [f"{what} {name} {values[name]:.4g}" for name in _FIGURES if isinstance(values.get(name), int | float)]
    last = [lines[-1].strip("= ").replace("|", "/")[:160]] if lines and not found else []
    return found or last


def _table(machine: dict[str, Any], rows: Sequence[tuple[str, str, str]]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [f"| {name} | {state} | {figures} |" for name, state, figures in rows]
    return "\n".join(["# GPU check", "", facts, "", "| check | result | figures |", "|---|---|---|", *lines]) + "\n"


def _versions() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"cudnn": torch.backends.cudnn.version(), "cuda": torch.version.cuda}
    for name in ("triton", "torchcodec"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


if __name__ == "__main__":
    main()
