"""Stage 3: pseudo segments, targets, losses, the network, and what it finds."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from made_features import made_set

from hrpro_pipeline.commands.train import train_detector
from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.data.annotations import read_annotations
from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo
from hrpro_pipeline.data.features import read_features
from hrpro_pipeline.infer.detector import Detector
from hrpro_pipeline.models.checkpoint import load_model
from hrpro_pipeline.models.pseudo_segments import pseudo_segments
from hrpro_pipeline.models.pyramid import PyramidModel, pad, segments_of
from hrpro_pipeline.train.duration import with_duration
from hrpro_pipeline.train.pyramid_stage import distance_loss, focal_loss, targets_of


def model(num_levels: int = 4) -> PyramidModel:
    torch.manual_seed(0)
    return PyramidModel(12, 3, channels=16, levels=num_levels).eval()


class TestPseudoSegments:
    def test_a_trapezoid_is_cut_where_it_crosses_the_ratio(self) -> None:
        score = np.array([0, 0, 0.2, 0.8, 0.8, 0.8, 0.2, 0, 0])
        # Half of the peak is crossed a third of the way from 0.2 to 0.8; scores are those of the snippets' middles.
        segments = pseudo_segments(score[:, None], np.array([4.2]), np.array([0]), 0.5)
        np.testing.assert_allclose(segments, [[2.5 + 1 / 3, 6.5 - 1 / 3]])

    def test_a_neighboring_point_ends_a_segment(self) -> None:
        flat = np.ones((20, 1))
        segments = pseudo_segments(flat, np.array([5.0, 12.0]), np.array([0, 0]), 0.5)
        np.testing.assert_allclose(segments, [[0, 12], [5, 20]])

    def test_a_point_beside_the_peak_takes_the_peak_near_it(self) -> None:
        score = np.zeros(40)
        score[20:24] = 1
        ((start, end),) = pseudo_segments(score[:, None], np.array([17.5]), np.array([0]), 0.4)
        assert start <= 17.5
        assert 23 <= end <= 25

    @pytest.mark.parametrize("length", [1, 2, 50])
    def test_any_scores(self, length: int) -> None:
        rng = np.random.default_rng(length)
        for _ in range(200):
            count = int(rng.integers(1, 6))
            positions = np.sort(rng.uniform(0, length, count))
            segments = pseudo_segments(
                rng.uniform(0, 1, (length, 2)) ** 3, positions, rng.integers(0, 2, count), rng.uniform(0.1, 0.9)
            )
            assert segments.shape == (count, 2)
            assert ((segments[:, 0] <= positions) & (positions <= segments[:, 1])).all()
            assert ((segments >= 0) & (segments <= length)).all()
            assert (segments[:, 1] > segments[:, 0]).all()

    def test_no_scores_at_all(self) -> None:
        segments = pseudo_segments(np.zeros((10, 1)), np.array([3.0]), np.array([0]), 0.5)
        assert np.isfinite(segments).all()
        assert segments[0, 0] < 3 < segments[0, 1]


class TestTargets:
    def test_each_length_has_its_level(self) -> None:
        segments = np.array([[2.0, 6.0, 0], [20.0, 60.0, 1]])
        levels = targets_of(segments, 2, 64, 4)
        assert levels[0].classes[0].nonzero().flatten().tolist() == [2, 3, 4, 5]
        assert not levels[0].classes[1].any()
        strides = [2**level for level, targets in enumerate(levels) if targets.classes[1].any()]
        assert strides == [8]  # its bounds are 20 to 40 snippets from its positions, those of the last level
        position = int(levels[3].classes[1].nonzero()[0])
        middle = (position + 0.5) * 8
        np.testing.assert_allclose(levels[3].reach[:, position] * 8, [middle - 20, 60 - middle])

    def test_the_shortest_of_overlapping_segments_gives_the_bounds(self) -> None:
        level = targets_of(np.array([[4.0, 7.0, 1], [3.0, 9.0, 0]]), 2, 16, 1)[0]
        assert level.classes[:, 5].tolist() == [1, 1]
        np.testing.assert_allclose(level.reach[:, 5], [1.5, 1.5])


def test_losses() -> None:
    reach = torch.tensor([[[2.0], [3.0]]])
    assert float(distance_loss(reach, reach)) == pytest.approx(0)
    # Segments -2..3 and -1..1: overlap 2, union 5; middles 0.5 and 0, together 5 long.
    assert float(distance_loss(reach, torch.tensor([[[1.0], [1.0]]]))) == pytest.approx(1 - 2 / 5 + (0.5 / 5) ** 2)
    sure, unsure = focal_loss(torch.tensor([5.0, 0.0]), torch.tensor([1.0, 1.0]))
    assert float(unsure) == pytest.approx(0.25 * 0.25 * np.log(2))
    assert sure < unsure / 1000


class TestPyramidModel:
    def test_padding_changes_nothing(self) -> None:
        network, rng = model(), torch.Generator().manual_seed(1)
        short, long = torch.randn(21, 12, generator=rng), torch.randn(64, 12, generator=rng)
        with torch.inference_mode():
            together, alone = network(*pad([short, long], 4)), network(*pad([short], 4))
        for ours, theirs in zip(together, alone, strict=True):
            count = theirs.valid.sum()
            torch.testing.assert_close(ours.logits[0, :, :count], theirs.logits[0, :, :count])
            torch.testing.assert_close(ours.reach[0, :, :count], theirs.reach[0, :, :count])
            assert ours.valid[0].sum() == count

    def test_segments_are_in_the_video_and_the_best_ones(self) -> None:
        features = torch.randn(37, 12)
        segments = segments_of(model(), features, 0.0, 10)
        assert segments.shape == (10, 4)
        assert ((segments[:, :2] >= 0) & (segments[:, :2] <= 37)).all()
        everything = segments_of(model(), features, 0.0, 10_000)
        assert everything[:, 3].max() == segments[0, 3]
        assert len(segments_of(model(), features, 1.0, 10)) == 0

    def test_a_long_video_is_scored_as_its_parts_are(self) -> None:
        """What lies far away changes nothing, so that no video is too long."""
        network, video = model(), torch.randn(64, 12)
        filler = torch.zeros(4096, 12)
        with torch.inference_mode():
            alone = network(*pad([torch.cat([filler[:512], video, filler[:512]])], 4))
            inside = network(*pad([torch.cat([filler, video, filler])], 4))
        for short, long in zip(alone, inside, strict=True):
            first, last = 512 // short.stride, 576 // short.stride
            shift = (4096 - 512) // short.stride
            torch.testing.assert_close(
                long.logits[:, :, first + shift : last + shift], short.logits[:, :, first:last], rtol=1e-4, atol=1e-5
            )


def test_passes_give_many_videos_more_steps_and_long_ones() -> None:
    def videos(count: int, length: int) -> TrainingSet:
        none = np.empty(0)
        video = TrainingVideo("v", np.empty((length, 4), np.float32), none, none.astype(int), none.astype(int))
        return TrainingSet((video,) * count, ("run",), video.clock, {"rgb": 4}, {}, {})

    settings = load_settings("general")
    many = -(-settings.snippet.passes * 10_000 // 16)
    assert with_duration(settings, videos(5, 100)).snippet.steps == settings.snippet.steps
    assert with_duration(settings, videos(10_000, 100)).snippet.steps == many
    long = with_duration(settings, videos(1_000, 1536 * 10))
    assert long.snippet.steps == many, "as many as for ten parts each"
    assert long.pyramid.steps == settings.pyramid.passes * 1_000 * 7 // 8
    published = load_settings("thumos14")
    assert with_duration(published, videos(1_000, 5120)) == published


# Stage 3 from however few points.
ANY = "pyramid.min_points=0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default preset on a few videos, and its data."""
    folder = made_set(tmp_path_factory.mktemp("pyramid"), num_train=6, num_test=2)
    few = ["snippet.steps=20", "snippet.learning_rate=1e-3", "pyramid.steps=40", "pyramid.evaluate_every=20", ANY]
    train_detector(folder / "features", folder / "points.csv", folder / "run", overrides=few, device="cpu")
    return folder


def test_the_default_preset_trains_stage_3(run: Path) -> None:
    trained = load_model(run / "run")
    assert trained.settings.preset == "general"
    assert trained.instance is None
    assert trained.pyramid is not None
    detections = Detector(trained, "cpu").detect(read_features(run / "features" / "v06.h5"))
    assert all(0 <= detection.score <= 1 for detection in detections)
    # The two actions of the video are its best detections of their classes.
    for annotated in read_annotations(run / "gt.json")["v06"].segments:
        best = next(detection for detection in detections if detection.label == annotated.label)
        overlap = min(best.end, annotated.end_seconds) - max(best.start, annotated.start_seconds)
        assert overlap > 0.5 * (annotated.end_seconds - annotated.start_seconds)


def test_few_points_are_for_stage_1_alone(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With half a dozen points, stage 3 is worse than stage 1 alone (docs/accuracy.md)."""
    few = ["snippet.steps=2", "snippet.attention_layers=0", "pyramid.steps=2", "answer.held_out=0"]
    with caplog.at_level(logging.INFO):
        trained = train_detector(run / "features", run / "points.csv", tmp_path / "run", overrides=few, device="cpu")
    assert trained.pyramid is None and load_model(tmp_path / "run").pyramid is None
    assert "stage 3 is left out: it needs 30 points (`pyramid.min_points`), not 12" in caplog.text
    enough = train_detector(
        *(run / "features", run / "points.csv", tmp_path / "enough"),
        overrides=[*few, "pyramid.min_points=12"],
        device="cpu",
    )
    assert enough.pyramid is not None


def test_a_stage_that_is_worse_on_held_out_points_is_left_out(run: Path, tmp_path: Path) -> None:
    """Stage 3 learns nothing with a learning rate of next to nothing."""
    few = ["snippet.steps=40", "snippet.learning_rate=1e-3", "pyramid.steps=2", "pyramid.learning_rate=1e-9", ANY]
    trained = train_detector(
        run / "features", run / "points.csv", tmp_path / "run", overrides=few, device="cpu", validate_on=0.3
    )
    assert trained.pyramid is None
    assert trained.notes.evaluation["stage"] == "snippet"
    assert load_model(tmp_path / "run").pyramid is None
