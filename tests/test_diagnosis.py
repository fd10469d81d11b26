"""Errors by kind, on cases worked out by hand: bounds are whole seconds, so that each tIoU is a small fraction."""

import numpy as np
import pytest

from hrpro_pipeline.data.annotations import Segment, VideoAnnotation
from hrpro_pipeline.data.detections import Detection
from hrpro_pipeline.infer.diagnosis import (
    BACKGROUND,
    CONFUSION,
    DOUBLE,
    KINDS,
    LEFT_OUT,
    LOCALIZATION,
    MULTIPLES,
    TRUE_POSITIVE,
    WRONG_LABEL,
    diagnose,
    overlaps,
)
from hrpro_pipeline.infer.evaluation import evaluate


def annotated(video_id: str, *segments: Segment) -> dict[str, VideoAnnotation]:
    return {video_id: VideoAnnotation(video_id, "Test", 100.0, 25.0, segments)}


RUN, JUMP = Segment("run", 0, 10), Segment("jump", 20, 30)


def kinds(*found: Detection, truth: tuple[Segment, ...] = (RUN, JUMP)) -> list[int]:
    return diagnose({"v": found}, annotated("v", *truth)).kinds["v"]


def test_overlaps() -> None:
    found = overlaps(np.array([[0, 10], [5, 15], [40, 40]]), np.array([[0, 10], [10, 20], [40, 40]]))
    assert found.tolist() == [[1, 0, 0], [1 / 3, 1 / 3, 0], [0, 0, 0]]
    assert overlaps(np.empty((0, 2)), np.empty((3, 2))).shape == (0, 3)


def test_kinds() -> None:
    found = {
        Detection("run", 0.9, 0, 10): TRUE_POSITIVE,
        Detection("run", 0.8, 0, 5): DOUBLE,  # tIoU 5/10, but the segment is taken
        Detection("jump", 0.7, 0, 9): WRONG_LABEL,  # 9/10 with run
        Detection("jump", 0.6, 26, 36): LOCALIZATION,  # 4/16 with jump
        Detection("run", 0.5, 26, 36): CONFUSION,  # the same with the wrong label
        Detection("run", 0.4, 10, 20): BACKGROUND,  # touches both
        Detection("jump", 0.3, 29, 40): BACKGROUND,  # 1/20 is below 0.1
        Detection("sing", 0.2, 0, 10): LEFT_OUT,  # a class without segments
    }
    assert kinds(*found) == list(found.values())


def test_bounds_of_kinds_are_inclusive() -> None:
    assert kinds(Detection("run", 1, 0, 5)) == [TRUE_POSITIVE]  # 5/10
    assert kinds(Detection("run", 1, 0, 1)) == [LOCALIZATION]  # 1/10
    assert kinds(Detection("run", 1, 9, 19)) == [BACKGROUND]  # 1/19


def test_order_of_the_list_does_not_matter() -> None:
    weak, strong = Detection("run", 0.2, 0, 10), Detection("run", 0.9, 0, 6)
    assert kinds(weak, strong) == [DOUBLE, TRUE_POSITIVE] == kinds(strong, weak)[::-1]


def test_second_segment_is_taken_when_the_best_is() -> None:
    truth = (Segment("run", 0, 10), Segment("run", 2, 12))
    found = (Detection("run", 0.9, 0, 10), Detection("run", 0.8, 1, 10))  # 9/10 and 8/11
    assert kinds(*found, truth=truth) == [TRUE_POSITIVE, TRUE_POSITIVE]


def test_segments_of_two_classes_at_one_place() -> None:
    truth = (Segment("jump", 0, 10), Segment("run", 0, 10))
    assert kinds(Detection("run", 0.9, 0, 10), Detection("run", 0.8, 0, 9), truth=truth) == [TRUE_POSITIVE, DOUBLE]
    assert kinds(Detection("run", 0.9, 0, 4), truth=truth) == [LOCALIZATION]


def test_profile_takes_multiples_of_g_in_each_class() -> None:
    best, background = Detection("run", 1.0, 0, 10), [Detection("run", 0.5 / n, 50, 60) for n in range(1, 20)]
    found = diagnose({"v": [*background, best, Detection("jump", 0.01, 20, 30)]}, annotated("v", RUN, JUMP))
    assert len(found.profile) == MULTIPLES and all(len(row) == len(KINDS) for row in found.profile)
    # The first G: the best of each class. Then one of run at a time, as jump has no more.
    assert found.profile[0] == [2, 0, 0, 0, 0, 0]
    assert found.profile[1:] == [[0, 0, 0, 0, 0, 1]] * 9
    assert {label: (item.num_segments, item.num_missed) for label, item in found.classes.items()} == {
        "jump": (1, 0),
        "run": (1, 0),
    }


def test_missed_is_what_the_best_of_a_class_do_not_find() -> None:
    late = [Detection("run", 1 - n / 100, 50, 60) for n in range(MULTIPLES)] + [Detection("run", 0.1, 0, 10)]
    found = diagnose({"v": late}, annotated("v", RUN, JUMP))
    assert found.kinds["v"][-1] == TRUE_POSITIVE
    assert [item.num_missed for item in found.classes.values()] == [1, 1]  # one rank too late; none at all


def test_curves_are_those_of_average_precision() -> None:
    truth = {**annotated("a", RUN, JUMP, Segment("run", 40, 50)), **annotated("b", Segment("run", 0, 10))}
    found = {
        "a": [Detection("run", 0.9, 0, 10), Detection("run", 0.5, 40, 50), Detection("jump", 0.3, 0, 5)],
        "b": [Detection("run", 0.7, 50, 60), Detection("run", 0.2, 20, 30)],
        "unknown": [Detection("run", 1.0, 0, 10)],
    }
    result = diagnose(found, truth)
    run = result.classes["run"]
    assert run.recall == (1 / 3, 2 / 3) and run.precision == (1, 2 / 3)
    at_half = evaluate(found, truth, (0.5,)).classes
    for label, item in result.classes.items():
        area = sum(np.diff(item.recall, prepend=0) * item.precision)
        assert area == pytest.approx(at_half[label][0])
    assert result.kinds["unknown"] == [LEFT_OUT]


def test_confusion() -> None:
    truth = annotated("v", RUN, JUMP, Segment("run", 40, 50), Segment("jump", 60, 70))
    found = [
        Detection("run", 0.9, 0, 10),
        Detection("run", 0.8, 20, 30),  # jump taken for run
        Detection("jump", 0.7, 80, 90),  # background taken for jump
        Detection("run", 0.6, 0, 9),  # the segment is taken: background as well
        Detection("jump", 0.5, 60, 70),  # right, but there are 4 segments and this is the fifth
    ]
    # Rows and columns: jump, run, background.
    assert diagnose({"v": found}, truth).confusion == [[0, 1, 1], [0, 1, 1], [1, 1, 0]]


def test_confusion_prefers_the_own_class() -> None:
    truth = annotated("v", Segment("jump", 0, 10), Segment("run", 0, 8))
    assert diagnose({"v": [Detection("run", 0.9, 0, 10)]}, truth).confusion == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_excluded_videos_and_videos_without_detections() -> None:
    truth = {**annotated("a", RUN), **annotated("b", RUN), **annotated("c", JUMP)}
    found = diagnose({"a": [Detection("run", 0.9, 0, 10)], "c": [Detection("jump", 0.9, 20, 30)]}, truth, exclude=["c"])
    assert found.kinds == {"a": [TRUE_POSITIVE], "c": [LEFT_OUT]}
    assert list(found.classes) == ["run"] and found.classes["run"].num_missed == 1
    assert found.confusion == [[1, 1], [0, 0]]


def test_nothing_found_and_nothing_to_find() -> None:
    found = diagnose({}, annotated("v", RUN))
    assert found.profile == [[0] * len(KINDS)] * MULTIPLES
    assert found.classes["run"].recall == () and found.confusion == [[0, 1], [0, 0]]
    with pytest.raises(ValueError, match="no segments"):
        diagnose({"v": [Detection("run", 1, 0, 1)]}, annotated("v"))
