"""The pages of docs/: built without a warning, all of them listed, their commands, links and file examples right."""

import ast
import inspect
import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import h5py
import pytest
from conftest import skip_or_fail
from shell_commands import assert_parses, commands

import hrpro_pipeline
from hrpro_pipeline.data.annotations import read_ambiguous, read_annotations, read_ids
from hrpro_pipeline.data.detections import read_detections
from hrpro_pipeline.data.failures import read_failures
from hrpro_pipeline.data.features import write_features
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.infer.evaluation import Evaluation
from hrpro_pipeline.train.journal import STAGES

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {page.stem: page.read_text() for page in sorted(DOCS.glob("*.md"))}
FORMATS = dict(re.findall(r"```\{code-block\} \w+\n:caption: (\S+)\n(.*?)```", PAGES["formats"], re.DOTALL))


class Page(HTMLParser):
    """What a built page links to, what it loads, and which places in it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.places.add(str(given["id"]))
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload") and given.get("href"):
            self.loads.append(str(given["href"]))
        if tag in ("script", "img", "iframe") and given.get("src"):
            self.loads.append(str(given["src"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """The built pages, by file."""
    for name in ("sphinx", "myst_parser", "furo"):
        if find_spec(name) is None:
            skip_or_fail(f"{name} is not installed (pip install '.[docs]')")
    out = tmp_path_factory.mktemp("docs")
    arguments = ["-W", "--keep-going", "-n", "-q", "-d", str(out / "doctrees"), str(DOCS), str(out / "html")]
    built = subprocess.run([sys.executable, "-m", "sphinx", *arguments], capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    return {file: Page(file.read_text(encoding="utf-8")) for file in sorted((out / "html").glob("*.html"))}


def test_every_page_is_built_and_listed(site: dict[Path, Page]) -> None:
    toctrees = re.findall(r"```\{toctree\}\n((?::[^\n]*\n)*)\n(.*?)```", PAGES["index"], re.DOTALL)
    listed = [line for _, block in toctrees for line in block.split()]
    built = {file.stem for file in site}
    for name in PAGES:
        assert name in built
        assert name == "index" or sum(fnmatch(name, pattern) for pattern in listed) == 1, f"{name} is not in index.md"


def test_links_of_built_pages(site: dict[Path, Page]) -> None:
    checked = 0
    for file, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", f"{file.name}: {link}"
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.is_file(), f"{file.name}: {link} leads nowhere"
            if parts.fragment and target in site:
                assert unquote(parts.fragment) in site[target].places, f"{file.name}: no such place: {link}"
            checked += 1
    assert checked > 100


def test_pages_load_nothing_from_elsewhere(site: dict[Path, Page]) -> None:
    for file, page in site.items():
        for source in page.loads:
            assert not urlsplit(source).netloc, f"{file.name} loads {source}"
            assert (file.parent / urlsplit(source).path).is_file(), f"{file.name}: {source} is not there"


def test_api_page_has_the_public_names(site: dict[Path, Page]) -> None:
    (places,) = (page.places for file, page in site.items() if file.name == "api.html")
    for name in hrpro_pipeline.__all__:
        assert f"hrpro_pipeline.{name}" in places


@pytest.mark.parametrize("name", sorted({*hrpro_pipeline.__all__} - {"Detector", "HrproError", "__version__"}))
def test_every_parameter_is_documented(name: str) -> None:
    function = getattr(hrpro_pipeline, name)
    described = re.findall(r"^ {4}(\w+(?:, \w+)*): ", inspect.getdoc(function) or "", re.MULTILINE)
    missing = {*inspect.signature(function).parameters} - {name for names in described for name in names.split(", ")}
    assert not missing, f"not in the docstring of {function.__name__}"


@pytest.mark.parametrize(
    ("page", "words"),
    [(page, words) for page, text in PAGES.items() for words in commands(text)],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_commands_parse(page: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_parses(words, tmp_path, monkeypatch)


def test_python_blocks_name_what_is_there() -> None:
    """Blocks without prompts, which no doctest runs."""
    blocks = [block for text in PAGES.values() for block in re.findall(r"```python\n(?!>>>)(.*?)```", text, re.DOTALL)]
    assert len(blocks) >= 2
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                assert all(hasattr(import_module(str(node.module)), alias.name) for alias in node.names), block


def test_there_are_commands() -> None:
    assert {words[0] for words in commands(PAGES["tutorial"])} >= {"extract", "train", "detect", "evaluate", "report"}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The examples of formats.md as files."""
    for name, text in FORMATS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_examples_of_what_goes_in(files: Path) -> None:
    truth = read_annotations(files / "annotations.json")
    assert sum(len(video.segments) for video in truth.values()) == 3
    in_seconds, in_frames = read_points(files / "points.csv"), read_points(files / "points_in_frames.csv")
    for timed, counted in zip(in_seconds, in_frames, strict=False):
        assert timed.seconds is not None
        assert counted.frame is not None
        assert (timed.video_id, timed.label) == (counted.video_id, counted.label)
        assert abs(timed.seconds - counted.frame / 25) < 0.1
    assert read_ids(files / "videos.txt") == list(truth)
    assert read_ambiguous(files / "ambiguous.txt") == {"kitchen_01": [(4.5, 4.8)]}


def test_examples_of_what_comes_out(files: Path) -> None:
    (video,) = read_detections(files / "kitchen_01.json").values()
    assert video.curves is not None
    (same,) = read_detections(files / "detections.json").values()
    assert same.detections == video.detections[:1]
    (failure,) = read_failures(files)
    assert failure.video_id == "broken"
    lines = [json.loads(line) for line in FORMATS["metrics.jsonl"].splitlines()]
    assert {line["stage"] for line in lines} == set(STAGES)
    shown = json.loads(FORMATS["evaluation.json"])
    result = Evaluation(tuple(shown["tiou"]), shown["classes"], 2, 3, 4, 0, 0)
    assert result.as_json() == shown


def test_feature_attributes_are_described(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    rows = {"rgb": SnippetClock().to_seconds([[0.0]])}
    write_features(path, rows, clock=SnippetClock(), video_id="a", duration_seconds=0.64, num_frames=16)
    with h5py.File(path) as file:
        names = {*file.attrs, *file}
    section = PAGES["formats"].partition("## Features")[2].partition("### Features of your own")[0]
    for name in names:
        assert f"`{name}`" in section


# The flags of `mypy --strict` stand in the file, so that the cache that `make lint` fills serves here.
USER = """# mypy: disallow-any-generics, disallow-subclassing-any, disallow-untyped-calls, disallow-untyped-defs
# mypy: disallow-incomplete-defs, no-implicit-reexport, warn-return-any, strict-equality, disallow-any-expr
from pathlib import Path

from hrpro_pipeline import (
    Detector, HrproError, evaluate_detections, extract_features, report_detections, train_detector
)

try:
    summary = extract_features(["videos/", Path("more")], "features/", overrides=["extract.stride=8"])
    reasons: dict[str, str] = {failure.video_id: failure.reason for failure in summary.failed}
    train_detector("features/", "points.csv", "runs/first", seed=1)
    detector = Detector.load("runs/first")
    starts: list[float] = [detection.start_seconds for detection in detector("video.mp4")]
    average: float = evaluate_detections("detections/", "gt.json", tiou=[0.5]).average
    report_detections("detections/", "report.html")
except HrproError as error:
    message: str = str(error)
"""


def test_types_of_the_python_interface(tmp_path: Path) -> None:
    if find_spec("mypy") is None:
        skip_or_fail("mypy is not installed (pip install '.[dev]')")

    def check(name: str, text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).write_text(text)
        arguments = [sys.executable, "-m", "mypy", str(tmp_path / name)]
        return subprocess.run(arguments, cwd=DOCS.parent, capture_output=True, text=True, timeout=300)

    right = check("user.py", USER)
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = check("wrong.py", USER.replace("seed=1", "seed='1'").replace("starts: list[float]", "starts: list[str]"))
    assert len(re.findall(r"wrong.py:\d+: error", wrong.stdout)) >= 2, wrong.stdout
