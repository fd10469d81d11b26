"""The command line as a subprocess, or in this process where that is as good; and waiting for what a process does."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from click.testing import CliRunner

from hrpro_pipeline.cli import main

SMALL = ["--weights", "random", "--device", "cpu", "--set", "extract.resize=32", "--set", "extract.crop=32"]
RGB = [*SMALL, "--streams", "rgb", "--set", "extract.precision=float32"]


def hrpro(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, check=False, **options)


def hrpro_here(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which has imported everything: seconds less than `hrpro`."""
    words = list(map(str, arguments))
    result = CliRunner().invoke(main, words, prog_name="hrpro")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "hrpro_pipeline", *map(str, arguments)]


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of a function, asked again and again."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return value
