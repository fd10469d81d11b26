"""The examples in docstrings and on the pages of docs/ run, each in a folder with videos, points and a run."""

import doctest
import json
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from make_videos import moving_square, write_video

from hrpro_pipeline import extract_features, train_detector
from hrpro_pipeline.data.detections import Detection, VideoDetections, write_detections

DOCS = Path(__file__).resolve().parents[1] / "docs"
MODULES = [
    "commands.convert",
    "commands.detect",
    "commands.evaluate",
    "commands.extract",
    "commands.points",
    "commands.report",
    "commands.suggest",
    "commands.summary",
    "commands.train",
    "configs.load",
    "data.annotations",
    "data.detections",
    "data.feature_files.axes",
    "data.feature_files.layout",
    "data.features",
    "data.files",
    "data.frame_times",
    "data.names",
    "data.points",
    "data.resampling",
    "data.snippets",
    "data.suggestions",
    "data.parts",
    "data.tables",
    "extract.flow",
    "extract.i3d",
    "extract.networks.network",
    "infer.detector",
    "infer.evaluation",
    "infer.label_summary",
    "models.device",
    "show.fonts",
]
PAGES = sorted(page.name for page in DOCS.glob("*.md") if "\n>>> " in page.read_text())
SMALL = ["extract.resize=32", "extract.crop=32", "extract.streams=[rgb]"]
FEW = ["snippet.steps=4", "snippet.attention_layers=0", "pyramid.steps=4"]

ANNOTATIONS = {
    "kitchen_01": [("pour", 0.5, 2.5), ("stir", 2.5, 4.5)],
    "kitchen_02": [("stir", 1.0, 3.0)],
}
POINTS = "video_id,class,time\nkitchen_01,pour,1.2\nkitchen_01,stir,3.1\nkitchen_02,stir,2.2\n"
DETECTIONS = {
    "kitchen_01": [("pour", 1.3, 0.5, 2.5), ("stir", 0.9, 3.6, 4.5), ("pour", 0.2, 3.0, 4.0)],
    "kitchen_02": [("stir", 1.1, 1.2, 2.5)],
}


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the examples: videos, new_videos, features of both, points, annotations, a run, detections."""
    folder = tmp_path_factory.mktemp("kitchen")
    for name, place in (("kitchen_01", "videos"), ("kitchen_02", "videos"), ("kitchen_03", "new_videos")):
        (folder / place).mkdir(exist_ok=True)
        write_video(folder / place / f"{name}.mp4", moving_square(120, step=int(name[-1])))
    extract_features([folder / "videos"], folder / "features", weights="random", overrides=SMALL)
    extract_features([folder / "new_videos"], folder / "more_features", weights="random", overrides=SMALL)
    (folder / "points.csv").write_text(POINTS)
    database = {
        video_id: {
            "subset": "test",
            "duration": 4.8,
            "fps": 25,
            "annotations": [{"label": label, "segment": [start, end]} for label, start, end in segments],
        }
        for video_id, segments in ANNOTATIONS.items()
    }
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    train_detector(folder / "features", folder / "points.csv", folder / "runs" / "kitchen", overrides=FEW, device="cpu")
    for video_id, rows in DETECTIONS.items():
        detections = tuple(Detection(label, score, start, end) for label, score, start, end in rows)
        write_detections(folder / "detections", VideoDetections(video_id, detections, 4.8, f"{video_id}.mp4"))
    return folder


@pytest.fixture
def here(kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the kitchen as the working folder: no example sees the files of another."""
    shutil.copytree(kitchen, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def run(examples: doctest.DocTest) -> int:
    """Run the examples of one text and return their number; fails with doctest's own report."""
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    runner.run(examples, out=report.append)
    assert not runner.failures, "".join(report)
    return len(examples.examples)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.usefixtures("here")
def test_docstrings(name: str) -> None:
    tests = doctest.DocTestFinder(exclude_empty=True).find(import_module(f"hrpro_pipeline.{name}"))
    # A function that takes a record's parameters has the record's docstring: it runs once.
    by_text = {test.docstring: test for test in tests}
    assert sum(run(examples) for examples in by_text.values()) > 0, "no examples: take the module out of the list"


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.usefixtures("here")
def test_pages(name: str) -> None:
    blocks = re.findall(r"```(?:python|pycon)\n(>>> .*?)```", (DOCS / name).read_text(), re.DOTALL)
    text = "\n".join(blocks)
    assert run(doctest.DocTestParser().get_doctest(text, {}, name, name, 0)) == text.count(">>> ")


def test_no_example_is_skipped() -> None:
    package = DOCS.parent / "hrpro_pipeline"
    marked = [path.name for path in package.rglob("*.py") if re.search(r">>>.*doctest: *\+SKIP", path.read_text())]
    assert not marked
    with_examples = {
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        for path in package.rglob("*.py")
        if re.search(r"^ +>>> ", path.read_text(), re.MULTILINE)
    }
    assert with_examples == set(MODULES), "every module with examples is in the list"
