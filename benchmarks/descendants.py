"""The processes that one has started, for benchmarks and tests that kill or measure them."""

from pathlib import Path


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
        found += [child for child in children if module in _command_line(child)]
    return sorted(found)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
