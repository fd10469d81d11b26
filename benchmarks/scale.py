"""A set of the size of ActivityNet 1.3 on a small machine: time and peak memory of each step; JSON lines.

    python benchmarks/scale.py ANNOTATIONS [--videos 500] [--width 512] [--steps 4] [--folder DIR]

ANNOTATIONS is the folder of ActivityNet 1.3 as published with HR-Pro (`point_labels/*.csv` with columns class,
start_frame, stop_frame, video_id, point). The features are made: noise, and a direction for each class inside its
segments. A video is as long as its last segment in the table, at 30 frames/s, which is assumed for all. All classes
are in any number of videos from 200 on; full size is `--videos 9024`, which needs 6 GB on the disk at `--width 512`.

Each step runs in a process of its own, whose peak is the kernel's mark. `cpu_seconds` are those of all its threads:
on a machine with other work they say more than `seconds` do.
"""

import argparse
import csv
import json
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe, emit

from hrpro_pipeline import evaluate_detections, import_features, report_detections
from hrpro_pipeline.commands.info import describe as describe_features
from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.data.annotations import read_annotations
from hrpro_pipeline.data.dataset import TrainingSet, load_training_set
from hrpro_pipeline.data.detections import Detection, VideoDetections, write_detections
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.checkpoint import build_snippet
from hrpro_pipeline.models.precision import resolve_precision
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.train.feature_bank import FeatureBank
from hrpro_pipeline.train.prototypes import initialize_prototypes, starting_batches
from hrpro_pipeline.train.snippet_stage import snippet_batches, snippet_stage
from hrpro_pipeline.train.stage import Compute
from hrpro_pipeline.train.steps import StepRunner

FPS = 30
SECONDS_PER_SNIPPET = 16 / 25
FEW_CLASSES = 20
# Videos whose start is also computed video by video, with the whole network.
_COMPARED = 50
# Detections a video that are evaluated and shown.
_DETECTIONS = 100
_CPU = torch.device("cpu")


def main() -> None:
    arguments = _arguments()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="hrpro-scale-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _report("make", arguments, make_set, arguments.annotations, folder, arguments.videos, arguments.width)
        _report("import", arguments, import_all, folder)
        _report("info", arguments, info, folder)
        _report("load", arguments, load, folder)
        _report("prototypes", arguments, prototypes, folder)
        _report("training", arguments, steps, folder, arguments.steps)
        _report("make detections", arguments, make_detections, folder, arguments.tested)
        _report("evaluate", arguments, evaluation, folder)
        _report("report", arguments, report, folder)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


def _report(what: str, arguments: argparse.Namespace, work: Callable[..., dict[str, Any]], *inputs: object) -> None:
    """Do a step in a process of its own, and print a line."""
    # Forked: nothing is imported again, and what is imported counts for every step alike.
    with get_context("fork").Pool(1) as pool:
        line = pool.apply(_measured, (work, inputs))
    emit({"what": what, "videos": arguments.videos, "width": arguments.width, **line, **describe(_CPU)})


def _measured(work: Callable[..., dict[str, Any]], inputs: tuple[object, ...]) -> dict[str, Any]:
    logging.disable()
    before, started, worked = _peak_mib(), time.perf_counter(), time.process_time()
    try:
        line = work(*inputs)
    except HrproError as error:  # some of ours do not pass from process to process
        raise RuntimeError(str(error)) from None
    return {
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(time.process_time() - worked, 3),
        "peak_mib": round(_peak_mib()),
        "peak_of_imports_mib": round(before),
        **line,
    }


def _peak_mib() -> float:
    """The kernel's high-water mark of this process."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 2**10


def make_set(annotations: Path, folder: Path, num_videos: int, width: int) -> dict[str, Any]:
    """`npy/`, `points.csv`, `gt.json` of the first videos, so many of each class that all have about as many."""
    table = sorted((annotations / "point_labels").glob("*.csv"))[0]
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    seen: Counter[str] = Counter()
    turn: dict[str, int] = {}
    for row in rows:
        if row["video_id"] not in turn:
            turn[row["video_id"]] = seen[row["class"]]
            seen[row["class"]] += 1
    taken = set(sorted(turn, key=turn.__getitem__)[:num_videos])
    rows = [row for row in rows if row["video_id"] in taken]
    classes = sorted({row["class"] for row in rows})
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((len(classes), width), np.float32)
    noise = rng.standard_normal((1 << 14, width), np.float32)
    database: dict[str, Any] = {}
    points = ["video_id,class,time"]
    for row in rows:
        start, stop, point = (float(row[key]) / FPS for key in ("start_frame", "stop_frame", "point"))
        entry = database.setdefault(row["video_id"], {"subset": "Test", "annotations": []})
        entry["annotations"].append({"label": row["class"], "segment": [start, stop]})
        points.append(f"{row['video_id']},{row['class']},{min(point, stop):.3f}")
    arrays = folder / "npy"
    arrays.mkdir(exist_ok=True)
    num_snippets = 0
    for video_id, entry in database.items():
        entry["duration"] = max(item["segment"][1] for item in entry["annotations"]) + 2 * SECONDS_PER_SNIPPET
        length = int(entry["duration"] / SECONDS_PER_SNIPPET)
        offset = int(rng.integers(len(noise) - length))
        features = noise[offset : offset + length].copy()
        for item in entry["annotations"]:
            start, stop = (round(seconds / SECONDS_PER_SNIPPET) for seconds in item["segment"])
            features[start : stop + 1] += directions[classes.index(item["label"])]
        np.save(arrays / f"{video_id}.npy", features)
        num_snippets += length
    (folder / "points.csv").write_text("\n".join(points))
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    return {"classes": len(classes), "points": len(rows), "mean_snippets": round(num_snippets / len(database), 1)}


def import_all(folder: Path) -> dict[str, Any]:
    """`hrpro import features`, beside a plain copy of the same files that are brought to the disk one by one."""
    files = sorted((folder / "npy").iterdir())
    copied = folder / "copied"
    copied.mkdir(exist_ok=True)
    started = time.perf_counter()
    for file in files:
        with (copied / file.name).open("wb") as stream:
            stream.write(file.read_bytes())
            stream.flush()
            os.fsync(stream.fileno())
    copying = time.perf_counter() - started
    shutil.rmtree(copied)
    started, worked = time.perf_counter(), time.process_time()
    import_features(folder / "npy", folder / "features", layout="TD", fps=25.0, stride=16)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "videos_per_second": round(len(files) / seconds, 1),
        "bytes": sum(file.stat().st_size for file in files),
        "copy_seconds": round(copying, 3),
        "times_a_copy": round(seconds / copying, 2),
    }


def info(folder: Path) -> dict[str, Any]:
    """`hrpro info FEATURES`."""
    return {"says": next(iter(list(describe_features(folder / "features"))))}


def _load(folder: Path) -> TrainingSet:
    return load_training_set(folder / "features", read_points(folder / "points.csv"), {}, on_disk=True)


def load(folder: Path) -> dict[str, Any]:
    """What a training checks before it starts, the features left on disk."""
    return {"points": _load(folder).num_points}


def prototypes(folder: Path) -> dict[str, Any]:
    """The start of the prototypes; and, in memory, beside each video alone through the whole network."""
    data = _load(folder)
    settings = load_settings("activitynet13")
    compute = Compute(FeatureBank(data.videos, _CPU, "disk"), _CPU, "float32")
    model = build_snippet(settings, sum(data.widths.values()), len(data.classes))
    orders = list(starting_batches([len(video.features) for video in data.videos]))
    started, worked = time.perf_counter(), time.process_time()
    initialize_prototypes(model, snippet_batches(data, compute, orders))
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    videos = tuple(replace(video, features=np.asarray(video.features)) for video in data.videos[:_COMPARED])
    some = replace(data, videos=videos)
    in_memory = Compute(FeatureBank(videos, _CPU, "device"), _CPU, "float32")
    few = list(starting_batches([len(video.features) for video in videos]))
    quick = _cpu_seconds(lambda: initialize_prototypes(_emptied(model), snippet_batches(some, in_memory, few)))
    plain = _cpu_seconds(lambda: _plainly(_emptied(model), some, in_memory))
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "compared_videos": len(videos),
        "compared_cpu_seconds": round(quick, 3),
        "plain_cpu_seconds": round(plain, 3),
        "times_faster": round(plain / quick, 2),
    }


def _cpu_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of the quickest of three."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def _emptied(model: SnippetModel) -> SnippetModel:
    """The same network with an empty memory."""
    model.prototypes.zero_()
    return model


@torch.no_grad()
def _plainly(model: SnippetModel, data: TrainingSet, compute: Compute) -> None:
    model.eval()
    total = torch.zeros_like(model.prototypes)
    for batch in snippet_batches(data, compute, [[index] for index in range(len(data.videos))]):
        total += batch.points.T @ model(batch.features, batch.packing).embedding


def steps(folder: Path, num_steps: int) -> dict[str, Any]:
    """Steps of stage 1 in turn: with all classes, and of the same videos with their classes joined to a few."""
    data = _load(folder)
    labels = [replace(video, labels=video.labels % FEW_CLASSES) for video in data.videos]
    sets = [data, replace(data, videos=tuple(labels), classes=data.classes[:FEW_CLASSES])]
    settings = load_settings("activitynet13")
    section = settings.snippet.model_copy(update={"steps": num_steps + 1})
    precision = resolve_precision("auto", _CPU)
    runs = []
    for each in sets:
        model = build_snippet(settings, sum(each.widths.values()), len(each.classes)).train()
        compute = Compute(FeatureBank(each.videos, _CPU, "disk"), _CPU, precision)
        stage = snippet_stage(model, each, section, compute, 0, 1)
        runs.append(StepRunner(stage, model, _CPU, 0).rounds(1))
    seconds: list[list[float]] = [[], []]
    worked: list[list[float]] = [[], []]
    for _ in range(num_steps + 1):
        for kind, rounds in enumerate(runs):
            started, before = time.perf_counter(), time.process_time()
            next(rounds)
            seconds[kind].append(time.perf_counter() - started)
            worked[kind].append(time.process_time() - before)
    # The first step compiles, and waits for its features.
    wall, cpu = ([float(np.median(each[1:])) for each in both] for both in (seconds, worked))
    return {
        "classes": [len(each.classes) for each in sets],
        "precision": precision,
        "step_seconds": [round(value, 3) for value in wall],
        "step_cpu_seconds": [round(value, 3) for value in cpu],
        "times_few_classes": round(cpu[0] / cpu[1], 2),
    }


def make_detections(folder: Path, num_videos: int) -> dict[str, Any]:
    """Detections around the segments and elsewhere."""
    truth = read_annotations(folder / "gt.json")
    labels = sorted({item.label for video in truth.values() for item in video.segments})
    rng = np.random.default_rng(1)
    for video in list(truth.values())[:num_videos]:
        duration = video.duration_seconds or 1.0
        items = []
        for item in video.segments:
            end = item.start_seconds + float(rng.uniform(0.6, 1)) * (item.end_seconds - item.start_seconds)
            items.append(Detection(item.label, float(rng.uniform(0.3, 1)), item.start_seconds, end))
        for _ in range(_DETECTIONS - len(items)):
            start, end = sorted(rng.uniform(0, duration, 2).tolist())
            items.append(Detection(labels[int(rng.integers(len(labels)))], float(rng.uniform(0, 0.6)), start, end))
        items.sort(key=lambda item: item.score, reverse=True)
        write_detections(folder / "detections", VideoDetections(video.video_id, tuple(items), duration))
    return {"detections_a_video": _DETECTIONS}


def evaluation(folder: Path) -> dict[str, Any]:
    """`hrpro evaluate` with the thresholds of ActivityNet."""
    tiou = load_settings("activitynet13").evaluate.tiou
    result = evaluate_detections(folder / "detections", folder / "gt.json", tiou=tiou)
    return {"detections": result.num_detections, "average_mAP": round(100 * result.average, 2)}


def report(folder: Path) -> dict[str, Any]:
    """`hrpro report` beside the ground truth."""
    path = folder / "report.html"
    report_detections(folder / "detections", path, annotations=folder / "gt.json", preset="activitynet13")
    return {"shown_videos": len(list((folder / "detections").iterdir())), "page_bytes": path.stat().st_size}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="folder of ActivityNet 1.3")
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--width", type=int, default=512, help="D of the made features")
    parser.add_argument("--steps", type=int, default=4, help="steps of stage 1 that are timed")
    parser.add_argument("--tested", type=int, default=5000, help="videos to evaluate and report, at most")
    parser.add_argument("--folder", type=Path, help="keep everything here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
