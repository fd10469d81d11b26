"""The answer among the detections: right ones, apart ones, probabilities, the threshold; and what is written of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from made_features import made_set

from hrpro_pipeline.cli import main
from hrpro_pipeline.commands.train import train_detector
from hrpro_pipeline.data.detections import Detection, VideoDetections, read_detections, write_detections
from hrpro_pipeline.infer.answer import answers, apart, expected_calibration_error, fit_calibration, is_right
from hrpro_pipeline.models.calibration import Calibration
from hrpro_pipeline.models.checkpoint import load_model
from hrpro_pipeline.show.overlay import distinct_detections


def test_each_segment_makes_one_detection_right() -> None:
    segments = np.array([[0.0, 10, 0], [20, 30, 1]])
    detections = np.array([[0.0, 9, 0, 0.9], [1, 10, 0, 0.8], [20, 30, 0, 0.7], [20, 24, 1, 0.6], [21, 30, 1, 0.5]])
    assert is_right(detections, segments).tolist() == [True, False, False, False, True]
    assert not is_right(detections, np.empty((0, 3))).any()


def test_answers_of_a_class_do_not_overlap() -> None:
    detections = np.array([[0.0, 10, 0, 0.9], [9, 12, 0, 0.8], [10, 12, 0, 0.7], [5, 8, 1, 0.6]])
    assert apart(detections).tolist() == [True, False, True, True]


def made_scores(rng: np.random.Generator, num_videos: int) -> tuple[dict, dict]:
    """Detections whose score is a function of how often they are right, and the segments that say so."""
    detections, segments = {}, {}
    for video in range(num_videos):
        likelihood = np.sort(rng.uniform(0, 1, 20))[::-1]
        start = 10.0 * np.arange(20)
        right = rng.uniform(size=20) < likelihood
        # The true log odds are twice the logarithm of the score, and 1.
        score = np.exp((np.log(likelihood / (1 - likelihood)) - 1) / 2)
        detections[str(video)] = np.column_stack([start, start + 5, np.zeros(20), score])
        segments[str(video)] = np.column_stack([start, start + 5, np.zeros(20)])[right]
    return detections, segments


def test_calibration_recovers_what_was_planted() -> None:
    rng = np.random.default_rng(0)
    calibration = fit_calibration(*made_scores(rng, 300))
    assert calibration is not None
    assert calibration.slope == pytest.approx(2, abs=0.2)
    assert calibration.intercept == pytest.approx(1, abs=0.2)
    detections, segments = made_scores(rng, 100)
    probability = np.concatenate([answers(rows, calibration)[0] for rows in detections.values()])
    right = np.concatenate([is_right(rows, segments[video]) for video, rows in detections.items()])
    assert expected_calibration_error(probability, right) < 0.05

    def f1(threshold: float) -> float:
        taken = probability >= threshold
        return 2 * (taken & right).sum() / (taken.sum() + right.sum())

    assert f1(calibration.threshold) > max(f1(value) for value in np.linspace(0, 1, 101)) - 0.02


def test_nothing_to_learn_from() -> None:
    rows, segment = np.array([[0.0, 5, 0, 0.5]]), np.array([[0.0, 5, 0]])
    assert fit_calibration({"a": rows}, {"a": segment}) is None
    assert fit_calibration({"a": rows}, {"a": segment + [50, 50, 0]}) is None


def test_files_hold_the_answer(tmp_path: Path) -> None:
    detections = (Detection("pour", 0.9, 1.0, 2.0, 0.8, True), Detection("pour", 0.4, 1.5, 2.5, 0.3, False))
    write_detections(tmp_path, VideoDetections("a", detections))
    assert read_detections(tmp_path)["a"].detections == detections
    assert distinct_detections(detections) == [detections[0]]
    plain = Detection("pour", 0.9, 1.0, 2.0)
    write_detections(tmp_path, VideoDetections("b", (plain,)))
    assert "probability" not in (tmp_path / "b.json").read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default preset on a few videos, and its data."""
    folder = made_set(tmp_path_factory.mktemp("answer"), num_train=8, num_test=2)
    few = ["snippet.steps=30", "snippet.learning_rate=1e-3", "pyramid.steps=60", "pyramid.min_points=0"]
    train_detector(folder / "features", folder / "points.csv", folder / "run", overrides=few, device="cpu")
    return folder


def hrpro(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_a_run_learns_its_answer_from_videos_that_it_holds_out(run: Path, tmp_path: Path) -> None:
    assert load_model(run / "run").calibration is not None
    assert load_model(run / "run").notes.videos == 8
    assert load_model(run / "run" / "held_out").notes.videos == 6
    assert hrpro("detect", run / "run", run / "features", "--out", tmp_path / "all", "--device", "cpu")[0] == 0
    alone = ("detect", run / "run", run / "features", "--out", tmp_path / "answer", "--device", "cpu", "--answer-only")
    assert hrpro(*alone)[0] == 0
    for video_id, video in read_detections(tmp_path / "all").items():
        answer = [detection for detection in video.detections if detection.answer]
        assert answer == list(read_detections(tmp_path / "answer")[video_id].detections)
        assert 1 <= len(answer) <= 4, "of two actions"
        probabilities = [detection.probability for detection in video.detections]
        assert probabilities == sorted(probabilities, reverse=True)


def test_settings_of_detection(run: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out", "--device", "cpu")
    assert hrpro("detect", run / "run", run / "features", *out, "--set", "detect.nms_sigma=0.1")[0] == 0
    code, printed = hrpro("detect", run / "run", run / "features", *out, "--set", "snippet.steps=3")
    assert code == 1
    assert "'snippet.steps=3': a trained model takes settings of detection alone" in printed
    code, printed = hrpro("detect", run / "run", run / "features", *out, "--set", "detect.nms_sigm=0.1")
    assert code == 2
    assert "did you mean detect.nms_sigma?" in printed


def test_a_model_without_an_answer_says_so(run: Path, tmp_path: Path) -> None:
    few = ["snippet.steps=2", "pyramid.steps=2", "answer.held_out=0"]
    train_detector(run / "features", run / "points.csv", tmp_path / "run", overrides=few, device="cpu")
    code, printed = hrpro("detect", tmp_path / "run", run / "features", "--out", tmp_path / "out", "--answer-only")
    assert code == 1
    assert "has not learned what its answer is" in printed
    assert hrpro("detect", tmp_path / "run", run / "features", "--out", tmp_path / "out", "--device", "cpu")[0] == 0
    first = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert all("answer" not in detection for detection in first["detections"])


def test_probabilities_rise_with_scores() -> None:
    calibration = Calibration(1.5, 0.2, 0.5)
    probability = calibration.probability(np.array([0.0, 1e-9, 0.1, 0.5, 1.0, 2.0]))
    assert (np.diff(probability) >= 0).all()
    assert ((probability > 0) & (probability < 1)).all()
