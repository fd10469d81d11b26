"""README, settings page, list of commands and contributor notes tell the truth: settings, commands and files exist."""

import ast
import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import BaseModel
from shell_commands import assert_parses, commands

from hrpro_pipeline.cli.group import COMMANDS
from hrpro_pipeline.configs.schema import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def section(text: str, title: str) -> str:
    """A section of a Markdown text, up to the next heading of its level."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def settings_table() -> str:
    """The table of all settings as docs/settings.md shows it."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name_of_section in Settings.model_fields:
        owner = getattr(Settings(), name_of_section)
        if isinstance(owner, BaseModel):
            for name, field in type(owner).model_fields.items():
                value = owner.model_dump(mode="json")[name]
                text = str(value).replace("'", "").lower() if isinstance(value, bool | list) else f"{value}"
                lines.append(f"| `{name_of_section}.{name}` | {text} | {field.description} |")
    return "\n".join(lines)


def test_settings_table() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    table = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", page, re.DOTALL)
    assert table is not None
    assert table[1] == settings_table(), f"paste this into docs/settings.md:\n{settings_table()}"


@pytest.mark.parametrize("words", commands(README), ids=" ".join)
def test_commands_parse(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_parses(words, tmp_path, monkeypatch)


def test_there_are_commands() -> None:
    assert {words[0] for words in commands(README)} >= {"extract", "train", "detect", "evaluate", "report", "import"}


def test_python_example_names_what_is_there() -> None:
    source = "".join(example.source for example in doctest.DocTestParser().get_examples(README))
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        assert all(hasattr(import_module(str(node.module)), alias.name) for alias in node.names), ast.unparse(node)


def test_every_command_is_listed() -> None:
    page = (ROOT / "docs/commands.md").read_text()
    for name in COMMANDS:
        assert f"`hrpro {name}" in page, f"hrpro {name} is not in the table of docs/commands.md"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links(name: str) -> None:
    for target in re.findall(r"\]\((?!https://)([^)#]+)", (ROOT / name).read_text()):
        assert (ROOT / target).exists(), f"{name} links to {target}, which is not there"


def test_every_page_is_linked() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or f"(docs/{page.name})" in README, f"docs/{page.name} is not linked in the README"


def test_file_tree() -> None:
    tree = section(CONTRIBUTING, "What is where")
    for path in (ROOT / "hrpro_pipeline").rglob("*.py"):
        if not path.name.startswith("__"):
            assert re.search(rf"\b{re.escape(path.name)}\b", tree), f"{path.relative_to(ROOT)} is not in the file tree"
    for name in re.findall(r"\b\w+\.(?:py|html|js)\b", tree):
        assert list(ROOT.rglob(name)), f"the file tree names {name}, which is not there"


def test_files_of_the_answers() -> None:
    """The answers to "Where would you ...?" name files of the package or of the project."""
    names = set(re.findall(r"`([\w/.]+\.(?:py|yaml|css|md))`", section(CONTRIBUTING, "Where would you ...?")))
    assert len(names) > 10
    for name in names:
        assert (ROOT / "hrpro_pipeline" / name).is_file() or (ROOT / name).is_file(), f"{name} is not there"
