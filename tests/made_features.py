"""A small made data set for tests that train: feature files, annotations and points."""

import json
from pathlib import Path

import numpy as np
import torch

from hrpro_pipeline.data.features import feature_path, write_features
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.models.snippet import Packing

CLASSES = ("jump", "run", "sit")
# What `general` has beyond the published method, left out.
PUBLISHED = (
    "snippet.passes=0",
    "pyramid.steps=0",
    "answer.held_out=0",
    "detect.class_threshold=0.5",
    "detect.nms_added_seconds=1",
)
QUICK = ("snippet.steps=4", "snippet.evaluate_every=2", "snippet.batch_size=4", "instance.epochs=2", *PUBLISHED)


def made_set(folder: Path, num_train: int = 5, num_test: int = 2, width: int = 32) -> Path:
    """`features`, `gt.json` and `points.csv` in a folder: two actions a video, each with channels of its own."""
    rng, clock = np.random.default_rng(0), SnippetClock()
    database, points = {}, ["video_id,class,time"]
    for number in range(num_train + num_test):
        name, length = f"v{number:02d}", 30 + 5 * number
        features = 0.3 * rng.random((length, width), np.float32)
        annotations = []
        for start, label in ((5, number % 3), (18, (number + 1) % 3)):
            features[start : start + 5, label * 4 : label * 4 + 4] += 2
            segment = clock.to_seconds(np.array([start, start + 5.0])).tolist()
            annotations.append({"label": CLASSES[label], "segment": segment})
            if number < num_train:
                points.append(f"{name},{CLASSES[label]},{sum(segment) / 2}")
        database[name] = {"subset": "Validation" if number < num_train else "Test", "annotations": annotations}
        store(folder / "features", name, features, clock)
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    (folder / "points.csv").write_text("\n".join(points))
    return folder


def store(folder: Path, name: str, features: np.ndarray, clock: SnippetClock) -> Path:
    """One video's features [T, D], half of the channels in each stream."""
    half = features.shape[1] // 2
    path = folder / f"{name}.h5"
    write_features(
        path,
        {"rgb": features[:, :half], "flow": features[:, half:]},
        clock=clock,
        video_id=name,
        duration_seconds=len(features) * clock.seconds_per_snippet,
        num_frames=clock.stride * len(features),
    )
    return path


def store_random(folder: Path, video_id: str, num_snippets: int = 10, dim: int = 4, **changes: object) -> Path:
    """One video's features, random numbers, of snippets of 0.64 s; `changes` are arguments of `write_features`."""
    rng = np.random.default_rng(num_snippets)
    streams = {name: rng.random((num_snippets, dim), np.float32) for name in ("rgb", "flow")}
    values = {
        "clock": SnippetClock(),
        "video_id": video_id,
        "duration_seconds": num_snippets * 0.64,
        "num_frames": num_snippets * 16,
        "source": {"name": f"{video_id}.mp4", "fps": 30.0},
    } | changes
    path = feature_path(folder, video_id)
    write_features(path, values.pop("streams", streams), **values)  # type: ignore[arg-type]
    return path


def packing(lengths: list[int]) -> Packing:
    """Videos of these lengths, one after the other."""
    return Packing.of(lengths, torch.device("cpu"))


def settings(*values: str) -> list[str]:
    """`--set` options."""
    return [word for value in values for word in ("--set", value)]
