"""`hrpro demo`: the whole chain on made videos, and what it is worth beside an untrained model and single streams."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hrpro_pipeline.api import evaluate_detections, extract_features, report_detections, train_detector
from hrpro_pipeline.base.progress import Task, progress
from hrpro_pipeline.commands.detect import detect_folder
from hrpro_pipeline.commands.scenes import write_demo
from hrpro_pipeline.data.annotations import in_subset, read_annotations
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.evaluation import Evaluation

NUM_TRAIN, NUM_TEST = 10, 6
_TIOU = (0.3, 0.5, 0.7)
_MARK = ".hrpro-demo"
# What is compared: name, folder, settings over the preset's.
_MODELS = (
    ("both streams", "both", ()),
    ("RGB alone", "rgb", ("extract.streams=[rgb]",)),
    ("flow alone", "flow", ("extract.streams=[flow]",)),
    ("untrained", "untrained", ("snippet.steps=0", "instance.epochs=0")),
)
_MADE = (
    *("videos", "features", *(folder for _, folder, _ in _MODELS)),
    *("annotations.json", "points.csv", "unseen.txt", "results.json", "report.html"),
)


def run_demo(out: Path, seed: int, say: Callable[[str], None]) -> dict[str, Evaluation]:
    """Render videos, extract, train, detect on unseen videos, evaluate and report, all under `out`.

    Args:
        seed: of the videos and of training.
        say: takes each line for the user.

    Returns:
        The evaluation of each model on the unseen videos, by name.

    Raises:
        HrproError: `out` holds something that is not a demo's, or a step failed.
    """
    with progress("demo", 2 + len(_MODELS), "steps", minor=True) as task:
        return _chain(out, seed, say, task)


def _chain(out: Path, seed: int, say: Callable[[str], None], task: Task) -> dict[str, Evaluation]:
    started = time.monotonic()
    _clear(out)
    say(f"made videos: {NUM_TRAIN} to train on, {NUM_TEST} unseen, in {out / 'videos'}")
    write_demo(out, num_train=NUM_TRAIN, num_test=NUM_TEST, seed=seed)
    annotations = out / "annotations.json"
    task.advance()

    say("extracting TV-L1 flow and two-stream I3D features; the weights are random, NOT Kinetics")
    summary = extract_features([out / "videos"], out / "features", preset="demo", weights="random")
    if summary.failed:
        raise HrproError(f"{summary.failed[0].video_id}: {summary.failed[0].reason}")
    say(f"  {time.monotonic() - started:.0f} s so far")
    task.advance()

    unseen = out / "unseen.txt"
    write_text(unseen, "".join(f"{name}\n" for name in in_subset(read_annotations(annotations), "test")))
    results = {}
    for name, folder, overrides in _MODELS:
        results[name] = _try(out, folder, overrides, seed, unseen)
        task.advance()
        say(f"trained and evaluated: {name} ({time.monotonic() - started:.0f} s so far)")

    for line in _table(results):
        say(line)
    numbers = {name: result.as_json() for name, result in results.items()}
    write_text(out / "results.json", json.dumps(numbers, indent=1) + "\n")
    report = out / "report.html"
    report_detections(out / "both" / "detections", report, annotations=annotations, videos=out / "videos")
    say(f"report: {report}")
    say(f"try it: hrpro detect {out / 'both' / 'run'} VIDEO --out detections")
    say(f"{time.monotonic() - started:.0f} s in all")
    return results


def _try(out: Path, folder: str, overrides: Sequence[str], seed: int, unseen: Path) -> Evaluation:
    """Train one model, detect with it in the unseen videos, and evaluate."""
    run, detections = out / folder / "run", out / folder / "detections"
    train_detector(
        out / "features",
        out / "points.csv",
        run,
        annotations=out / "annotations.json",
        preset="demo",
        overrides=overrides,
        seed=seed,
    )
    _, failed = detect_folder(run, [out / "features"], detections, videos=unseen)
    if failed:
        raise HrproError("; ".join(failed.values()))
    return evaluate_detections(detections, out / "annotations.json", subset="test", tiou=_TIOU)


def _clear(out: Path) -> None:
    """Remove what an earlier demo left in `out`, and nothing else."""
    if out.is_dir() and any(out.iterdir()):
        if not (out / _MARK).is_file():
            raise HrproError(f"{out}: holds something else than a demo; choose another --out")
        for path in (out / name for name in _MADE):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    write_text(out / _MARK, "made by `hrpro demo`, which replaces the files beside this one\n")


def _table(results: dict[str, Evaluation]) -> list[str]:
    lines = ["", "unseen videos  " + "  ".join(f"mAP@{threshold:g}" for threshold in _TIOU)]
    for name, result in results.items():
        lines.append(f"{name:13}  " + "  ".join(f"{100 * value:7.1f}" for value in result.mean_average_precision))
    return [*lines, ""]
