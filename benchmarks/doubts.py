"""How well `doubts.csv` finds points that are misplaced: a share of the points is moved, and a model trained on all.

    python benchmarks/doubts.py shrec=archives/shrec:160 salads=archives/salads:26.6666667 --seeds 0,1,2

A set is NAME=ARCHIVE[:FPS] as in accuracy.py. One point is drawn in each action of the training split. A tenth of
them is moved out of all actions of their class: every other one to just before or after its own (`--near` seconds on
average), the others to anywhere in the video. The model trains as `hrpro train` does, without stage 3 and without the
run that holds videos out: what is said of points rests on stage 1 alone.

A line of JSON says, for a set and a seed: points, how many were moved, and the share of the moved ones (of the near
and of the far ones) that are among the first 15% of the points in the list.
"""

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import Set, named_set
from loop import is_of
from machine import emit

from hrpro_pipeline import import_features, train_detector
from hrpro_pipeline.data.annotations import VideoAnnotation, read_annotations, read_ids
from hrpro_pipeline.data.drawn_points import draw_points
from hrpro_pipeline.data.features import list_features
from hrpro_pipeline.data.points import Point, points_csv
from hrpro_pipeline.data.suggestions import DOUBTS_FILE, read_suggestions

_MOVED = 0.1
_FIRST = 0.15
_ALONE = ("pyramid.steps=0", "answer.held_out=0")


def main() -> None:
    arguments = _arguments()
    for data in arguments.sets:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as folder:
                line = _run(data, arguments, seed, Path(folder))
            emit({"what": "doubts", "set": data.name, "distribution": arguments.distribution, "seed": seed} | line)


def _run(data: Set, arguments: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    clock = [] if data.fps is None else [f"extract.fps={data.fps}"]
    import_features(data.archive, folder / "features", overrides=clock)
    stored = list_features(folder / "features")
    truth = read_annotations(data.archive / "gt_full.json")
    training = [truth[name] for name in read_ids(data.archive / "split_train.txt") if name in stored]
    points, moved = _misplace(draw_points(training, arguments.distribution, seed), truth, arguments.near, seed)
    (folder / "points.csv").write_text(points_csv(points))
    overrides = [*_ALONE, *arguments.set]
    train_detector(
        *(folder / "features", folder / "points.csv", folder / "run"), overrides=overrides, seed=seed, device="cpu"
    )
    doubts = [item for item in read_suggestions(folder / "run" / DOUBTS_FILE) if item.kind == "misplaced"]
    first = doubts[: round(_FIRST * len(doubts))]
    found = {kind: [any(map(partial(is_of, point), first)) for point in moved[kind]] for kind in moved}
    counted = {f"{kind}_found": round(float(np.mean(found[kind])), 3) for kind in found}
    every = [is_found for kind in found.values() for is_found in kind]
    return {
        "settings": overrides,
        "points": len(points),
        "moved": len(every),
        "found": round(np.mean(every), 3),
    } | counted


def _misplace(
    points: list[Point], truth: dict[str, VideoAnnotation], near_seconds: float, seed: int
) -> tuple[list[Point], dict[str, list[Point]]]:
    """Points with a share of them moved, and the moved ones: near their action, and far from it."""
    rng = np.random.default_rng([seed, 23])
    moved: dict[str, list[Point]] = {"near": [], "far": []}
    placed = list(points)
    for number, index in enumerate(rng.permutation(len(points))[: round(_MOVED * len(points))]):
        point, kind = points[index], ("near", "far")[number % 2]
        seconds = _outside(point, truth[point.video_id], near_seconds if kind == "near" else None, rng)
        if seconds is not None:
            placed[index] = replace(point, seconds=seconds)
            moved[kind].append(placed[index])
    return placed, moved


def _outside(
    point: Point, video: VideoAnnotation, near_seconds: float | None, rng: np.random.Generator
) -> float | None:
    """A moment out of all actions of the point's class; None where none was met in a hundred tries."""
    assert point.seconds is not None
    actions = [(item.start_seconds, item.end_seconds) for item in video.segments if item.label == point.label]
    own = next(bounds for bounds in actions if bounds[0] <= point.seconds <= bounds[1])
    last = video.duration_seconds or max(item.end_seconds for item in video.segments)
    for _ in range(100):
        if near_seconds is None:
            moment = rng.uniform(0, last)
        else:
            distance = rng.exponential(near_seconds)
            moment = own[0] - distance if rng.random() < 0.5 else own[1] + distance
        if 0 <= moment < last and not any(start <= moment <= end for start, end in actions):
            return float(moment)
    return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=named_set, metavar="NAME=ARCHIVE[:FPS]")
    parser.add_argument("--distribution", default="gaussian", help="where in the actions the points are drawn")
    parser.add_argument("--near", type=float, default=0.5, help="seconds from its action of a point that is near")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the training")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    return parser.parse_args()


if __name__ == "__main__":
    main()
