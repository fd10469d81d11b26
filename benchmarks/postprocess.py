"""Time of candidate generation, soft-NMS and evaluation on made scores; JSON lines on standard output.

    python benchmarks/postprocess.py [--videos 60] [--detections 450]

Everything is made from a seed: videos with instances of two classes each, scores that rise about them, candidates cut
from these scores, and two detections for each, until there are `--detections` a video. Soft-NMS runs beside two
straightforward loops: plain Python, a pair at a time, and NumPy, a kept detection at a time.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
import torch
from machine import best_seconds, describe, emit

from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.data.annotations import Segment, VideoAnnotation
from hrpro_pipeline.infer.detector import to_detections
from hrpro_pipeline.infer.evaluation import evaluate
from hrpro_pipeline.infer.postprocess import classwise_soft_nms
from hrpro_pipeline.models.candidates import cut_candidates

SECONDS = 0.64
CLASSES = tuple(f"class {number}" for number in range(20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--detections", type=int, default=450)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    machine = describe(torch.device("cpu"))
    videos = [_video(f"video {number}", rng) for number in range(arguments.videos)]

    settings = load_settings().detect
    candidates: list[np.ndarray] = []

    def cut() -> None:
        candidates[:] = [
            cut_candidates(fused, background, fused.max(axis=0), settings) for _, fused, background in videos
        ]

    seconds = best_seconds(cut)
    count = sum(map(len, candidates))
    emit({"what": "candidates", "videos": len(videos), "candidates": count, "seconds": seconds, **machine})

    scored = [_detections(rows, arguments.detections, rng) for rows in candidates]
    total = sum(map(len, scored))
    kept: list[np.ndarray] = []

    def ours() -> None:
        kept[:] = [classwise_soft_nms(rows, settings.nms_sigma, settings.nms_added_seconds) for rows in scored]

    ours()  # compiles
    line = {"what": "soft-NMS", "videos": len(videos), "detections": total, "seconds": best_seconds(ours)}
    for name, loop, repeats in (("numpy_loop", _numpy_loop, 3), ("python_loop", _python_loop, 1)):
        slow: list[np.ndarray] = []

        def run(loop: Callable[[np.ndarray, float, float], np.ndarray] = loop, slow: list[np.ndarray] = slow) -> None:
            slow[:] = [_by_class(loop, rows, settings.nms_sigma, settings.nms_added_seconds) for rows in scored]

        line[f"{name}_seconds"] = best_seconds(run, repeats)
        line[f"times_faster_than_{name}"] = line[f"{name}_seconds"] / line["seconds"]
        difference = max(np.abs(one[:, 3] - other[:, 3]).max() for one, other in zip(kept, slow, strict=True))
        assert difference < 1e-9, difference
    emit({**line, **machine})

    found = {
        annotation.video_id: to_detections(rows, CLASSES) for (annotation, *_), rows in zip(videos, kept, strict=True)
    }
    truth = {annotation.video_id: annotation for annotation, *_ in videos}
    thresholds = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    result = evaluate(found, truth, thresholds)  # compiles
    seconds = best_seconds(lambda: evaluate(found, truth, thresholds))
    emit(
        {
            "what": "evaluation",
            "videos": len(videos),
            "detections": total,
            "thresholds": len(thresholds),
            "average_mAP": round(100 * result.average, 2),
            "seconds": seconds,
            **machine,
        }
    )


def _video(name: str, rng: np.random.Generator) -> tuple[VideoAnnotation, np.ndarray, np.ndarray]:
    """A video of THUMOS14's length: its segments, class scores P [T, C] and background b [T]."""
    length = int(rng.gamma(2.0, 150.0)) + 40
    fused, attention = 0.05 * rng.random((length, len(CLASSES))), 0.1 * rng.random(length)
    segments = []
    labels = rng.choice(len(CLASSES), 2, replace=False)
    for start in np.sort(rng.choice(length - 12, max(2, length // 25), replace=False)):
        label, extent = int(rng.choice(labels)), int(rng.integers(2, 12))
        rise = np.hanning(extent + 2)[1:-1] * rng.uniform(0.3, 1) + 0.15 * rng.standard_normal(extent)
        place = slice(start, start + extent)
        fused[place, label] = np.maximum(fused[place, label], rise.clip(0, 1))
        attention[place] = np.maximum(attention[place], rise.clip(0, 1))
        segments.append(Segment(CLASSES[label], start * SECONDS, (start + extent) * SECONDS))
    annotation = VideoAnnotation(name, "Test", length * SECONDS, 25.0, tuple(segments))
    return annotation, fused.astype(np.float32), (1 - attention).astype(np.float32)


def _detections(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` detections in seconds: a video's candidates drawn at random and moved a little, as stage 2 moves them."""
    rows = candidates[rng.choice(len(candidates), count, replace=len(candidates) < count)].copy()
    lengths = rows[:, 1:2] - rows[:, :1]
    rows[:, :2] += 0.1 * lengths * rng.standard_normal((count, 2))
    rows[:, :2] *= SECONDS
    rows[:, 3] += rng.random(count)
    return rows[rows[:, 0] < rows[:, 1]]


def _by_class(
    loop: Callable[[np.ndarray, float, float], np.ndarray], rows: np.ndarray, sigma: float, added: float
) -> np.ndarray:
    joined = np.concatenate([loop(rows[rows[:, 2] == label], sigma, added) for label in np.unique(rows[:, 2])])
    return joined[np.argsort(-joined[:, 3], kind="stable")]


def _numpy_loop(rows: np.ndarray, sigma: float, added: float) -> np.ndarray:
    rest, kept = rows.copy(), []
    while len(rest):
        best = int(np.argmax(rest[:, 3]))
        top = rest[best]
        rest = np.delete(rest, best, axis=0)
        kept.append(top)
        shared = np.maximum(np.minimum(top[1], rest[:, 1]) - np.maximum(top[0], rest[:, 0]) + added, 0)
        union = (top[1] - top[0] + added) + (rest[:, 1] - rest[:, 0] + added) - shared
        rest[:, 3] *= np.exp(-((shared / union) ** 2) / sigma)
    return np.array(kept)


def _python_loop(rows: np.ndarray, sigma: float, added: float) -> np.ndarray:
    rest, kept = rows.tolist(), []
    while rest:
        top = rest.pop(max(range(len(rest)), key=lambda row: rest[row][3]))
        kept.append(top)
        for row in rest:
            shared = max(min(top[1], row[1]) - max(top[0], row[0]) + added, 0.0)
            union = (top[1] - top[0] + added) + (row[1] - row[0] + added) - shared
            row[3] *= math.exp(-((shared / union) ** 2) / sigma)
    return np.array(kept)


if __name__ == "__main__":
    main()
