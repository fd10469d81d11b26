"""Videos with clocks of their own: native frame rates, and videos rescaled to a fixed number of rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_cli import hrpro, succeeds
from test_figures import boxes

from hrpro_pipeline import Detector, import_features, train_detector
from hrpro_pipeline.data.annotations import read_annotations
from hrpro_pipeline.data.features import list_features, read_features, read_header
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.models.checkpoint import load_model

RATES = (25.0, 30000 / 1001, 30.0)
CLASSES = ("jump", "sit")
# All stages, on features without noise: the same video on another clock is almost the same input.
QUICK = (
    *("snippet.steps=40", "snippet.evaluate_every=40", "snippet.attention_layers=1", "snippet.passes=0"),
    *("instance.epochs=0", "pyramid.steps=0", "answer.held_out=0"),
)


def segments(number: int) -> list[tuple[str, float, float]]:
    """Two actions of a video, in seconds."""
    start = 4.0 + number
    return [(CLASSES[number % 2], start, start + 6), (CLASSES[(number + 1) % 2], start + 14, start + 19)]


def rows(number: int, clock: SnippetClock, num_rows: int) -> np.ndarray:
    """Features of a video on a clock: what happens in the middle of each row, [T, 64]."""
    middle = clock.to_seconds(np.arange(num_rows) + 0.5)
    features = np.random.default_rng(number).normal(0, 0.02, (num_rows, 64)).astype(np.float32)
    for label, start, end in segments(number):
        channel = CLASSES.index(label) * 16
        features[(start <= middle) & (middle < end), channel : channel + 16] += 2
    return features


def seconds_of(number: int) -> float:
    return 32.0 + 3 * number


def made(folder: Path, kind: str) -> Path:
    """`arrays/VIDEO.npy`, `gt.json` and `points.csv` of 8 videos; the last two are the test set."""
    (folder / "arrays").mkdir(parents=True)
    database, points = {}, ["video_id,class,time"]
    for number in range(8):
        name, seconds = f"v{number}", seconds_of(number)
        rate = RATES[number % 3]
        if kind == "rescaled":
            clock, num_rows = SnippetClock(100 / seconds, 1, 1), 100
        else:
            clock = SnippetClock(rate if kind == "native" else 25.0, 16, 8)
            num_rows = clock.num_snippets(round(seconds * clock.fps))
        np.save(folder / "arrays" / f"{name}.npy", rows(number, clock, num_rows))
        listed = [{"label": label, "segment": [start, end]} for label, start, end in segments(number)]
        subset = "test" if number >= 6 else "train"
        database[name] = {"subset": subset, "fps": rate, "duration": seconds, "annotations": listed}
        if subset == "train":
            points += [f"{name},{label},{(start + end) / 2}" for label, start, end in segments(number)]
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    (folder / "points.csv").write_text("\n".join(points))
    return folder


CHOICES = {
    "common": ("--fps", "25", "--stride", "8", "--snippet-frames", "16"),
    "native": ("--fps", "native", "--stride", "8", "--snippet-frames", "16"),
    "rescaled": ("--rescaled",),
}


def run(folder: Path, kind: str, *more: str) -> dict[str, np.ndarray]:
    """Import, train, detect and evaluate -> the two best detections of each test video, in order of time."""
    made(folder, kind)
    options = ("--layout", "TD", "--annotations", folder / "gt.json", "--out", folder / "features")
    succeeds("import", "features", folder / "arrays", *CHOICES[kind], *options, *more)
    sets = [word for value in QUICK for word in ("--set", value)]
    inputs = ("--annotations", folder / "gt.json", "--points", folder / "points.csv", "--evaluate-on", "test")
    succeeds("train", folder / "features", *inputs, *sets, "--out", folder / "run", "--device", "cpu")
    ids = folder / "test.txt"
    ids.write_text("v6\nv7\n")
    out = folder / "found"
    succeeds("detect", folder / "run", folder / "features", "--videos", ids, "--out", out, "--device", "cpu")
    scores = json.loads(succeeds("evaluate", out, "--annotations", folder / "gt.json", "--subset", "test", "--json"))
    assert scores["mAP"][scores["tiou"].index(0.5)] == pytest.approx(1)
    last = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["average"] == pytest.approx(scores["average"])
    found = {}
    for name in ("v6", "v7"):
        best: dict[str, list[float]] = {}
        for detection in json.loads((out / f"{name}.json").read_text())["detections"]:
            best.setdefault(detection["label"], detection["segment"])
        found[name] = np.array(sorted(best.values()))
    return found


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return run(tmp_path_factory.mktemp("common"), "common")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    np.save(folder / "found.npy", np.stack(list(run(folder, "native").values())))
    return folder


def test_native_rates_detect_as_a_common_clock_does(common: dict[str, np.ndarray], native: Path) -> None:
    clocks = {read_header(path).clock.fps for path in list_features(native / "features").values()}
    assert clocks == set(RATES)
    found = dict(zip(common, np.load(native / "found.npy"), strict=True))
    for number, name in ((6, "v6"), (7, "v7")):
        truth = np.array([[start, end] for _, start, end in segments(number)])
        assert found[name].shape == common[name].shape == truth.shape
        np.testing.assert_allclose(found[name], common[name], atol=16 / 25)
        np.testing.assert_allclose(found[name], truth, atol=16 / 25)
    assert load_model(native / "run").own_clocks


def test_a_common_clock_from_native_rates(common: dict[str, np.ndarray], tmp_path: Path) -> None:
    found = run(tmp_path, "native", "--resample", "--set", "extract.stride=8")
    assert {read_header(path).clock for path in list_features(tmp_path / "features").values()} == {
        SnippetClock(25, 16, 8)
    }
    for name, detected in found.items():
        np.testing.assert_allclose(detected, common[name], atol=16 / 25)
    assert not load_model(tmp_path / "run").own_clocks


def test_videos_rescaled_to_100_rows(common: dict[str, np.ndarray], tmp_path: Path) -> None:
    found = run(tmp_path, "rescaled")
    for name, detected in found.items():
        np.testing.assert_allclose(detected, common[name], atol=0.64)
    header = read_header(tmp_path / "features" / "v7.h5")
    assert (header.num_snippets, header.duration_seconds, header.clock.fps) == (100, 53, 100 / 53)
    assert "100 snippets" not in succeeds("info", tmp_path / "features")


def test_a_model_of_own_clocks(native: Path, tmp_path: Path) -> None:
    model = load_model(native / "run")
    detector = Detector(model, "cpu")
    features = read_features(native / "features" / "v7.h5")
    assert features.header.clock.fps == RATES[1] and model.clock.fps == RATES[0]
    assert detector.detect(features)
    assert "each video has its own clock" in succeeds("info", native / "run")
    assert "25 to 30 fps" in succeeds("info", native / "features")
    (tmp_path / "videos").mkdir()
    from make_videos import moving_square, write_video

    write_video(tmp_path / "videos" / "a.mp4", moving_square(40))
    result = hrpro("detect", native / "run", tmp_path / "videos", "--out", tmp_path / "found", "--device", "cpu")
    assert result.exit_code == 1
    assert "imported features with a clock of its own for each video; give it features instead" in result.output
    report = succeeds("report", native / "found", "--out", tmp_path / "page.html")
    assert "page.html" in report


def test_pseudo_segments_for_other_programs(native: Path, tmp_path: Path) -> None:
    out = tmp_path / "pseudo.json"
    assert "12 pseudo segments" in succeeds("export", "pseudo-labels", native / "run", "--out", out, "--device", "cpu")
    database = json.loads(out.read_text())["database"]
    assert list(database) == [f"v{number}" for number in range(6)]
    for number in range(6):
        entry = database[f"v{number}"]
        assert (entry["subset"], entry["duration"], entry["fps"]) == ("train", seconds_of(number), RATES[number % 3])
        for item, (label, start, end) in zip(entry["annotations"], segments(number), strict=True):
            assert (item["label"], item["label_id"]) == (label, CLASSES.index(label))
            np.testing.assert_allclose(item["segment"], [start, end], atol=1.0)
    assert set(read_annotations(out)) == set(database)
    (native / "run" / "inputs.json").rename(tmp_path / "inputs.json")
    asked = hrpro("export", "pseudo-labels", native / "run", "--out", out)
    (tmp_path / "inputs.json").rename(native / "run" / "inputs.json")
    assert "does not say where its features are; give them with --features" in asked.output


def test_figures_draw_each_video_on_its_clock(native: Path, tmp_path: Path) -> None:
    """Of three rates, the bars of what was found are at those of the true segments."""
    (tmp_path / "ids.txt").write_text("v6\nv7\nv5\n")
    succeeds("figures", native / "run", "--videos", tmp_path / "ids.txt", "--out", tmp_path / "out", "--device", "cpu")
    for name in ("v5", "v6", "v7"):
        drawing = tmp_path / "out" / f"fig4-timeline-{name}.svg"
        truth, found = boxes(drawing, "truth-"), boxes(drawing, "found-")
        assert len(truth) == 2
        for bar in truth.values():
            assert min(np.abs(np.subtract(bar, other)).max() for other in found.values()) < 0.03 * np.ptp(
                [*truth.values()]
            )


@pytest.mark.parametrize("streams", [("videomae",), ("clip", "rgb")])
def test_streams_of_other_names(tmp_path: Path, streams: tuple[str, ...]) -> None:
    made(tmp_path, "common")
    import_features(
        tmp_path / "arrays", tmp_path / "features", streams=streams, fps=25, stride=8, snippet_frames=16, layout="TD"
    )
    run_folder = tmp_path / "run"
    model = train_detector(
        tmp_path / "features", tmp_path / "points.csv", run_folder, overrides=[*QUICK, "snippet.steps=4"], device="cpu"
    )
    width = 64 // len(streams)
    assert model.widths == dict.fromkeys(sorted(streams, key=lambda name: name != "rgb"), width)
    assert load_model(run_folder).settings.extract.streams == tuple(model.widths)
    succeeds("detect", run_folder, tmp_path / "features", "--out", tmp_path / "found", "--device", "cpu")
    assert f"{streams[0]} {width}" in succeeds("info", run_folder)
    chosen = train_detector(
        *(tmp_path / "features", tmp_path / "points.csv", tmp_path / "second"),
        overrides=[*QUICK, "snippet.steps=2", f"extract.streams=[{streams[0]}]"],
        device="cpu",
    )
    assert chosen.widths == {streams[0]: width}
    result = hrpro(
        *("train", tmp_path / "features", "--points", tmp_path / "points.csv", "--out", tmp_path / "third"),
        *("--set", "extract.streams=[flow]"),
    )
    assert "the features have no stream flow" in result.output and streams[0] in result.output
    result = hrpro("extract", tmp_path, "--out", tmp_path / "x", "--streams", "videomae")
    assert result.exit_code == 2 and "stream 'videomae' cannot be extracted" in result.output
