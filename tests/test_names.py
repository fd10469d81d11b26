"""Names of classes: what people cannot see makes no difference, in any file."""

import json
import unicodedata
from pathlib import Path

import pytest

from hrpro_pipeline import evaluate_detections
from hrpro_pipeline.data.annotations import class_names, read_annotations
from hrpro_pipeline.data.detections import read_detections
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.points import read_points

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
