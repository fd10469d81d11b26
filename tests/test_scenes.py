"""The made videos: what is drawn, what is written, and that both are repeatable."""

import csv
import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest

from hrpro_pipeline.commands.scenes import (
    _PAINT,
    CLASSES,
    DISTRACTORS,
    Action,
    Distractor,
    Scene,
    make_scene,
    render,
    write_demo,
    write_video,
)

REST_SECONDS = 0.48


def one_action(label: str) -> Scene:
    """A short scene of one action that begins at 1 s and ends at 2 s."""
    scene = make_scene("one", np.random.default_rng(0), [])
    action = Action(label, 1.0, 2.0, enters_seconds=0.2, leaves_seconds=2.8, rest=(0.5, 0.7), tempo=1.0)
    return dataclasses.replace(scene, size=64, duration_seconds=3.0, actions=(action,), distractors=())


def luma(frame: np.ndarray) -> np.ndarray:
    return frame.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def motion(frames: list[np.ndarray]) -> list[float]:
    """Mean absolute change of brightness from each frame to the next."""
    return [float(np.abs(luma(b) - luma(a)).mean()) for a, b in zip(frames, frames[1:], strict=False)]


def read_frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_look_or_a_motion_alone_leaves_two_classes() -> None:
    looks, motions = zip(*(label.split() for label in CLASSES), strict=True)
    assert len(set(CLASSES)) == len(CLASSES) == 6
    assert all(looks.count(look) == 2 for look in looks)
    assert all(motions.count(name) == 2 for name in motions)


@pytest.mark.parametrize("part", [0, 1])
def test_gray_frames_do_not_tell_the_colors(part: int) -> None:
    lumas = [luma(np.array(paint[part])) for paint in _PAINT.values()]
    assert max(lumas) - min(lumas) < 3


def test_scenes_are_ordered_and_pauses_part_the_actions() -> None:
    rng = np.random.default_rng(7)
    for number in range(20):
        scene = make_scene(f"v{number}", rng)
        assert 2 <= len(scene.actions) <= 3
        spans = [(action.enters_seconds, action.leaves_seconds) for action in scene.actions]
        spans += [(item.start_seconds, item.end_seconds) for item in scene.distractors]
        spans.sort()
        assert all(a < b for a, b in spans)
        assert all(first[1] <= second[0] for first, second in zip(spans, spans[1:], strict=False))
        assert spans[-1][1] <= scene.duration_seconds
        assert scene.duration_seconds * scene.fps == pytest.approx(scene.num_frames)
        for action in scene.actions:
            assert action.label in CLASSES
            assert action.start_seconds - action.enters_seconds >= REST_SECONDS
            assert action.leaves_seconds - action.end_seconds >= REST_SECONDS
            assert 2.0 <= action.end_seconds - action.start_seconds <= 4.5


def test_the_same_seed_draws_the_same_frames_and_another_does_not() -> None:
    first, again = (make_scene("v", np.random.default_rng(1), ["red spin"]) for _ in range(2))
    other = make_scene("v", np.random.default_rng(2), ["red spin"])
    assert first == again
    for a, b in zip(render(first), render(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.wall != other.wall


@pytest.mark.parametrize("label", CLASSES)
def test_the_wheel_moves_in_its_action_and_rests_around_it(label: str) -> None:
    frames = list(render(one_action(label)))
    assert len(frames) == 75
    assert frames[0].shape == (64, 64, 3)
    assert frames[0].dtype == np.uint8
    changes = motion(frames)
    # 0.6..1 s and 2.04..2.4 s: at rest. 1.04..1.8 s: in motion.
    assert max(changes[15:24]) == 0
    assert max(changes[51:60]) == 0
    assert min(max(changes[k : k + 3]) for k in range(26, 43)) > 1
    # Present at rest: the room without and with the wheel.
    assert np.abs(luma(frames[18]) - luma(frames[0])).max() > 30


def test_each_motion_moves_its_own_way() -> None:
    paths = {}
    for label in CLASSES:
        scene = one_action(label)
        frames = list(render(scene))
        room = frames[0].astype(int)
        centers = []
        for frame in frames[25:45]:
            # Colorful pixels are the wheel; the shadow changes brightness alone.
            colorful = np.abs((frame - room) - (frame - room).mean(axis=2, keepdims=True)).sum(axis=2) > 60
            y, x = np.nonzero(colorful)
            centers.append((x.mean(), y.mean()))
        paths[label] = np.ptp(np.array(centers), axis=0)
    for label, (wide, high) in paths.items():
        match label.split()[1]:
            case "spin":
                assert max(wide, high) < 2, label
            case "slide":
                assert wide > 15, label
                assert high < 2, label
            case "bounce":
                assert high > 9, label
                assert wide < 2, label


@pytest.mark.parametrize("kind", DISTRACTORS)
def test_distractors_change_the_picture_and_pass(kind: str) -> None:
    scene = dataclasses.replace(
        one_action(CLASSES[0]), actions=(), distractors=(Distractor(kind, 0.4, 1.6),), duration_seconds=2.0
    )
    frames = list(render(scene))
    assert max(np.abs(luma(frame) - luma(frames[0])).max() for frame in frames[10:40]) > 15
    np.testing.assert_array_equal(frames[0], frames[-1])


def test_without_actions_and_distractors_the_room_is_still() -> None:
    scene = dataclasses.replace(one_action(CLASSES[0]), actions=(), duration_seconds=0.4)
    assert max(motion(list(render(scene)))) == 0


@pytest.mark.parametrize("has_h264", [True, False])
def test_written_videos_hold_the_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_h264: bool) -> None:
    if not has_h264:
        monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    frames = list(render(one_action("blue slide")))
    path = tmp_path / "made" / "v.mp4"
    write_video(path, frames, 25.0)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 25
        assert stream.codec_context.name == ("h264" if has_h264 else "mpeg4")
    decoded = read_frames(path)
    assert len(decoded) == len(frames)
    assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(decoded, frames, strict=True)]) < 4
    assert [item.name for item in path.parent.iterdir()] == ["v.mp4"]


def test_a_failed_video_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("drawing failed")

    with pytest.raises(RuntimeError, match="drawing failed"):
        write_video(tmp_path / "v.mp4", broken(), 25.0)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_demonstration_has_videos_segments_and_a_point_in_each_training_action(tmp_path: Path) -> None:
    write_demo(tmp_path, num_train=3, num_test=1, seed=0)
    database = json.loads((tmp_path / "annotations.json").read_text())["database"]
    assert sorted(database) == ["test_01", "train_01", "train_02", "train_03"]
    assert sorted(path.stem for path in (tmp_path / "videos").iterdir()) == sorted(database)
    for name, entry in database.items():
        assert entry["subset"] == name.split("_")[0]
        assert len(read_frames(tmp_path / "videos" / f"{name}.mp4")) == round(entry["duration"] * entry["fps"])

    with (tmp_path / "points.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["video_id", "class", "time"]
    expected = [
        (name, item) for name, entry in database.items() if entry["subset"] == "train" for item in entry["annotations"]
    ]
    assert [(row["video_id"], row["class"]) for row in rows] == [(name, item["label"]) for name, item in expected]
    for row, (_, item) in zip(rows, expected, strict=True):
        start, end = item["segment"]
        assert start < float(row["time"]) < end


def test_the_same_scene_gives_the_same_file(tmp_path: Path) -> None:
    frames = list(render(make_scene("test_02", np.random.default_rng(0))))
    written = set()
    for number in range(8):
        path = tmp_path / f"{number}.mp4"
        write_video(path, frames, 25.0)
        written.add(path.read_bytes())
    assert len(written) == 1


def test_training_actions_are_spread_over_all_classes(tmp_path: Path) -> None:
    write_demo(tmp_path, num_train=5, num_test=0, seed=3)
    rows = (tmp_path / "points.csv").read_text().splitlines()[1:]
    counts = [sum(f",{label}," in row for row in rows) for label in CLASSES]
    assert sum(counts) == len(rows) == 12
    assert counts == [2] * 6
