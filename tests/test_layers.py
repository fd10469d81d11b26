"""The structure that the contributor notes promise: imports go one way, without circles, and importing is quick."""

import ast
import subprocess
import sys
import time
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hrpro_pipeline"
# Each floor, and those below it that it may use.
FLOORS = {
    "_version": set(),
    "errors": set(),
    "base": {"errors"},
    "configs": {"errors", "base"},
    "data": {"errors", "base", "configs"},
    "models": {"errors", "base", "configs", "data"},
    "extract": {"_version", "errors", "base", "configs", "data", "models"},
    "train": {"errors", "base", "configs", "data", "models"},
    "infer": {"errors", "base", "configs", "data", "models", "extract"},
    "show": {"errors", "base", "configs", "data", "models", "extract", "infer"},
    "label": {"errors", "base", "configs", "data", "models", "extract", "infer", "show"},
    "commands": {"errors", "base", "configs", "data", "models", "extract", "train", "infer", "show", "label"},
    "cli": {"_version", "errors", "base", "configs", "data", "models", "extract", "infer", "commands"},
}
# Networks and kernels import nothing of ours.
PURE = (
    *("models/snippet.py", "models/instance.py", "models/proposals.py"),
    *("extract/i3d.py", "extract/flow/tvl1_torch.py"),
)


def imports(file: Path) -> set[str]:
    """Modules of ours that a file imports, anywhere in it, without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            base = node.module or ""
            names = [f"{base}.{alias.name}" if is_package(base) else base for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.removeprefix("hrpro_pipeline.") for name in names if name.startswith("hrpro_pipeline.")}
    return found


def is_package(name: str) -> bool:
    return name.startswith("hrpro_pipeline") and (ROOT / name.replace(".", "/")).is_dir()


def modules() -> dict[str, Path]:
    """Files of the package by their names, `extract.flow` for a package's own file; without the public one."""
    files = {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): file
        for file in sorted(PACKAGE.rglob("*.py"))
    }
    return {name: file for name, file in files.items() if name not in ("__init__", "__main__")}


@pytest.mark.parametrize(("name", "file"), modules().items(), ids=list(modules()))
def test_imports_go_down(name: str, file: Path) -> None:
    floor = name.split(".")[0]
    assert floor in FLOORS, f"{name}: which floor is it on?"
    used = {other.split(".")[0] for other in imports(file)} - {floor}
    assert used <= FLOORS[floor], f"{name} imports {sorted(used - FLOORS[floor])}"
    if str(file.relative_to(PACKAGE)) in PURE:
        assert not imports(file), f"{name}: networks and kernels import nothing of ours"


def test_imports_make_no_circles() -> None:
    names = modules()
    graph = {name: set() for name in names}
    for name, file in names.items():
        for other in imports(file):
            # A name of a package may be a module of it, or stand in its own file.
            graph[name].add(other if other in names else other.rpartition(".")[0])
    TopologicalSorter({name: used & names.keys() - {name} for name, used in graph.items()}).prepare()


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
