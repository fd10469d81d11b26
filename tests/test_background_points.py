"""Moments that people marked as without an action: read, trained on, and no class anywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_features import CLASSES, PUBLISHED, made_set, packing

from hrpro_pipeline.commands.convert import convert_labels
from hrpro_pipeline.commands.summary import summarize_labels
from hrpro_pipeline.commands.train import train_detector
from hrpro_pipeline.data.dataset import load_training_set
from hrpro_pipeline.data.points import BACKGROUND, action_points, read_points
from hrpro_pipeline.errors import ProblemsError
from hrpro_pipeline.models.pseudo_segments import pseudo_segments
from hrpro_pipeline.train.pseudo_labels import pseudo_labels
from hrpro_pipeline.train.snippet_stage import pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A made set in whose first video two moments are background, and whose last video has such a moment alone."""
    folder = made_set(tmp_path, num_train=4, num_test=1)
    with (folder / "points.csv").open("a") as file:
        file.write(f"\nv00,{BACKGROUND},9\nv00,{BACKGROUND},1\nv04,{BACKGROUND},2\n")
    return folder


def test_background_is_no_class(folder: Path) -> None:
    points = read_points(folder / "points.csv")
    assert [point.label for point in points].count(BACKGROUND) == 3
    assert len(action_points(points)) == len(points) - 3
    data = load_training_set(folder / "features", points, {})
    assert data.classes == CLASSES
    assert [video.video_id for video in data.videos] == ["v00", "v01", "v02", "v03"]
    first, second = data.videos[:2]
    np.testing.assert_allclose(data.clock.to_seconds(first.background), [1, 9])
    assert len(first.labels) == 2
    assert len(second.background) == 0


def test_background_past_the_end_and_a_video_of_background_alone(folder: Path) -> None:
    with (folder / "points.csv").open("a") as file:
        file.write(f"v01,{BACKGROUND},900\n")
    with pytest.raises(ProblemsError, match=r"900.00 s is past the end of v01") as caught:
        load_training_set(folder / "features", read_points(folder / "points.csv"), {}, ["v01", "v04"])
    assert "v04: no points; a training video needs at least one" in str(caught.value)


def test_stage_1_takes_marked_snippets_for_background(folder: Path) -> None:
    data = load_training_set(folder / "features", read_points(folder / "points.csv"), {})
    videos = data.videos[:2]
    features = torch.from_numpy(np.concatenate([video.features for video in videos]))
    batch = pack(videos, features, len(CLASSES))
    assert batch.background is not None
    assert torch.nonzero(batch.background).flatten().tolist() == [1, 14]
    assert pack(videos[1:], features[30:], len(CLASSES)).background is None

    # All snippets look like actions: seeds grow from the points, but not over what is marked.
    points = torch.zeros(10, 1)
    points[[2, 8]] = 1
    marked = torch.zeros(10, dtype=torch.bool)
    marked[[2, 4]] = True
    score = torch.full((10,), 0.01)
    score[7] = 0.02  # what the gap between the points takes for background
    action, background = pseudo_labels(score, points, packing([10]), marked=marked)
    assert torch.nonzero(action[:, 0]).flatten().tolist() == [1, 2, 3, 8]
    assert torch.nonzero(background).flatten().tolist() == [0, 4, 7, 9], "a point stays an action"


def test_no_pseudo_segment_reaches_over_background() -> None:
    fused = np.full((20, 1), 0.9, np.float32)
    points, labels = np.array([4.5, 15.5]), np.array([0, 0])
    assert pseudo_segments(fused, points, labels, 0.4).tolist() == [[0, 15], [5, 20]]
    assert pseudo_segments(fused, points, labels, 0.4, np.array([2.5, 9.5])).tolist() == [[3, 9], [10, 20]]
    assert pseudo_segments(fused, points, labels, 0.4, np.array([4.5])).tolist()[0] == [0, 5], "a point stays"


def test_training_with_background_is_another_one(folder: Path, tmp_path: Path) -> None:
    few = [*PUBLISHED, "snippet.steps=3", "snippet.attention_layers=0", "instance.epochs=0"]
    few[few.index("pyramid.steps=0")] = "pyramid.steps=2"
    few.append("pyramid.min_points=0")
    model = train_detector(folder / "features", folder / "points.csv", tmp_path / "with", overrides=few, device="cpu")
    assert model.classes == CLASSES
    kept = [line for line in (folder / "points.csv").read_text().splitlines() if BACKGROUND not in line]
    (folder / "without.csv").write_text("\n".join(kept))
    other = train_detector(
        folder / "features", folder / "without.csv", tmp_path / "without", overrides=few, device="cpu"
    )
    assert not torch.equal(model.snippet.classify.weight, other.snippet.classify.weight)


def test_summaries_leave_background_out_and_converted_points_keep_it(folder: Path) -> None:
    assert {row.label for row in summarize_labels([folder / "points.csv"]).classes} == set(CLASSES)
    convert_labels(folder / "points.csv", folder / "labels.boris")
    labels = {point.label for point in read_points(folder / "labels.boris")}
    assert labels == {*CLASSES, BACKGROUND}
    convert_labels(folder / "labels.boris", folder / "back.csv")
    assert [p.label for p in read_points(folder / "back.csv")].count(BACKGROUND) == 3
