"""Real processes for tests: the command line as a subprocess, and the processes below one."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SMALL = ["--weights", "random", "--device", "cpu", "--set", "extract.resize=32", "--set", "extract.crop=32"]
RGB = [*SMALL, "--streams", "rgb", "--set", "extract.precision=float32"]


def hrpro(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, check=False, **options)


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "hrpro_pipeline", *map(str, arguments)]


def descendants(pid: int, module: str = "hrpro_pipeline") -> list[int]:
    """Processes below one that run a module of ours."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    found, below = [], [pid]
    while below:
        parent = below.pop()
        children = [child for child, its in parents.items() if its == parent]
        below += children
        found += [child for child in children if module in command_line(child)]
    return sorted(found)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of a function, asked again and again."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return value
