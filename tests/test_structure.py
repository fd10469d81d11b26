"""Sizes that the contributor notes promise: functions, files and the README can be read at a glance."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 60  # of a function, without its docstring
MOST_PARAMETERS = 10
MOST_BRANCHES = 20  # McCabe's cyclomatic complexity
MOST_LINES_OF_A_FILE = 450
MOST_WORDS_OF_THE_README = 1800
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(file: Path) -> Iterator[Function]:
    """All functions and methods of a file, nested ones too."""
    return (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, Function))


def num_lines(function: Function) -> int:
    """Lines from `def` to the end, without the docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    docstring = function.body[0]
    if ast.get_docstring(function) is not None and docstring.end_lineno is not None:
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def num_parameters(function: Function) -> int:
    arguments = function.args
    return len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])


def is_kernel(function: Function) -> bool:
    """Whether Triton compiles it."""
    return any("triton" in ast.unparse(decorator) for decorator in function.decorator_list)


def num_branches(function: Function) -> int:
    """Ways through a function, at least one: each branch, loop, handler, and each further operand of `and` and `or`."""
    nodes = list(ast.walk(function))
    operands = sum(len(node.values) - 1 for node in nodes if isinstance(node, ast.BoolOp))
    conditions = sum(len(node.ifs) for node in nodes if isinstance(node, ast.comprehension))
    return 1 + sum(isinstance(node, BRANCHES) for node in nodes) + operands + conditions


def files(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def in_project(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", files("hrpro_pipeline"), ids=in_project)
def test_functions_are_short(file: Path) -> None:
    for function in functions(file):
        name = f"{in_project(file)}:{function.lineno} {function.name}"
        assert num_branches(function) <= MOST_BRANCHES, name
        if not is_kernel(function):  # a kernel takes pointers, sizes and constants one by one
            assert num_lines(function) <= MOST_LINES, name
            assert num_parameters(function) <= MOST_PARAMETERS, name


@pytest.mark.parametrize("file", files("hrpro_pipeline", "tests", "benchmarks"), ids=in_project)
def test_files_are_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MOST_LINES_OF_A_FILE


@pytest.mark.parametrize("file", files("hrpro_pipeline/commands"), ids=in_project)
def test_commands_declare_their_parameters(file: Path) -> None:
    """No `**options`: mypy checks every hop from the command line to the function."""
    assert [function.name for function in functions(file) if function.args.kwarg is not None] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= MOST_WORDS_OF_THE_README


def test_what_is_counted() -> None:
    (function,) = ast.parse('''
def example(a, /, b, *rest, c=1, **options):
    """Not
    counted."""
    if a and b or c:
        return [x for x in rest if x]
    return options
''').body
    assert isinstance(function, ast.FunctionDef)
    assert (num_lines(function), num_parameters(function), num_branches(function)) == (4, 3, 6)
