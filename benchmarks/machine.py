"""What the benchmarks say of the machine that they ran on, and how fast it multiplies matrices."""

import datetime
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch


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


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """The best rate of a few square products, in FLOP/s: what the machine reaches, not what it is sold for."""
    first = torch.rand(size, size, device=device, dtype=dtype)
    second = torch.rand(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(10):
        synchronize(device)
        started = time.perf_counter()
        first @ second
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


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
