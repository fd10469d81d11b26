"""The structure that the contributor notes promise: imports go one way, and importing is quick."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "hrpro_pipeline"
# Small modules that all parts may import.
COMMON = {"child", "compiled", "errors", "launch", "progress"}
# What else of ours each part may import.
ALLOWED = {
    "configs": {"configs"},
    "data": {"data", "configs"},
    "models": {"models", "data", "configs"},
    "extract": {"extract", "models", "data", "configs"},
    "train": {"train", "models", "data", "configs"},
    "infer": {"infer", "extract", "models", "data", "configs"},
}
TOP = {"ablation", "api", "cli", "demo", "figures", "info", "__init__", "__main__"}
PURE = ["models/snippet.py", "models/instance.py", "models/proposals.py", "extract/i3d.py", "extract/tvl1.py"]


def imports(file: Path) -> set[str]:
    """Modules of ours that a file imports, anywhere in it, without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            base = node.module or ""
            names = [f"{base}.{alias.name}" if base == "hrpro_pipeline" else base for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.removeprefix("hrpro_pipeline.") for name in names if name.startswith("hrpro_pipeline.")}
    return found


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file: Path) -> None:
    relative = file.relative_to(PACKAGE)
    part = relative.parts[0].removesuffix(".py")
    roots = {name.split(".")[0] for name in imports(file)} - COMMON - {"__version__"}
    if len(relative.parts) == 1:
        assert part in TOP | COMMON | {"scenes"}, f"{relative}: which floor is it on?"
        if part not in TOP:
            assert roots <= {"data"}, f"{relative} imports {roots}"
    else:
        assert roots <= ALLOWED[part], f"{relative} imports {roots - ALLOWED[part]}"
    if str(relative) in PURE:
        assert not imports(file), f"{relative}: networks and kernels import nothing of ours"


def test_pure_modules_are_there() -> None:
    assert all((PACKAGE / name).is_file() for name in PURE)


@pytest.mark.parametrize("arguments", [["-c", "import hrpro_pipeline"], ["-m", "hrpro_pipeline", "--help"]])
def test_start_is_quick(arguments: list[str]) -> None:
    def seconds() -> float:
        start = time.monotonic()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.monotonic() - start

    # The best of a few, because the machine may be busy; half a second is the promise.
    assert min(seconds() for _ in range(5)) < 0.5
