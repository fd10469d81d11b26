"""benchmarks/fuzz.py on a few files: what it would report, it reports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def fuzz(*arguments: object) -> subprocess.CompletedProcess:
    words = [sys.executable, ROOT / "benchmarks" / "fuzz.py", *arguments]
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)


def test_changed_tables() -> None:
    result = fuzz("--count", 12, "--only", ".json")
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads(result.stdout)
    assert content["found"] == [] and sum(content["ends"].values()) == 12


@pytest.mark.parametrize("number", [2761, 3813, 6432])
def test_damage_that_hdf5_does_not_notice(number: int) -> None:
    """A string of no known encoding, a number of no known precision, a name that is no text."""
    result = fuzz("--count", 1, "--seed", 2711, "--first", number, "--only", "v1.h5")
    assert result.returncode == 0, result.stdout + result.stderr


def test_what_takes_too_long_is_reported() -> None:
    result = fuzz("--count", 1, "--only", ".json", "--limit", 0.001)
    assert result.returncode == 1
    assert [found["end"] for found in json.loads(result.stdout)["found"]] == ["hang"]
