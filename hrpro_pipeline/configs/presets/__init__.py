"""The shipped presets, a YAML file each. Quick to import, for the help of the command line: no pydantic, no yaml."""

from functools import cache
from pathlib import Path

DEFAULT_PRESET = "general"

_FOLDER = Path(__file__).parent


@cache
def preset_names() -> tuple[str, ...]:
    """Names of the shipped presets, sorted."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.yaml")))


def preset_text(name: str) -> str:
    """YAML text of a preset; `name` is one of `preset_names`."""
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
