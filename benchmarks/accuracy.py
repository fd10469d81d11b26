"""What training reaches on data sets with segments to test against: a JSON line for each set, preset and seed.

    python benchmarks/accuracy.py shrec=archives/shrec:160 salads=archives/salads:26.6666667 made=archives/made \
        person1=archives/made,points/person1.csv --presets general,thumos14 --seeds 0,1,2 --out accuracy.jsonl

A set is NAME=ARCHIVE[:FPS][,POINTS]: a folder as the published feature archives are (features, gt_full.json,
point_labels, split_train.txt, split_test.txt), the rate of the clock of its features, and points in place of the
archive's own. Each run trains with nothing set but the
preset, on the training split alone; the test split is for reporting. A line that the file has already is not made
again. `--joined 20` also detects in the first 20 test videos one after the other, as one long video.

A line says: average mAP over tIoU 0.1:0.7 of the model and of its stage 1 alone; of the answer at tIoU 0.5: F1, the
best F1 of any threshold (found with the segments), the calibration error of all detections and of those that are at
least 10% likely, how far the number of answers a video is off, and answers for each action in all of them; seconds of
the training.
"""

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import describe

from hrpro_pipeline import import_features, train_detector
from hrpro_pipeline.configs.presets import DEFAULT_PRESET
from hrpro_pipeline.data.annotations import VideoAnnotation, read_ambiguous, read_annotations, read_ids
from hrpro_pipeline.data.features import list_features, read_features
from hrpro_pipeline.infer.answer import answers, apart, expected_calibration_error, is_right
from hrpro_pipeline.infer.detector import detect_actions
from hrpro_pipeline.infer.evaluator import segment_measure
from hrpro_pipeline.models.checkpoint import TrainedModel

# Probability from which a detection counts as likely.
_LIKELY = 0.1
TIOU = tuple(np.round(np.arange(0.1, 0.75, 0.1), 1).tolist())


def main() -> None:
    arguments = _arguments()
    done = _lines(arguments.out)
    for name, archive, fps, points in arguments.sets:
        with tempfile.TemporaryDirectory() as folder:
            clock = [] if fps is None else [f"extract.fps={fps}"]
            import_features(archive, Path(folder) / "features", overrides=clock)
            for preset in arguments.presets:
                for seed in arguments.seeds:
                    key = {"set": name, "preset": preset, "settings": arguments.set, "seed": seed}
                    if any(key.items() <= line.items() for line in done):
                        continue
                    line = key | _run(archive, points, Path(folder), preset, arguments.set, seed, arguments.joined)
                    with arguments.out.open("a") as file:
                        file.write(json.dumps(line | describe(torch.device("cpu"))) + "\n")
                    print(json.dumps(line), flush=True)


def _run(
    archive: Path, points: Path, folder: Path, preset: str, overrides: list[str], seed: int, joined: int
) -> dict[str, Any]:
    """Train and measure one model."""
    run, features = folder / "run", folder / "features"
    shutil.rmtree(run, ignore_errors=True)
    stored = list_features(features)
    training = [video_id for video_id in read_ids(archive / "split_train.txt") if video_id in stored]
    (folder / "train.txt").write_text("\n".join(training))
    started = time.monotonic()
    model = train_detector(
        *(features, points, run),
        annotations=archive / "gt_full.json",
        videos=folder / "train.txt",
        preset=preset,
        overrides=overrides,
        seed=seed,
        device="cpu",
    )
    seconds = round(time.monotonic() - started, 1)
    exclude = set(model.settings.evaluate.exclude)
    truth = read_annotations(archive / "gt_full.json")
    ids = [name for name in read_ids(archive / "split_test.txt") if name in stored and name not in exclude]
    ambiguous = read_ambiguous(archive / "Ambiguous_test.txt")
    arrays = {name: read_features(stored[name]).joined(tuple(model.widths)) for name in ids}
    tested = {name: truth[name] for name in ids}
    alone = replace(model, instance=None, pyramid=None, calibration=None)
    line = {
        "average": _average(model, arrays, tested, ambiguous),
        "stage_1_alone": _average(alone, arrays, tested, ambiguous),
        **_answer(model, arrays, tested),
        "seconds": seconds,
        "stages": [name for name in ("snippet", "instance", "pyramid") if getattr(model, name) is not None],
    }
    if joined:
        first = ids[:joined]
        line |= {
            "joined": _average(model, *_join(model, {name: arrays[name] for name in first}, tested), {}),
            "one_by_one": _average(
                model, {name: arrays[name] for name in first}, {name: tested[name] for name in first}, {}
            ),
            "joined_snippets": sum(len(arrays[name]) for name in first),
        }
    return line


def _average(
    model: TrainedModel,
    arrays: dict[str, np.ndarray],
    truth: dict[str, VideoAnnotation],
    ambiguous: dict[str, list[tuple[float, float]]],
) -> float:
    detections = {
        name: detect_actions(model, torch.from_numpy(array), ambiguous.get(name, ())) for name, array in arrays.items()
    }
    return round(100 * segment_measure(truth, TIOU, "test")(detections, model.classes)["average"], 2)


def _answer(model: TrainedModel, arrays: dict[str, np.ndarray], truth: dict[str, VideoAnnotation]) -> dict[str, float]:
    """How good the answer is; empty for a model without one."""
    if model.calibration is None:
        return {}
    right, probability, answer, candidate, off = [], [], [], [], []
    total = 0
    for name, array in arrays.items():
        rows = detect_actions(model, torch.from_numpy(array))
        segments = _rows(truth[name], model.classes)
        likely, selected = answers(rows, model.calibration)
        right.append(is_right(rows, segments))
        probability.append(likely)
        answer.append(selected)
        candidate.append(apart(rows))
        off.append(abs(int(selected.sum()) - len(segments)) / max(1, len(segments)))
        total += len(segments)
    is_true, likely, selected = np.concatenate(right), np.concatenate(probability), np.concatenate(answer)
    ranked = np.flatnonzero(np.concatenate(candidate))
    ranked = ranked[np.argsort(-likely[ranked], kind="stable")]
    best = (2 * np.cumsum(is_true[ranked]) / (np.arange(1, len(ranked) + 1) + total)).max()
    return {
        "answer_f1": round(100 * 2 * float((is_true & selected).sum()) / float(selected.sum() + total), 2),
        "best_f1": round(100 * float(best), 2),
        "calibration_error": round(expected_calibration_error(likely, is_true), 4),
        "calibration_error_likely": round(
            expected_calibration_error(likely[likely >= _LIKELY], is_true[likely >= _LIKELY]), 4
        ),
        "count_off": round(float(np.mean(off)), 3),
        "answers_an_action": round(float(selected.sum()) / total, 3),
    }


def _rows(video: VideoAnnotation, classes: tuple[str, ...]) -> np.ndarray:
    """Segments of a video, rows [K, 3] of start, end, class."""
    rows = [(item.start_seconds, item.end_seconds, classes.index(item.label)) for item in video.segments]
    return np.array(rows, np.float64).reshape(-1, 3)


def _join(
    model: TrainedModel, arrays: dict[str, np.ndarray], truth: dict[str, VideoAnnotation]
) -> tuple[dict[str, np.ndarray], dict[str, VideoAnnotation]]:
    """One recording made of several, one after the other, and its segments."""
    segments, start = [], 0.0
    for name, array in arrays.items():
        segments += [
            replace(item, start_seconds=item.start_seconds + start, end_seconds=item.end_seconds + start)
            for item in truth[name].segments
        ]
        start += len(array) * model.clock.seconds_per_snippet
    first = truth[next(iter(arrays))]
    joined = replace(first, segments=tuple(segments), duration_seconds=start)
    return {"joined": np.concatenate(list(arrays.values()))}, {"joined": joined}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Set(NamedTuple):
    """A data set with segments: its name, folder, the rate of its clock, and its points."""

    name: str
    archive: Path
    fps: float | None
    points: Path


def named_set(text: str) -> Set:
    """NAME=ARCHIVE[:FPS][,POINTS]."""
    name, _, place = text.partition("=")
    place, _, points = place.partition(",")
    archive, colon, fps = place.rpartition(":")
    folder = Path(archive if colon else place)
    given = Path(points) if points else sorted((folder / "point_labels").glob("*.csv"))[0]
    return Set(name, folder, float(fps) if colon else None, given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=named_set, metavar="NAME=ARCHIVE[:FPS][,POINTS]")
    parser.add_argument("--presets", type=lambda text: text.split(","), default=[DEFAULT_PRESET])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="over each preset")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--joined", type=int, default=0, help="test videos to detect in as one")
    parser.add_argument("--out", type=Path, default=Path("accuracy.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
