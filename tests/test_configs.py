"""Settings: presets load, overrides are checked, wrong keys name the nearest right one."""

import csv
from pathlib import Path

import pytest
from pydantic import BaseModel

from hrpro_pipeline.configs.load import check_settings, dump_settings, load_settings
from hrpro_pipeline.configs.presets import preset_names
from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.data.annotations import class_names, in_subset, read_annotations, read_ids
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.errors import HrproError, UsageError

# preset, folder of annotations, classes, training videos, test videos, points
DATASETS = [
    ("thumos14", "THUMOS14", 20, 200, 210, 3003),
    ("gtea", "GTEA", 7, 21, 7, 367),
    ("beoid", "BEOID", 34, 46, 12, 594),
]


@pytest.mark.parametrize("name", preset_names())
def test_preset_survives_a_round_trip(name: str) -> None:
    import yaml

    settings = load_settings(name)
    assert settings.preset == name
    assert check_settings(yaml.safe_load(dump_settings(settings)), "round trip") == settings


def test_presets_of_the_contract_are_there() -> None:
    assert {"thumos14", "gtea", "beoid", "activitynet13", "demo"} <= set(preset_names())


@pytest.mark.parametrize(("preset", "folder", "classes", "train", "test", "points"), DATASETS)
def test_preset_fits_the_real_annotations(
    annotations: Path, preset: str, folder: str, classes: int, train: int, test: int, points: int
) -> None:
    source = annotations / folder
    settings = load_settings(preset)
    truth = read_annotations(source / "gt_full.json")
    assert len(class_names(truth.values())) == classes
    train_ids, test_ids = read_ids(source / "split_train.txt"), read_ids(source / "split_test.txt")
    assert (len(train_ids), len(test_ids)) == (train, test)
    assert set(train_ids) | set(test_ids) <= truth.keys()
    rows = read_points(source / "point_labels" / "point_gaussian.csv")
    assert len(rows) == points
    assert {row.video_id for row in rows} <= set(train_ids)
    assert {row.label for row in rows} <= set(class_names(truth.values()))
    if preset != "thumos14":  # its features are made at 25 fps whatever the videos have
        assert {video.fps for video in truth.values()} == {settings.extract.fps}
    assert len(truth.keys() - set(settings.evaluate.exclude)) >= len(test_ids)
    assert in_subset(truth, truth[test_ids[0]].subset).keys() >= set(test_ids)


def test_activitynet_points_and_splits(annotations: Path) -> None:
    source = annotations / "ActivityNet1.3"
    rows = read_points(source / "point_labels" / "point_gaussian.csv")
    assert len(rows) == 13904
    assert len({row.label for row in rows}) == 200
    assert {row.video_id for row in rows} <= set(read_ids(source / "split_train.txt"))
    with (source / "point_labels" / "point_gaussian.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (rows[0].label, rows[0].frame) == (first["class"], float(first["point"]))


def test_override() -> None:
    settings = load_settings("thumos14", ["snippet.steps=7", "snippet.learning_rate=1e-3", "extract.resize=[340, 256]"])
    assert (settings.snippet.steps, settings.snippet.learning_rate) == (7, 1e-3)
    assert settings.extract.resize == (340, 256)
    assert settings.instance == load_settings("thumos14").instance


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("snippet.stepz=7", "snippet.stepz: no such setting; did you mean snippet.steps?"),
        ("snipet.steps=7", "snipet: no such setting; did you mean snippet?"),
        ("snippet.steps=-1", "snippet.steps"),
        ("snippet.steps=many", "got 'many'"),
        ("snippet.learning_rate=.nan", "snippet.learning_rate"),
        ("extract.crop=300", "crop 300 is larger than the resized short side 256"),
        ("extract.streams=[rgb, rgb]", "same stream twice"),
        ("extract.streams=[../x]", "extract.streams"),
        ("snippet.steps", "expected section.key=value"),
        ("steps=3", "expected section.key=value"),
        ("snippet.steps=[1", "not a number, word or [list]"),
        ("snippet.steps=2024-13-45", "not a number, word or [list]"),
        ("preset.x=1", "expected section.key=value"),
        ("detect.class_grid=[0, 1, 0]", "positive step"),
        ("evaluate.tiou=[5]", "evaluate.tiou"),
    ],
)
def test_wrong_override_names_key_and_remedy(override: str, expected: str) -> None:
    with pytest.raises(HrproError) as caught:
        load_settings("thumos14", [override])
    assert expected in str(caught.value)


def test_all_wrong_settings_are_reported_at_once() -> None:
    with pytest.raises(UsageError, match="2 problems") as caught:
        load_settings("thumos14", ["snippet.stepz=7", "instance.epochs=-1"])
    assert "did you mean snippet.steps?" in str(caught.value)
    assert "instance.epochs" in str(caught.value)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(HrproError, match="did you mean thumos14"):
        load_settings("thumos")


def test_every_setting_is_described() -> None:
    for section, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for name, setting in field.annotation.model_fields.items():
                assert setting.description, f"{section}.{name} has no description"
