"""What the benchmarks say of the machine that they ran on, and how fast it multiplies matrices."""

import datetime
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

_CPU = torch.device("cpu")


def describe(device: torch.device) -> dict[str, Any]:
    """Date, commit, device and versions, for every line of results."""
    here = Path(__file__).resolve().parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=False
    ).stdout.strip()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit,
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The best rate of a few square products, in FLOP/s: what the machine reaches, not what it is sold for."""
    size = 8192 if device.type == "cuda" else 2048  # a GPU is done with a smaller one before it is at its full rate
    first = torch.rand(size, size, device=device, dtype=dtype)
    second = torch.rand(size, size, device=device, dtype=dtype)
    return 2 * size**3 / best_seconds(lambda: first @ second, 10, device)


def copy_rate(device: torch.device) -> float:
    """Bytes read and written a second by a large copy."""
    source = torch.rand(2**26, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / best_seconds(lambda: target.copy_(source), 5, device)


def timed(work: Callable[[], Result], device: torch.device = _CPU) -> tuple[float, Result]:
    """Seconds that work took, the device's included, and its result."""
    synchronize(device)
    started = time.perf_counter()
    result = work()
    synchronize(device)
    return time.perf_counter() - started, result


def best_seconds(work: Callable[[], object], repeats: int = 5, device: torch.device = _CPU) -> float:
    """Seconds of the quickest of a few runs."""
    return min(timed(work, device)[0] for _ in range(repeats))


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def emit(line: dict[str, Any]) -> None:
    """One JSON line on standard output."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
