"""Feature files as other programs leave them, and what our import makes of them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline import import_features
from hrpro_pipeline.data.features import VideoFeatures, list_features, read_features

LENGTHS = {"a": 20, "b": 31, "c": 25}
RATES = {"a": 25.0, "b": 29.97, "c": 30.0}
CLOCK: Mapping[str, Any] = {"fps": 25.0, "stride": 16}


def rows(video_id: str, width: int = 1024, kind: int = 0) -> np.ndarray:
    return np.random.default_rng([ord(video_id[-1]), kind]).random((LENGTHS[video_id[-1]], width), np.float32)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def annotations(folder: Path, stride: int = 16) -> Path:
    """Durations and rates as of features with a row every `stride` frames."""
    path = folder / "annotations.json"
    videos = {
        name: {"duration": length * stride / RATES[name], "fps": RATES[name], "subset": "train", "annotations": []}
        for name, length in LENGTHS.items()
    }
    path.write_text(json.dumps({"database": videos}))
    return path


def imported(source: Path, **choices: Any) -> dict[str, VideoFeatures]:
    out = source.parent / "imported"
    ids = import_features(source, out, **choices)
    found = {video_id: read_features(path) for video_id, path in list_features(out).items()}
    assert ids == list(found)
    return found


def assert_streams(found: Mapping[str, VideoFeatures], expected: Callable[[str], dict[str, np.ndarray]]) -> None:
    assert list(found) == list(LENGTHS)
    for name, features in found.items():
        assert list(features.streams) == list(expected(name))
        for stream, array in expected(name).items():
            np.testing.assert_array_equal(features.streams[stream], array)


def two_streams(name: str) -> dict[str, np.ndarray]:
    return {"rgb": rows(name), "flow": rows(name, kind=1)}
