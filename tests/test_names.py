"""Names of classes and videos: what people cannot see makes no difference, in any file."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import problems_of
from made_features import store_random

from hrpro_pipeline import evaluate_detections, import_features
from hrpro_pipeline.data.annotations import class_names, read_ambiguous, read_annotations, read_ids
from hrpro_pipeline.data.dataset import load_training_set
from hrpro_pipeline.data.detections import read_detections
from hrpro_pipeline.data.features import list_features, read_header
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError

SPELLINGS = {
    "pour": [
        "pour ",
        " pour",
        "\u00a0pour\u3000",
        "\ufeffpour",
        "po\u00adur",
        "pour\u200b",
        "po\u200dur",
        "pour\u2060",
    ],
    "pour water": ["pour  water", "pour\u00a0water", "pour\twater", "pour \u200bwater"],
    "Café": [unicodedata.normalize("NFD", "Café"), "Cafe\u200b\u0301"],
    "❤": ["❤\ufe0f"],
    "한국": [unicodedata.normalize("NFD", "한국")],
}


def test_spellings_of_one_class() -> None:
    for name, spellings in SPELLINGS.items():
        assert {class_name(text) for text in [name, *spellings]} == {name}


@pytest.mark.parametrize(
    "name", ["नमस्ते", "क्\u200dष", "می\u200cخواهم", "👩\u200d🍳", "打球（一）", "John's clip #1", "a_b-c"]
)
def test_what_is_seen_stays(name: str) -> None:
    assert class_name(name) == name


def test_what_looks_different_is_different() -> None:
    names = [
        "नमस्ते",
        "नमसते",
        "🏴\U000e0067\U000e0062\U000e0065\U000e007f",
        "🏴\U000e0067\U000e0062\U000e0073\U000e007f",
        "Pour",
        "pour",
    ]
    assert len(set(map(class_name, names))) == len(names)


@pytest.mark.parametrize("name", list(SPELLINGS))
def test_one_class_in_every_file(tmp_path: Path, name: str) -> None:
    spellings = [text for text in SPELLINGS[name] if "\t" not in text]
    items = [{"label": label, "segment": [number, number + 0.5]} for number, label in enumerate([name, *spellings])]
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"a": {"annotations": items}}}), encoding="utf-8")
    scored = [item | {"label": name, "score": 1 - item["segment"][0] / 10} for item in reversed(items)]
    scored[0]["label"] = spellings[-1]
    (tmp_path / "found.json").write_text(json.dumps({"results": {"a": scored}}), encoding="utf-8")
    lines = "".join(f"a,{label},{number}\n" for number, label in enumerate(spellings))
    (tmp_path / "points.csv").write_text(f"video_id,class,time\n{lines}", encoding="utf-8")

    assert class_names(read_annotations(tmp_path / "gt.json").values()) == [name]
    assert {point.label for point in read_points(tmp_path / "points.csv")} == {name}
    assert {item.label for item in read_detections(tmp_path / "found.json")["a"].detections} == {name}
    assert evaluate_detections(tmp_path / "found.json", tmp_path / "gt.json", tiou=[0.5]).average == 1


@pytest.mark.parametrize(
    ("file", "others"),
    [
        ("Cafe\u0301.mp4", ["Caf\u00e9", "Cafe\u0301", "Caf\u00e9.mp4"]),
        ("नमस्ते.mkv", ["नमस्ते", "नमस्ते.mkv"]),
        ("John's clip.mp4", ["John's clip", "John's clip.mp4", " John's clip", "John_s clip"]),
        ("clip #1.mov", ["clip #1", "clip #1.MOV"]),
    ],
)
def test_a_video_is_one_in_every_file(tmp_path: Path, file: str, others: list[str]) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / file).touch()
    (video_id,) = find_videos([tmp_path / "videos"]).by_id
    store_random(tmp_path / "features", video_id)
    for written in others:
        item = {"label": "run", "segment": [0, 1]}
        (tmp_path / "gt.json").write_text(json.dumps({"database": {written: {"annotations": [item]}}}))
        (tmp_path / "found.json").write_text(json.dumps({"results": {written: [item | {"score": 1}]}}))
        (tmp_path / "points.csv").write_text(f"video_id,class,time\n{written},run,1\n", encoding="utf-8")
        (tmp_path / "ids.txt").write_text(written, encoding="utf-8")
        (tmp_path / "ambiguous.txt").write_text(f"{written} 1 2\n", encoding="utf-8")
        truth = read_annotations(tmp_path / "gt.json")
        points = read_points(tmp_path / "points.csv")
        assert [*truth, *read_detections(tmp_path / "found.json"), *read_ids(tmp_path / "ids.txt")] == [video_id] * 3
        assert list(read_ambiguous(tmp_path / "ambiguous.txt")) == [video_id]
        assert load_training_set(tmp_path / "features", points, truth).videos[0].video_id == video_id


def test_two_entries_of_one_video(tmp_path: Path) -> None:
    database = {name: {"annotations": []} for name in ("clip #1", "clip &1", "Cafe\u0301", "Caf\u00e9", "b")}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    problems = problems_of(read_annotations, tmp_path / "gt.json")
    assert len(problems) == 2
    assert "'clip &1' and 'clip #1' are both video 'clip _1'" in problems[0]


def test_features_of_one_video_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store_random(tmp_path, "a.mp4")
    assert list_features(tmp_path) == {"a": tmp_path / "a.mp4.h5"}
    store_random(tmp_path, "a")
    assert list_features(tmp_path) == {"a": tmp_path / "a.h5"}
    assert "a.mp4.h5: left out, a.h5 has the features of a" in caplog.text


def test_ids_of_an_archive_are_those_of_videos(tmp_path: Path) -> None:
    """A file is matched with its video by the id that the video would have."""
    folder = tmp_path / "archive" / "features" / "train"
    folder.mkdir(parents=True)
    for name in ("John's clip", "Cafe\u0301"):
        np.save(folder / f"{name}.npy", np.ones((4, 8), np.float32))
    truth = {"Caf\u00e9": {"duration": 2.5, "annotations": []}}
    (tmp_path / "archive" / "gt_full.json").write_text(json.dumps({"database": truth}), encoding="utf-8")
    ids = import_features(tmp_path / "archive", tmp_path / "out")
    assert sorted(ids) == ["Caf\u00e9", "John_s clip"]
    assert read_header(tmp_path / "out" / "Caf\u00e9.h5").duration_seconds == 2.5
    np.save(folder / "John&s clip.npy", np.ones((4, 8), np.float32))
    with pytest.raises(HrproError, match="John_s clip"):
        import_features(tmp_path / "archive", tmp_path / "again")
