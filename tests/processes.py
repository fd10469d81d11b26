"""Real processes for tests: the command line as a subprocess, and waiting for what one does."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

SMALL = ["--weights", "random", "--device", "cpu", "--set", "extract.resize=32", "--set", "extract.crop=32"]
RGB = [*SMALL, "--streams", "rgb", "--set", "extract.precision=float32"]


def hrpro(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, check=False, **options)


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "hrpro_pipeline", *map(str, arguments)]


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of a function, asked again and again."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return value
