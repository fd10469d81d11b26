"""Doubts about labels, what to label next, and training that goes on from a model with the answers."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from made_features import made_set

from hrpro_pipeline.cli import main
from hrpro_pipeline.commands.train import train_detector
from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.data.detections import Detection, VideoDetections, write_detections
from hrpro_pipeline.data.points import BACKGROUND
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.data.suggestions import (
    COLUMNS,
    WORTH_A_LOOK,
    Suggestion,
    read_moments,
    read_suggestions,
    write_suggestions,
)
from hrpro_pipeline.errors import HrproError, ProblemsError
from hrpro_pipeline.infer.doubts import Evidence, Points, describe_doubts, label_doubts, unlabeled
from hrpro_pipeline.infer.suggest import suggest_moments
from hrpro_pipeline.models.checkpoint import build_pyramid, build_snippet, load_model
from hrpro_pipeline.show.doubts_table import doubts_table
from hrpro_pipeline.train.warm_start import take_prototypes, take_weights

CLOCK = SnippetClock()
FEW = ["snippet.steps=30", "snippet.learning_rate=1e-3", "pyramid.steps=0", "answer.held_out=0"]


def points(*labeled: tuple[float, int], background: tuple[float, ...] = ()) -> Points:
    positions, labels = np.array(labeled, np.float64).reshape(-1, 2).T
    return Points(positions, labels.astype(np.int64), np.array(background), np.ones(len(labels)))


def evidence(peaks: dict[int, int], detections: list[list[float]]) -> Evidence:
    """A video of 40 snippets with a score of 0.9 at some, each of a class, and the detections."""
    scores = np.full((40, 2), 0.05)
    for snippet, label in peaks.items():
        scores[snippet, label] = 0.9
    return Evidence(scores, np.zeros((40, 2)), np.array(detections, np.float64).reshape(-1, 4), CLOCK)


def test_doubts_are_ranked_and_say_what_to_do() -> None:
    looked_at = {
        # The point at 30 should be at 20; the action of class 1 at 10 has none.
        "a": evidence({5: 0, 20: 0, 10: 1}, [[18, 23, 0, 0.8], [4, 7, 0, 0.9], [9, 12, 1, 0.7]]),
        # The point at 10 is of class 1; there is no action of class 0 in the video.
        "b": evidence({10: 1}, [[9, 12, 1, 0.9]]),
        "c": evidence({10: 0, 20: 0, 30: 1}, []),
    }
    labels = {"a": points((5.5, 0), (30.5, 0)), "b": points((10.5, 0)), "c": points((10, 0), (20, 0), (30, 1))}
    doubts = label_doubts(looked_at, labels, ("pour", "stir"))
    seconds = CLOCK.to_seconds(np.array([5.5, 30.5, 10.5, 20.5])).tolist()
    misplaced = {(item.video_id, item.seconds): item for item in doubts if item.kind == "misplaced"}
    assert misplaced["a", seconds[0]].score < 0.2
    assert misplaced["a", seconds[1]].score > 0.7
    assert misplaced["a", seconds[1]].suggested_seconds == pytest.approx(seconds[3])
    assert (misplaced["b", seconds[2]].suggested_label, misplaced["b", seconds[2]].suggested_seconds) == ("stir", None)
    forgotten = [(item.video_id, item.label, item.score) for item in doubts if item.kind == "forgotten"]
    assert forgotten == [("b", "stir", 0.9), ("a", "pour", 0.8), ("a", "stir", 0.7)]
    assert [item.score for item in doubts] == sorted((item.score for item in doubts), reverse=True)
    assert describe_doubts(doubts) == "2 points look misplaced, and 3 actions forgotten"


def test_what_has_a_point_or_was_denied_is_not_forgotten() -> None:
    detections = np.array([[0.0, 5, 0, 0.9], [10, 15, 0, 0.8], [20, 25, 1, 0.7], [30, 35, 1, 0.6]])
    marked = points((2, 0), (12, 1), background=(22,))
    assert unlabeled(detections, marked)[:, 0].tolist() == [10, 30]


def test_rare_classes_come_first_and_moments_of_a_video_together() -> None:
    looked_at = {
        "labeled": evidence({5: 0, 15: 0, 25: 0, 35: 1}, []),
        "common": evidence({5: 0, 20: 0}, [[20, 22, 0, 0.9], [4, 7, 0, 0.9]]),
        "rare": evidence({5: 1, 20: 1}, [[20, 22, 1, 0.9], [4, 7, 1, 0.9]]),
        "nothing": evidence({7: 1}, []),
        "denied": evidence({7: 1}, [[6, 9, 1, 0.9]]),
    }
    labels = {"labeled": points((5.5, 0), (15.5, 0), (25.5, 0), (35.5, 1))}
    moments = suggest_moments(looked_at, labels, {"denied": np.array([7.5])}, ("pour", "stir"))
    assert {item.kind for item in moments} == {"new"}
    order = [item.video_id for item in moments]
    assert order.index("rare") < order.index("common")
    assert sorted(order) == ["common", "common", "nothing", "rare", "rare"]
    rare = [item for item in moments if item.video_id == "rare"]
    assert rare[0].seconds < rare[1].seconds
    assert rare[0].score == rare[1].score


def test_suggestions_are_read_as_written(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    items = [
        Suggestion("a", 1.5, 'pour, "slow"', "misplaced", 0.75, "stir", 2.25),
        Suggestion("b", 0.0, "stir", "new", 0.5),
    ]
    write_suggestions(file, items)
    assert file.read_text().startswith("video_id,time,class,kind,score,")
    assert read_suggestions(file) == items
    file.write_text(",".join(COLUMNS) + "\na,1,pour,odd,0.5,,\n../x,1,pour,new,0.5,,\na,nan,pour,new,1,,\n")
    with pytest.raises(ProblemsError) as caught:
        read_suggestions(file)
    assert len(caught.value.problems) == 3
    file.write_text("video_id,time\na,1\n")
    with pytest.raises(HrproError, match="no column class and kind and score"):
        read_suggestions(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made set with a misplaced and a forgotten point, two videos without points, and a run on it."""
    folder = made_set(tmp_path_factory.mktemp("suggest"), num_train=8, num_test=2)
    lines = (folder / "points.csv").read_text().splitlines()
    assert lines.pop(3).startswith("v01,run,")
    assert lines[6].startswith("v03,jump,4.8")
    lines[6] = "v03,jump,17.5"
    (folder / "points.csv").write_text("\n".join(lines))
    train_detector(folder / "features", folder / "points.csv", folder / "run", overrides=FEW, device="cpu")
    return folder


def test_train_writes_its_doubts(folder: Path) -> None:
    doubts = read_suggestions(folder / "run" / "doubts.csv")
    points = [item for item in doubts if item.kind == "misplaced"]
    assert len(points) == 15
    assert (points[0].video_id, points[0].label, points[0].seconds) == ("v03", "jump", 17.5)
    assert points[0].score > points[1].score
    forgotten = [(item.video_id, item.label) for item in doubts if item.kind == "forgotten"]
    assert set(forgotten[:2]) == {("v01", "run"), ("v03", "jump")}


def suggest(folder: Path, *more: object) -> tuple[int, str]:
    arguments = ("suggest", folder / "run", folder / "features", *more, "--device", "cpu")
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_suggest(folder: Path, tmp_path: Path) -> None:
    code, printed = suggest(folder, "--points", folder / "points.csv", "--out", tmp_path / "s.csv")
    assert code == 0, printed
    moments = read_suggestions(tmp_path / "s.csv")
    assert ("v01", "forgotten") in {(item.video_id, item.kind) for item in moments}
    assert {item.video_id for item in moments if item.kind == "new"} == {"v08", "v09"}
    assert "2 actions that may be forgotten" in printed
    # A moment that was denied does not come again.
    first = next(item for item in moments if item.kind == "new")
    denied = f"\n{first.video_id},{BACKGROUND},{first.seconds}"
    (tmp_path / "p.csv").write_text((folder / "points.csv").read_text() + denied)
    assert suggest(folder, "--points", tmp_path / "p.csv", "--out", tmp_path / "s2.csv", "--top", 50)[0] == 0
    again = {(item.video_id, round(item.seconds, 2)) for item in read_suggestions(tmp_path / "s2.csv")}
    assert (first.video_id, round(first.seconds, 2)) not in again
    # Nor does a video that somebody has watched to its end; doubts about done videos stay.
    (tmp_path / "p.csv").write_text((folder / "points.csv").read_text())
    (tmp_path / "p.csv.done").write_text("v01\nv08\n")
    assert suggest(folder, "--points", tmp_path / "p.csv", "--out", tmp_path / "s2.csv")[0] == 0
    again = read_suggestions(tmp_path / "s2.csv")
    assert {item.video_id for item in again if item.kind == "new"} == {"v09"}
    assert ("v01", "forgotten") in {(item.video_id, item.kind) for item in again}
    (tmp_path / "other.csv").write_text("video_id,class,time\nv00,swim,2\n")
    code, printed = suggest(folder, "--points", tmp_path / "other.csv", "--out", tmp_path / "s3.csv")
    assert code == 1
    assert "no point is of the model's classes: jump, run, sit" in printed


def test_a_warm_start_goes_on_with_a_new_class(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "p.csv").write_text((folder / "points.csv").read_text() + "\nv08,fall,9.3\nv08,jump,4.8\n")
    run = ("train", folder / "features", "--points", tmp_path / "p.csv", "--device", "cpu")
    more = [part for setting in FEW for part in ("--set", setting)]
    arguments = (*run, *more, "--out", tmp_path / "run", "--warm-start", folder / "run")
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "3 of 4 classes are known, new: fall; 8 steps of stage 1" in caplog.text + result.output
    before, after = load_model(folder / "run"), load_model(tmp_path / "run")
    assert after.classes == ("fall", "jump", "run", "sit")
    assert after.settings.snippet.steps == 8
    # The prototypes of what was known have hardly moved.
    cosines = torch.nn.functional.cosine_similarity(before.snippet.prototypes, after.snippet.prototypes[1:])
    assert bool((cosines > 0.99).all())
    assert bool(after.snippet.prototypes[0].any())
    assert "has no stage 3" not in caplog.text + result.output, "none was asked for"
    asked = ("--set", "pyramid.steps=4", "--set", "pyramid.min_points=12", "--set", "snippet.steps=4")
    later = (*arguments[:-4], *asked, "--out", tmp_path / "later", "--warm-start", folder / "run")
    result = CliRunner().invoke(main, [str(argument) for argument in later])
    assert "the model has no stage 3; train anew, without --warm-start" in caplog.text + result.output
    wrong = (*arguments[:-4], "--out", tmp_path / "wrong", "--warm-start", folder / "run")
    wrong = [str(argument) for argument in (*wrong, "--set", "snippet.feedforward=64")]
    result = CliRunner().invoke(main, wrong)
    assert result.exit_code == 1
    assert "the model's network is built otherwise (layers.0.expand.weight)" in result.output


def test_weights_of_classes_go_to_their_new_rows() -> None:
    settings = load_settings("general", ["pyramid.levels=2"])
    before, after = build_snippet(settings, 16, 2), build_snippet(settings, 16, 3)
    before.prototypes[0] = 1
    new_row = after.classify.weight[1].clone()
    after.prototypes[:] = 5
    take_weights(after, before, ("pour", "stir"), ("pour", "shake", "stir"))
    assert torch.equal(after.classify.weight[[0, 2, 3]], before.classify.weight)
    assert torch.equal(after.classify.weight[1], new_row)
    assert torch.equal(after.embed.weight, before.embed.weight)
    after.prototypes[:] = 5
    take_prototypes(after, before, ("pour", "stir"), ("pour", "shake", "stir"))
    assert after.prototypes[:, 0].tolist() == [1, 5, 5], "a class without points had no prototype"
    first, second = build_pyramid(settings, 16, 2), build_pyramid(settings, 16, 1)
    first.mean[:] = 3
    take_weights(second, first, ("pour", "stir"), ("stir",))
    assert torch.equal(second.classify.output.weight, first.classify.output.weight[1:])
    assert torch.equal(second.mean, first.mean)


def test_the_report_lists_doubts(folder: Path, tmp_path: Path) -> None:
    write_detections(tmp_path / "d", VideoDetections("v08", (Detection("jump", 0.9, 4.0, 5.0),), 20.0))
    report = ("report", tmp_path / "d", "--out", tmp_path / "r.html")
    arguments = [str(argument) for argument in (*report, "--doubts", folder / "run")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    page = (tmp_path / "r.html").read_text()
    assert "labels worth a second look" in page
    assert "<td>run</td><td>action looks forgotten</td>" in page
    odd = Suggestion("a", 1.0, "<b>pour</b>", "forgotten", 0.9)
    assert "<td>&lt;b&gt;pour&lt;/b&gt;</td><td>action looks forgotten</td>" in doubts_table([odd])
    assert CliRunner().invoke(main, [str(argument) for argument in report]).exit_code == 0
    assert "worth a second look" not in (tmp_path / "r.html").read_text()


def test_moments_of_a_run_are_its_doubts(folder: Path) -> None:
    moments = read_moments(folder / "run")
    everything = read_suggestions(folder / "run" / "doubts.csv")
    assert moments == [item for item in everything if item.score >= WORTH_A_LOOK]
    assert 0 < len(moments) < len(everything) == len(read_moments(folder / "run" / "doubts.csv"))
