"""The `hrpro ...` commands in the shell blocks of README and docs, held to the real parser."""

import re
import shlex
from pathlib import Path

import click
import pytest

from hrpro_pipeline.cli import main


def commands(text: str) -> list[list[str]]:
    """Every `hrpro ...` line of the bash blocks of a Markdown text, continued lines joined, without the word hrpro."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "hrpro" in words and words[0] == "hrpro":
                found.append(words[1:])
    return found


def assert_parses(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is accepted by the parser in `folder`, given files of the names that it uses."""
    monkeypatch.chdir(folder)
    for word in words:
        if word.endswith("/") or ("/" in word and "." not in word.rsplit("/", 1)[-1]):
            Path(word).mkdir(parents=True, exist_ok=True)
        elif re.search(r"\.(json|csv|txt|pkl|h5|npz|boris|eaf)$", word):
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).touch()
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        chosen = command.get_command(context, words[0])
        assert chosen is not None, f"no command {words[0]}"
        command, words = chosen, words[1:]
    command.make_context(command.name, words)  # raises for anything that the parser does not take
