"""Time, memory and accuracy of training, stage by stage; JSON lines on standard output.

    python benchmarks/train.py FEATURES --annotations gt_full.json --points points.csv --videos split_train.txt \
        --evaluate-on Test --ambiguous Ambiguous_test.txt --steps 100 --epochs 8

The published setting on a GPU is `--steps 1000 --epochs 20 --evaluate-every 50`. Each stage is timed as a user waits
for it: reading the features, training, evaluations, checkpoints. `--beside1 COMMAND` and `--beside2 COMMAND` time a
command after each stage on the same machine, and give the ratio: another program that does the same. No shell reads it:
write `sh -c "..."` where one is wanted.

Needs what the `hrpro` package needs, and features (for instance made ones with THUMOS14's annotations, imported with
`hrpro import features`).
"""

import argparse
import json
import resource
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe, emit, matmul_rate, synchronize
from torch.utils.flop_counter import FlopCounterMode

from hrpro_pipeline import train_detector
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.device import resolve_device
from hrpro_pipeline.models.precision import resolve_precision

_COUNTED = {"snippet": ("snippet.steps", 6), "instance": ("instance.epochs", 1)}


def main() -> None:
    arguments = _arguments()
    device = resolve_device(arguments.device)
    machine = describe(device)
    precision = resolve_precision(arguments.precision, device)
    rates = {name: matmul_rate(device, dtype) for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16))}
    emit({"what": "matrix products", **machine, **{f"{name}_flop_per_second": rate for name, rate in rates.items()}})
    for seed in arguments.seeds:
        stage1, model = _stage(arguments, device, seed, "snippet", None)
        stage2, _ = _stage(arguments, device, seed, "instance", model)
        for line, command in ((stage1, arguments.beside1), (stage2, arguments.beside2)):
            flop = _flop(arguments, line["stage"], model)
            line |= {"flop": flop, "flop_per_second": flop / line["training_seconds"]}
            line["share_of_matmul_rate"] = line["flop_per_second"] / rates[precision]
            if command:
                started = time.monotonic()
                subprocess.run(shlex.split(command.replace("{seed}", str(seed))), check=True, capture_output=True)
                line["beside_seconds"] = round(time.monotonic() - started, 2)
                line["times_faster"] = line["beside_seconds"] / line["seconds"]
            emit({**line, "precision": precision, **machine})


def _stage(
    arguments: argparse.Namespace, device: torch.device, seed: int, stage: str, model: TrainedModel | None
) -> tuple[dict[str, Any], TrainedModel]:
    """Train one stage as a run of its own; stage 2 starts from the model of stage 1."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        synchronize(device)
        started = time.monotonic()
        trained = _train(arguments, run, seed, stage, model)
        synchronize(device)
        seconds = time.monotonic() - started
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    evaluating = sum(line["evaluation_seconds"] for line in evaluations)
    memory = (
        {"peak_gpu_bytes": torch.cuda.max_memory_allocated(device)}
        if device.type == "cuda"
        else {"process_peak_bytes_so_far": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    )
    line = {
        "what": "training",
        "stage": stage,
        "seed": seed,
        "seconds": round(seconds, 2),
        "training_seconds": round(evaluations[-1]["seconds"] - evaluating + evaluations[-1]["evaluation_seconds"], 2),
        "evaluations": len(evaluations),
        "evaluation_seconds": round(evaluating, 2),
        "average_mAP": round(100 * evaluations[-1]["average"], 2),
        **memory,
    }
    return line, trained


def _train(
    arguments: argparse.Namespace,
    run: Path,
    seed: int,
    stage: str,
    model: TrainedModel | None,
    overrides: tuple[str, ...] = (),
) -> TrainedModel:
    epochs = arguments.epochs if stage == "instance" else 0
    return train_detector(
        arguments.features,
        arguments.points,
        run,
        annotations=arguments.annotations,
        videos=arguments.videos,
        evaluate_on=arguments.evaluate_on,
        ambiguous=arguments.ambiguous,
        overrides=(
            f"snippet.steps={arguments.steps}",
            f"snippet.evaluate_every={arguments.evaluate_every}",
            f"instance.epochs={epochs}",
            f"compute.precision={arguments.precision}",
            *arguments.set,
            *overrides,
        ),
        seed=seed,
        device=arguments.device,
        stage1=model,
    )


def _flop(arguments: argparse.Namespace, stage: str, model: TrainedModel) -> float:
    """FLOP of the stage's training, from those of a few steps or an epoch.

    Counted as they run, in two runs of which one has twice the steps: what both do besides falls out of the difference.
    """
    setting, count = _COUNTED[stage]
    counts = []
    for value in (count, 2 * count):
        with tempfile.TemporaryDirectory() as folder, FlopCounterMode(display=False) as counter:
            every = "snippet.evaluate_every=1000000", "instance.evaluate_every=1000000"
            start = None if stage == "snippet" else model
            _train(arguments, Path(folder) / "run", 0, stage, start, (*every, f"{setting}={value}"))
        counts.append(counter.get_total_flops())
    whole = arguments.steps if stage == "snippet" else arguments.epochs
    return float(np.diff(counts)[0] / count * whole)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    for name in ("annotations", "points", "videos", "ambiguous"):
        parser.add_argument(f"--{name}", type=Path, required=name in ("annotations", "points"))
    parser.add_argument("--evaluate-on", default="Test")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--evaluate-every", type=int, default=50)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bf16"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--beside1", metavar="COMMAND", help="does stage 1; {seed} is replaced")
    parser.add_argument("--beside2", metavar="COMMAND", help="does stage 2; {seed} is replaced")
    return parser.parse_args()


if __name__ == "__main__":
    main()
