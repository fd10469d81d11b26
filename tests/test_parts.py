"""Long training videos in parts."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_features import PUBLISHED, made_set

from hrpro_pipeline.commands.train import train_detector
from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.configs.presets import preset_names
from hrpro_pipeline.data.dataset import load_training_set
from hrpro_pipeline.data.features import list_features, write_features
from hrpro_pipeline.data.parts import cuts, in_parts
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.data.snippets import SnippetClock

CLOCK = SnippetClock()


@given(st.integers(1, 400), st.integers(2, 90), st.lists(st.floats(0, 1), max_size=12))
def test_cuts(num_snippets: int, longest: int, shares: list[float]) -> None:
    positions = np.sort(np.array(shares) * num_snippets)
    bounds = np.array(cuts(num_snippets, positions, longest))
    lengths = np.diff(bounds)
    assert (bounds[0], bounds[-1]) == (0, num_snippets)
    assert lengths.max() <= longest
    assert len(lengths) == 1 or lengths.min() >= longest // 2


def test_no_cut_is_near_a_point_that_need_not_be() -> None:
    positions = np.arange(5.0, 1000, 10)
    for cut in cuts(1000, positions, 100)[1:-1]:
        assert np.abs(positions - cut).min() == 5


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recording: the videos of a made set one after the other, and 300 snippets of nothing."""
    folder = tmp_path_factory.mktemp("recording")
    made = made_set(folder / "made", num_train=9, num_test=0)
    stored = list_features(made / "features")
    data = load_training_set(made / "features", read_points(made / "points.csv"), {})
    rows, lines, start = [], ["video_id,class,time"], 0
    for video in data.videos:
        seconds = CLOCK.to_seconds(video.positions + start)
        lines += [f"day,{data.classes[label]},{at:.4f}" for at, label in zip(seconds, video.labels, strict=True)]
        rows.append(np.asarray(video.features))
        start += len(video.features)
    assert len(stored) == 9
    rows.append(0.3 * np.random.default_rng(1).random((300, rows[0].shape[1]), np.float32))
    features = np.concatenate(rows)
    (folder / "points.csv").write_text("\n".join(lines))
    half = features.shape[1] // 2
    write_features(
        folder / "features" / "day.h5",
        {"rgb": features[:, :half], "flow": features[:, half:]},
        clock=CLOCK,
        video_id="day",
        duration_seconds=len(features) * CLOCK.seconds_per_snippet,
        num_frames=len(features) * CLOCK.stride,
    )
    return folder


@pytest.mark.parametrize("on_disk", [False, True])
def test_parts_are_the_video(recording: Path, on_disk: bool) -> None:
    data = load_training_set(recording / "features", read_points(recording / "points.csv"), {}, on_disk=on_disk)
    whole = data.videos[0]
    parts = in_parts(data, 64).videos
    np.testing.assert_array_equal(np.concatenate([np.asarray(part.features) for part in parts]), whole.features)
    starts = np.cumsum([0, *(len(part.features) for part in parts[:-1])])
    found = [(start + at, label) for start, part in zip(starts, parts, strict=True)
             for at, label in zip(part.positions, part.labels, strict=True)]  # fmt: skip
    np.testing.assert_allclose(found, np.column_stack([whole.positions, whole.labels]))
    for part in parts:
        assert len(part.features) <= 64 and (part.snippets == np.floor(part.positions)).all()
        if not len(part.positions):
            assert len(part.background) == len(part.features), "nothing but background"
    assert not len(parts[-1].positions)
    assert in_parts(data, 0) is data and in_parts(data, len(whole.features)) is data


def test_the_default_preset_cuts_and_the_published_ones_do_not() -> None:
    assert load_settings("general").snippet.window == 1536
    assert all(load_settings(name).snippet.window == 0 for name in preset_names() if name != "general")


def test_one_recording_trains_and_learns_an_answer(
    recording: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No video can be held out, so parts of the only one are."""
    few = ["snippet.steps=30", "snippet.learning_rate=1e-3", "snippet.window=64"]
    few += ["pyramid.steps=4", "pyramid.min_points=0", "pyramid.window=32"]
    with caplog.at_level(logging.INFO):
        model = train_detector(
            recording / "features", recording / "points.csv", tmp_path / "run", overrides=few, device="cpu"
        )
    assert "parts of videos, to learn what the answer is" in caplog.text
    assert model.calibration is not None
    assert model.notes.videos == 1
    assert (tmp_path / "run" / "doubts.csv").is_file()


def test_stage_2_trains_on_parts(recording: Path, tmp_path: Path) -> None:
    few = [*PUBLISHED, "snippet.steps=2", "snippet.window=64", "snippet.batch_size=2", "instance.epochs=1"]
    model = train_detector(
        recording / "features", recording / "points.csv", tmp_path / "run", overrides=few, device="cpu"
    )
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert model.instance is not None and '"instance"' in lines
