"""The demo learns what it promises."""

import json
import subprocess
import sys
from pathlib import Path


def test_demo_learns(tmp_path: Path) -> None:
    """The real thing, as `make demo` runs it; minutes. mAP@0.5 on unseen videos is the promise of the contract."""
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "hrpro_pipeline", "demo", "--out", str(out)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    results = json.loads((out / "results.json").read_text())
    at_half = {name: result["mAP"][result["tiou"].index(0.5)] for name, result in results.items()}
    assert at_half["both streams"] >= 0.5
    assert at_half["both streams"] > max(at_half["RGB alone"], at_half["flow alone"])
    assert at_half["untrained"] < 0.2
    for name, value in at_half.items():
        assert any(line.startswith(name) and f"{100 * value:.1f}" in line for line in printed.splitlines())
    assert "test_01" in (out / "report.html").read_text()
