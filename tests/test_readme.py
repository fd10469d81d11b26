"""The README tells the truth: its settings are those of the code, its commands exist, its files are there."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from shell_commands import assert_parses, commands

from hrpro_pipeline.cli import main
from hrpro_pipeline.configs.schema import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def settings_table() -> str:
    """The table of all settings as the README shows it."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for section in Settings.model_fields:
        owner = getattr(Settings(), section)
        if isinstance(owner, BaseModel):
            for name, field in type(owner).model_fields.items():
                value = owner.model_dump(mode="json")[name]
                text = str(value).replace("'", "").lower() if isinstance(value, bool | list) else f"{value}"
                lines.append(f"| `{section}.{name}` | {text} | {field.description} |")
    return "\n".join(lines)


def test_settings_table() -> None:
    table = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", README, re.DOTALL)
    assert table is not None
    assert table[1] == settings_table(), f"paste this into the README:\n{settings_table()}"


@pytest.mark.parametrize("words", commands(README), ids=" ".join)
def test_commands_parse(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_parses(words, tmp_path, monkeypatch)


def test_there_are_commands() -> None:
    assert {words[0] for words in commands(README)} >= {"extract", "train", "detect", "evaluate", "report", "import"}


def test_every_command_is_listed() -> None:
    for name in main.commands:
        assert f"`hrpro {name}" in README, f"hrpro {name} is not in the README's table"


def test_file_tree() -> None:
    tree = README.split("## What is where")[1]
    for path in (ROOT / "hrpro_pipeline").rglob("*.py"):
        if not path.name.startswith("__"):
            assert re.search(rf"\b{re.escape(path.name)}\b", tree), f"{path.relative_to(ROOT)} is not in the file tree"
    for name in re.findall(r"\b\w+\.(?:py|html|js)\b", tree):
        assert list(ROOT.rglob(name)), f"the file tree names {name}, which is not there"
