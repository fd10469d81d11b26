"""`hrpro figures`: the arrays on cases worked out by hand, and the files of a real run."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from made_features import PUBLISHED

from hrpro_pipeline.cli import main
from hrpro_pipeline.commands.figures import _model_names, write_figures
from hrpro_pipeline.data.annotations import Segment, VideoAnnotation
from hrpro_pipeline.data.dataset import TrainingVideo
from hrpro_pipeline.data.features import write_features
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.checkpoint import load_model
from hrpro_pipeline.show import figures as drawing
from hrpro_pipeline.show import views
from hrpro_pipeline.show.colors import PALETTE, class_colors
from hrpro_pipeline.show.figure_parts import save_figure
from hrpro_pipeline.train.snapshots import observed_videos, read_snapshots

SVG = "{http://www.w3.org/2000/svg}"
CLOCK = SnippetClock(25, 16, 16)  # 0.64 s a snippet
CLASSES = ("run", "_sit", "$jump$ <b>")
QUICK = ("snippet.steps=40", "snippet.learning_rate=1e-3", "instance.epochs=2", "snippet.batch_size=4", *PUBLISHED)


def rows(*listed: tuple[float, ...]) -> np.ndarray:
    return np.array(listed, np.float64)


# start, end, class, score
DETECTIONS = rows((0, 10, 0, 0.9), (1, 9, 0, 0.8), (0, 10, 1, 0.7), (20, 24, 1, 0.6), (21, 30, 1, 0.5))
TRUTH = rows((0, 8, 0), (20, 30, 1))


def test_best_overlap() -> None:
    np.testing.assert_allclose(views.best_overlap(DETECTIONS, TRUTH), [0.8, 7 / 9, 0, 0.4, 0.9])
    assert views.best_overlap(DETECTIONS, TRUTH[:0]).tolist() == [0] * 5
    assert views.best_overlap(DETECTIONS[:0], TRUTH).shape == (0,)


def test_each_segment_is_found_once() -> None:
    assert views.true_positives(DETECTIONS, TRUTH).tolist() == [True, False, False, False, True]
    assert views.true_positives(DETECTIONS, TRUTH, tiou=0.4).tolist() == [True, False, False, True, False]
    assert views.true_positives(DETECTIONS, TRUTH[:0]).tolist() == [False] * 5
    assert views.true_positives(DETECTIONS[:0], TRUTH).tolist() == []


def test_separation() -> None:
    good = np.array([True, False, True, False])
    assert views.separation(np.array([0.9, 0.5, 0.4, 0.1]), good) == 0.75
    assert views.separation(np.array([0.5, 0.5, 0.5, 0.5]), good) == 0.5
    assert np.isnan(views.separation(np.array([0.5, 0.4]), np.array([True, True])))
    assert np.isnan(views.separation(np.empty(0), np.empty(0, bool)))


def test_labels_of_snippets() -> None:
    # Middles at 0.32, 0.96, 1.6, 2.24, 2.88 s.
    segments = rows((0.9, 1.7, 2), (1.5, 2.3, 1))
    assert views.snippet_labels(segments, 5, CLOCK).tolist() == [views.BACKGROUND, 2, -2, 1, views.BACKGROUND]
    assert views.snippet_labels(np.empty((0, 3)), 2, CLOCK).tolist() == [views.BACKGROUND] * 2


def test_sampled_rows() -> None:
    labels = np.array([-1] * 10 + [-2] * 5 + [0] * 4 + [1] * 2)
    chosen = views.sample_rows(labels, 3)
    assert np.bincount(labels[chosen] + 1).tolist() == [6, 3, 2]
    assert chosen.tolist() == sorted(chosen)
    np.testing.assert_array_equal(chosen, views.sample_rows(labels, 3))
    assert len(views.sample_rows(labels[:0], 3)) == 0


def test_segments_of_classes_that_the_model_has() -> None:
    video = VideoAnnotation("v", "", 9.0, None, (Segment("_sit", 4, 5), Segment("other", 1, 2), Segment("run", 0, 3)))
    assert views.segment_rows(video, CLASSES).tolist() == [[0, 3, 0], [4, 5, 1]]
    assert views.segment_rows(None, CLASSES).shape == (0, 3)


def test_tsne_keeps_what_is_alike_together() -> None:
    rng = np.random.default_rng(0)
    centers = np.eye(3, 16)
    vectors = np.concatenate([center + 0.05 * rng.standard_normal((20, 16)) for center in centers])
    at = views.tsne(vectors)
    np.testing.assert_array_equal(at, views.tsne(vectors))
    np.testing.assert_allclose(at, views.tsne(vectors * 7), atol=1e-2)  # directions alone count
    middle = at.reshape(3, 20, 2).mean(axis=1)
    nearest = np.linalg.norm(at[:, None] - middle, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, np.repeat([0, 1, 2], 20))
    assert views.tsne(vectors[:4]).shape == (4, 2)


def test_colors_are_those_of_the_class_wherever_it_appears() -> None:
    assert class_colors(["b", "a"]) == class_colors(["a", "b", "a"]) == {"a": PALETTE[0], "b": PALETTE[1]}
    assert class_colors(str(number) for number in range(10, 20))["16"] == PALETTE[6]


def test_names_of_runs(tmp_path: Path) -> None:
    for name in ("rgb/run", "both/run", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "other" / "model.pt").touch()
    assert _model_names(tmp_path / "rgb" / "run", tmp_path / "both" / "run") == ("rgb", "both")
    assert _model_names(tmp_path / "both" / "run", tmp_path / "other" / "model.pt") == ("run", "other")
    assert _model_names(tmp_path / "other", tmp_path / "other") == ("this model", "the other model")


def test_videos_that_training_looks_at() -> None:
    def video(points: int) -> TrainingVideo:
        nothing = np.zeros(points)
        return TrainingVideo("v", np.zeros((1, 1)), nothing, nothing.astype(int), nothing.astype(int))

    assert observed_videos([video(3), video(1), video(2)]) == [1, 2, 0]
    assert observed_videos([video(count) for count in range(1, 12)]) == [0, 2, 4, 6, 8, 10]


def boxes(svg: Path, prefix: str) -> dict[str, tuple[float, float]]:
    """Left and right of each drawn part whose id starts so."""
    found = {}
    for group in ET.parse(svg).iter(f"{SVG}g"):
        if group.get("id", "").startswith(prefix) and (path := group.find(f"{SVG}path")) is not None:
            across = [float(pair[0]) for pair in re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", path.get("d", ""))]
            found[group.get("id", "")] = (min(across), max(across))
    return found


def words(svg: Path) -> set[str]:
    """Texts, which matplotlib leaves as comments beside their outlines."""
    return {text.replace("&lt;", "<").replace("&gt;", ">") for text in re.findall(r"<!-- (.*?) -->", svg.read_text())}


def test_bars_lie_where_their_seconds_are(tmp_path: Path) -> None:
    method = drawing.Method("mine", CLOCK, np.full((50, 2), 0.5), DETECTIONS, views.true_positives(DETECTIONS, TRUTH))
    video = drawing.FigureVideo("a & b", 32.0, TRUTH, CLASSES, class_colors(CLASSES))
    figure = drawing.draw_timelines(video, [method], [0, 1])
    save_figure(figure, tmp_path / "figure")
    svg = tmp_path / "figure.svg"
    truth, detections = boxes(svg, "truth-"), boxes(svg, "found-0-")
    assert (len(truth), len(detections)) == (2, 5)
    scale = (truth["truth-1"][1] - truth["truth-0"][0]) / 30
    zero = truth["truth-0"][0]
    for number, (start, end, *_) in enumerate(DETECTIONS):
        expected = zero + start * scale, zero + end * scale
        np.testing.assert_allclose(detections[f"found-0-{number}"], expected, atol=0.01)
    assert {"a & b", "mine", "run", "wrong at tIoU 0.5"} <= {text.strip().replace("&amp;", "&") for text in words(svg)}
    assert "_sit" in {text.strip() for text in words(svg)}
    assert svg.read_bytes() == save_figure(figure, tmp_path / "again")[1].read_bytes()


def test_empty_figures_can_be_drawn(tmp_path: Path) -> None:
    none, no_truth, colors = np.empty((0, 4)), np.empty((0, 3)), class_colors(CLASSES)
    video = drawing.FigureVideo("v", 3.2, no_truth, CLASSES, colors)
    method = drawing.Method("mine", CLOCK, np.empty((5, 0)), none, np.empty(0, bool))
    panel = drawing.ScorePanel("a", "score", none, np.empty(0, bool), float("nan"))
    spans = drawing.Spans("step 0", no_truth, no_truth, no_truth)
    figures = [
        drawing.draw_timelines(video, [method], []),
        drawing.draw_scores(video, [panel, panel]),
        drawing.draw_embeddings([("a", np.zeros((3, 2)))], np.array([-1, 0, 2]), CLASSES, colors),
        drawing.draw_reliability(video, [], [spans], none, np.empty((0, 2))),
    ]
    for number, figure in enumerate(figures):
        for file in save_figure(figure, tmp_path / str(number)):
            assert file.stat().st_size > 1000


def test_more_classes_than_colors_differ_in_shape(tmp_path: Path) -> None:
    classes = [f"class {number:02d}" for number in range(20)]
    labels = np.arange(20)
    figure = drawing.draw_embeddings(
        [("a", np.random.default_rng(0).random((20, 2)))], labels, classes, class_colors(classes)
    )
    svg = save_figure(figure, tmp_path / "figure")[1].read_text()
    looks = set()
    for label in labels:
        group = re.search(
            rf'<g id="snippets-0-{label}">.*?<path id="\w+" d="(.*?)".*?</defs>.*?fill: (#\w+)', svg, re.S
        )
        assert group is not None
        looks.add((group[1], group[2]))
    assert len(looks) == 20


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `features`, `gt.json`, `points.csv` and two runs on them, `run` and `rgb`."""
    folder = tmp_path_factory.mktemp("figures")
    rng = np.random.default_rng(0)
    database, points = {}, ["video_id,class,time"]
    for number in range(9):
        name, subset = f"v{number}", "train" if number < 6 else "test"
        arrays = {stream: 0.3 * rng.random((40, 16), np.float32) for stream in ("rgb", "flow")}
        annotations = []
        for label, first in ((number % 3, 4), ((number + 1) % 3, 15), ((number + 2) % 3, 28))[: 3 - number % 2]:
            for array in arrays.values():
                array[first : first + 6, label * 4 : label * 4 + 4] += 2
            segment = [round(first * 0.64, 2), round((first + 6) * 0.64, 2)]
            annotations.append({"label": CLASSES[label], "segment": segment})
            if subset == "train":
                points.append(f"{name},{CLASSES[label]},{(first + 3) * 0.64:.2f}")
        database[name] = {"subset": subset, "duration": 25.6, "fps": 25, "annotations": annotations}
        path = folder / "features" / f"{name}.h5"
        write_features(path, arrays, clock=CLOCK, video_id=name, duration_seconds=25.6, num_frames=640)
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    (folder / "points.csv").write_text("\n".join(points) + "\n")
    for run, overrides in (("run", QUICK), ("rgb", (*QUICK, "extract.streams=[rgb]"))):
        sets = [word for override in overrides for word in ("--set", override)]
        printed = hrpro(
            *("train", folder / "features", "--points", folder / "points.csv", "--annotations", folder / "gt.json"),
            *("--evaluate-on", "test", "--out", folder / run, "--device", "cpu", *sets),
        )
        assert "both stages" in printed
    return folder


def hrpro(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_training_writes_down_what_is_reliable(runs: Path) -> None:
    snapshots = read_snapshots(runs / "run")
    assert sorted(snapshots) == [0, 10, 20, 30, 40]
    assert all(len(videos) == 6 for videos in snapshots.values())
    model = load_model(runs / "run")
    for videos in snapshots.values():
        for video_id, found in videos.items():
            assert len(found.proposals) <= 3
            seeds = [*found.action, *found.background]
            assert all(0 <= start < end <= 40 for start, end, _ in seeds), video_id
            ordered = sorted(seeds)
            assert all(first[1] <= second[0] for first, second in zip(ordered, ordered[1:], strict=False))
    # Trained, the reliable proposals lie on the segments.
    truth = json.loads((runs / "gt.json").read_text())["database"]
    overlaps = []
    for video_id, found in snapshots[40].items():
        segments = [(*item["segment"], model.classes.index(item["label"])) for item in truth[video_id]["annotations"]]
        spans = np.array([(*CLOCK.to_seconds(np.array(item[:2])), item[2], 0) for item in found.proposals])
        overlaps += views.best_overlap(spans, np.array(segments)).tolist()
    assert np.mean(overlaps) > 0.6


def test_figures_of_a_run(runs: Path, tmp_path: Path) -> None:
    """Without another word: the run knows where its inputs lie."""
    printed = hrpro("figures", runs / "run", "--out", tmp_path, "--device", "cpu")
    assert "drawing: 8 of 8 figures" in printed
    assert "20 files" in printed
    stems = [f"fig4-timeline-{name}" for name in ("v6", "v7", "v8")]
    stems += [f"fig5-scores-{name}" for name in ("v6", "v7", "v8")]
    stems += ["figB-tsne", *(f"figC-reliability-{name}" for name in ("v0", "v2", "v4"))]
    assert {path.name for path in tmp_path.iterdir()} == {stem + end for stem in stems for end in (".png", ".svg")}
    for stem in stems:
        head = (tmp_path / f"{stem}.png").read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(head[16:20], "big") == 2130  # 7.1 inches at 300 dpi
        ET.parse(tmp_path / f"{stem}.svg")
    assert {"v6", "ground truth", "stage 1", "stage 1 + stage 2", "run"} <= words(tmp_path / "fig4-timeline-v6.svg")
    assert len(boxes(tmp_path / "fig4-timeline-v6.svg", "truth-")) == 3
    assert len(boxes(tmp_path / "fig4-timeline-v6.svg", "found-1-")) == 3
    assert {"before stage 2", "after stage 2"} <= words(tmp_path / "fig5-scores-v6.svg")
    assert {"input features", "embedding of stage 1", "background"} <= words(tmp_path / "figB-tsne.svg")
    reliability = tmp_path / "figC-reliability-v0.svg"
    assert {f"step {step}" for step in (0, 10, 20, 30, 40)} <= words(reliability)
    assert {"reliable proposal", "labeled point"} <= words(reliability)
    assert len(boxes(reliability, "reliable-4-")) == 3
    truth, points = boxes(reliability, "truth-"), boxes(reliability, "point-")
    for number in range(3):
        left, right = truth[f"truth-{number}"]
        np.testing.assert_allclose(points[f"point-{number}"], (left + right) / 2, atol=1)


def test_against_another_run(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("v8\nv1\n")
    arguments = ("--against", runs / "rgb", "--videos", tmp_path / "ids.txt", "--device", "cpu")
    hrpro("figures", runs / "run", "--out", tmp_path / "out", *arguments)
    names = {path.name for path in (tmp_path / "out").glob("*.svg")}
    assert names == {
        *(f"{figure}-{video}.svg" for figure in ("fig4-timeline", "fig5-scores") for video in ("v1", "v8")),
        *("figB-tsne.svg", "figC-reliability-v1.svg"),
    }
    assert {"rgb", "run"} <= words(tmp_path / "out" / "fig4-timeline-v8.svg")
    assert {"rgb", "run"} <= words(tmp_path / "out" / "figB-tsne.svg")


def test_what_cannot_be_drawn_is_said(runs: Path, tmp_path: Path) -> None:
    alone = tmp_path / "model.pt"
    alone.write_bytes((runs / "run" / "model.pt").read_bytes())
    assert "--features" in hrpro("figures", alone, "--out", tmp_path / "out", code=1)
    arguments = ("--features", runs / "features", "--device", "cpu")
    printed = hrpro("figures", alone, "--out", tmp_path / "out", *arguments)
    assert {path.name for path in (tmp_path / "out").glob("*.svg")} == {f"fig4-timeline-v{n}.svg" for n in (0, 1, 2)}
    for figure in ("Fig. 5", "Fig. B", "Fig. C"):
        assert f"left out: {figure}" in printed
    drawn = tmp_path / "out" / "fig4-timeline-v0.svg"
    assert "ground truth" not in words(drawn), "no empty panel"
    assert 0 < len(boxes(drawn, "found-1-")) <= views.MOST_WITHOUT_TRUTH
    content = torch.load(alone, weights_only=True)
    torch.save(content | {"instance": None, "classes": ["x", "y", "z"]}, alone)
    with pytest.raises(HrproError, match="other classes"):
        write_figures(runs / "run", tmp_path / "out", against=alone)
    torch.save(content | {"instance": None}, alone)
    drawn = write_figures(
        alone, tmp_path / "one", features=runs / "features", annotations=runs / "gt.json", points=runs / "points.csv"
    )
    assert drawn.left_out == ("Fig. 5: the run has no stage 2",)
    assert "step 40" in words(tmp_path / "one" / "figC-reliability-v0.svg")
    (tmp_path / "ids.txt").write_text("nobody\n")
    printed = hrpro("figures", runs / "run", "--out", tmp_path / "out", "--videos", tmp_path / "ids.txt", code=1)
    assert "nobody" in printed
