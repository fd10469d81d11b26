"""Label, train, look, label again: how far suggested moments get, and random ones, with a simulated person.

    python benchmarks/loop.py archives/shrec --fps 160 --seeds 0,1,2 --out loop.jsonl            # chosen on: held-out
    python benchmarks/loop.py archives/shrec --fps 160 --seeds 0,1,2 --test --out loop.jsonl     # reported on: test

The archive is a folder as the published feature archives are (features, gt_full.json, split_train.txt,
split_test.txt). Its training recordings are labeled; models are evaluated on a third of them that is held out from all,
or on the test split with `--test`. Points come from the true segments as people set them (`--distribution human`).

* `random`: whole recordings, drawn at random, until the share of the points is reached (20, 40 and 100%). A person who
  labels goes from recording to recording.
* `suggest`: the first tenth of the points as `random`; then, up to 20, 40 and 60%, what `hrpro suggest` puts first by
  the model before: recordings, which the person labels whole, and doubts. A point that is called misplaced, and is, is
  set anew where the person sees an action of its class, and a forgotten action gets its point: each of these counts as
  a point. A moment at which there is nothing becomes a background point, which is counted apart (`denied`).

A line of JSON says, for a seed, a way and a share of the points: points and recordings used, average mAP over tIoU
0.1:0.7, seconds of the training and of the suggestions. With `--warm`, each model goes on from the one before, as in
daily work; otherwise it is trained anew. Lines that the file has already are not made again.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe

from hrpro_pipeline import import_features, suggest_labels, train_detector
from hrpro_pipeline.data.annotations import Segment, VideoAnnotation, read_annotations, read_ids
from hrpro_pipeline.data.drawn_points import draw_points
from hrpro_pipeline.data.features import list_features, read_features
from hrpro_pipeline.data.points import BACKGROUND, Point, points_csv
from hrpro_pipeline.data.suggestions import Suggestion
from hrpro_pipeline.infer.detector import detect_actions
from hrpro_pipeline.infer.evaluator import segment_measure
from hrpro_pipeline.models.checkpoint import TrainedModel

TIOU = tuple(np.round(np.arange(0.1, 0.75, 0.1), 1).tolist())
# Shares of the points at which a model is trained; the first of `suggest` is before any suggestion.
SHARES = {"suggest": (0.1, 0.2, 0.4, 0.6), "random": (0.2, 0.4, 1.0)}
# Seconds around a moment in which a person who looks at it sees an action.
_IN_SIGHT = 0.5


@dataclass
class Person:
    """A simulated person: the true segments, the points that they set in a recording when they label it, and so far.

    Attributes:
        answers: the points of each recording, as people set them: some outside, some forgotten.
        points: set so far.
        spent: points set or set anew; denied: moments at which there was nothing.
    """

    truth: dict[str, VideoAnnotation]
    answers: dict[str, list[Point]]
    points: list[Point]
    spent: int = 0
    denied: int = 0

    def label(self, video_id: str) -> None:
        """Go through a whole recording."""
        self.points += self.answers[video_id]
        self.spent += len(self.answers[video_id])

    def look_at(self, item: Suggestion) -> None:
        """Answer one doubt: yes, move, or no."""
        segment = self._segment_near(item)
        if item.kind == "misplaced":
            before = [point for point in self.points if is_of(point, item)]
            inside = [point for point in before if segment is not None and point.label == segment.label]
            if before and not inside:
                self.points.remove(before[0])
                self.spent += 1
                if segment is not None:
                    self.points.append(_in_middle(item.video_id, segment))
        elif segment is not None and segment.label == item.label and not self._has_point(item.video_id, segment):
            self.points.append(_in_middle(item.video_id, segment))
            self.spent += 1
        elif segment is None:
            self.points.append(Point(item.video_id, BACKGROUND, item.seconds, None, 0))
            self.denied += 1

    def _segment_near(self, item: Suggestion) -> Segment | None:
        """The action in sight of a moment, of its class if there is one."""
        times = [item.seconds] if item.suggested_seconds is None else [item.seconds, item.suggested_seconds]
        seen = [
            segment
            for seconds in times
            for segment in self.truth[item.video_id].segments
            if segment.start_seconds - _IN_SIGHT <= seconds <= segment.end_seconds + _IN_SIGHT
        ]
        return next((segment for segment in seen if segment.label == item.label), seen[0] if seen else None)

    def _has_point(self, video_id: str, segment: Segment) -> bool:
        return any(
            point.video_id == video_id
            and point.label == segment.label
            and segment.start_seconds <= (point.seconds or 0.0) <= segment.end_seconds
            for point in self.points
        )


def is_of(point: Point, item: Suggestion) -> bool:
    """Whether a suggestion is about this point."""
    is_near = abs((point.seconds or 0.0) - item.seconds) < 0.01
    return point.video_id == item.video_id and point.label == item.label and is_near


def _in_middle(video_id: str, segment: Segment) -> Point:
    return Point(video_id, segment.label, (segment.start_seconds + segment.end_seconds) / 2, None, 0)


@dataclass(frozen=True)
class Study:
    """What all runs share.

    Attributes:
        features: FEATURES folder of the recordings to label. evaluated: features by recording.
    """

    folder: Path
    features: Path
    evaluated: dict[str, Path]
    truth: dict[str, VideoAnnotation]
    labeled: list[str]
    overrides: list[str]
    warm: bool


def main() -> None:
    arguments = _arguments()
    done = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        study = _study(arguments, Path(folder))
        for seed in arguments.seeds:
            for way, shares in SHARES.items():
                key = {"archive": arguments.archive.name, "test": arguments.test, "way": way, "seed": seed}
                key |= {"settings": arguments.set, "warm": study.warm}
                if any(key.items() <= line.items() and line["share"] == shares[-1] for line in done):
                    continue
                for line in _runs(study, way, seed):
                    with arguments.out.open("a") as file:
                        file.write(json.dumps(key | line | describe(torch.device("cpu"))) + "\n")
                    print(json.dumps(key | line), flush=True)


def _study(arguments: argparse.Namespace, folder: Path) -> Study:
    overrides = [] if arguments.fps is None else [f"extract.fps={arguments.fps}"]
    import_features(arguments.archive, folder / "all", overrides=overrides)
    stored = list_features(folder / "all")
    truth = read_annotations(arguments.archive / "gt_full.json")
    training = [name for name in read_ids(arguments.archive / "split_train.txt") if name in stored]
    if arguments.test:
        evaluated = [name for name in read_ids(arguments.archive / "split_test.txt") if name in stored]
    else:
        evaluated, training = training[::3], [name for index, name in enumerate(training) if index % 3]
    training = training[: arguments.videos]
    (folder / "features").mkdir()
    for name in training:
        (folder / "features" / stored[name].name).symlink_to(stored[name])
    return Study(
        folder,
        folder / "features",
        {name: stored[name] for name in evaluated},
        truth,
        training,
        arguments.set,
        arguments.warm,
    )


def _runs(study: Study, way: str, seed: int) -> Iterator[dict[str, Any]]:
    """A line for each share of the points, one model after the other."""
    drawn = draw_points([study.truth[name] for name in study.labeled], "human", seed)
    answers: dict[str, list[Point]] = {name: [] for name in study.labeled}
    for point in drawn:
        answers[point.video_id].append(point)
    person = Person(study.truth, answers, [])
    order = np.random.default_rng([seed, 11]).permutation(study.labeled).tolist()
    unlabeled = [name for name in order if answers[name]]
    run = None
    for share in SHARES[way]:
        budget = share * len(drawn)
        started = time.monotonic()
        if way == "suggest" and run is not None:
            unlabeled = _follow(study, person, run, unlabeled, budget)
        seconds = {"suggest_seconds": round(time.monotonic() - started, 1)}
        while unlabeled and person.spent < budget:
            person.label(unlabeled.pop(0))
        out = study.folder / f"{way}_{seed}_{share}"
        started = time.monotonic()
        model = _train(study, person, out, seed, run if study.warm else None)
        seconds["train_seconds"] = round(time.monotonic() - started, 1)
        run = out
        used = {"share": share, "points": person.spent, "denied": person.denied, "of": len(drawn)}
        used["recordings"] = len({point.video_id for point in person.points})
        yield {**used, "average": _average(study, model), **seconds}


def _follow(study: Study, person: Person, run: Path, unlabeled: list[str], budget: float) -> list[str]:
    """Answer suggestions, best first, up to the budget -> the recordings that are still without points."""
    points = study.folder / "points.csv"
    points.write_text(points_csv(person.points))
    remaining = list(unlabeled)
    for item in suggest_labels(run, study.features, points, study.folder / "suggestions.csv", device="cpu"):
        if person.spent >= budget:
            break
        if item.kind != "new":
            person.look_at(item)
        elif item.video_id in remaining:
            remaining.remove(item.video_id)
            person.label(item.video_id)
    return remaining


def _train(study: Study, person: Person, out: Path, seed: int, start: Path | None) -> TrainedModel:
    points = study.folder / "points.csv"
    points.write_text(points_csv(person.points))
    return train_detector(
        *(study.features, points, out), overrides=study.overrides, seed=seed, device="cpu", warm_start=start
    )


def _average(study: Study, model: TrainedModel) -> float:
    detections = {
        name: detect_actions(model, torch.from_numpy(read_features(path).joined(tuple(model.widths))))
        for name, path in study.evaluated.items()
    }
    truth = {name: replace(study.truth[name], subset="evaluated") for name in study.evaluated}
    return round(100 * segment_measure(truth, TIOU, "evaluated")(detections, model.classes)["average"], 2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--fps", help="of the clock of the features")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--test", action="store_true", help="label all training recordings, evaluate on the test split")
    parser.add_argument("--warm", action="store_true", help="go on from the model before")
    parser.add_argument("--videos", type=int, help="label the first so many recordings alone")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the training")
    parser.add_argument("--out", type=Path, default=Path("loop.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
