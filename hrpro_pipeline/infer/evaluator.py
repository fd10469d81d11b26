"""Evaluation while training: detect in features, in memory or on disk, and measure the detections."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.dataset import TrainingVideo
from hrpro_pipeline.data.detections import Detection
from hrpro_pipeline.data.features import StoredFeatures
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.infer.detector import Ambiguous, detect_actions, to_detections
from hrpro_pipeline.infer.evaluation import evaluate, point_average_precision
from hrpro_pipeline.models.candidates import find_candidates
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.device import or_on_cpu


@dataclass(frozen=True)
class WatchedVideo:
    """A video that is evaluated while training.

    Attributes:
        features: float32 [T, D], or their file. clock: of the features.
    """

    features: np.ndarray | StoredFeatures
    clock: SnippetClock


def watched(videos: Sequence[TrainingVideo]) -> dict[str, WatchedVideo]:
    """Training videos, by id, as videos to detect in."""
    return {video.video_id: WatchedVideo(video.features, video.clock) for video in videos}


# Detections by video, rows [M, 4] of start and end in seconds, class, score.
DetectionRows = Mapping[str, np.ndarray]
# Takes detections and the class names, gives numbers by name.
Measure = Callable[[DetectionRows, Sequence[str]], dict[str, Any]]


def evaluator(
    videos: Mapping[str, WatchedVideo], ambiguous: Mapping[str, Ambiguous], measures: Sequence[Measure]
) -> Callable[[TrainedModel], dict[str, Any]]:
    """A function that detects with a model in all the given videos, and joins the numbers of all measures.

    Args:
        videos: their features by video id.
        ambiguous: segments by video that detections must not overlap.
    """
    candidates: dict[str, np.ndarray] = {}
    stage_2 = False

    def run(model: TrainedModel) -> dict[str, Any]:
        nonlocal stage_2
        if not stage_2:  # stage 1 changes up to its very end; after that its candidates stay the same
            candidates.clear()
        stage_2 = model.instance is not None
        device = model.snippet.prototypes.device
        detections = {}

        def detect(video_id: str, on_device: Tensor) -> np.ndarray:
            of_video = model.on_clock(videos[video_id].clock)
            if model.pyramid is None and video_id not in candidates:
                candidates[video_id] = find_candidates(model.snippet, on_device, model.settings).proposals
            return detect_actions(of_video, on_device, ambiguous.get(video_id, ()), candidates.get(video_id))

        with progress("evaluating", len(videos), "videos", minor=True) as task:
            for video_id, video in task.each(videos.items()):
                features = torch.from_numpy(np.asarray(video.features))
                detections[video_id] = or_on_cpu(partial(detect, video_id), model, features, device, video_id)
        return {name: value for measure in measures for name, value in measure(detections, model.classes).items()}

    return run


def segment_measure(truth: Mapping[str, VideoAnnotation], tiou: Sequence[float], subset: str) -> Measure:
    """mAP against the segments of `truth`; its videos without features count as missed."""

    def measure(detections: DetectionRows, classes: Sequence[str]) -> dict[str, Any]:
        of_subset: dict[str, list[Detection]] = {
            video_id: to_detections(detections[video_id], classes) for video_id in truth if video_id in detections
        }
        result = evaluate(of_subset, truth, tiou)
        by_threshold = zip(result.tiou, result.mean_average_precision, strict=True)
        return {
            "subset": subset,
            "average": result.average,
            **{f"mAP@{threshold:g}": value for threshold, value in by_threshold},
            "videos": len(of_subset),
            "videos_without_features": result.num_missing,
        }

    return measure


def point_measure(videos: Sequence[TrainingVideo]) -> Measure:
    """Mean over classes of `point_average_precision`, for videos with points alone."""
    times = [video.clock.to_seconds(video.positions) for video in videos]
    video_of_point = np.repeat(np.arange(len(videos)), [len(video.positions) for video in videos])
    points = np.stack([video_of_point, np.concatenate(times)], axis=1)  # [P, 2]
    labels = np.concatenate([video.labels for video in videos])

    def measure(detections: DetectionRows, classes: Sequence[str]) -> dict[str, Any]:
        rows = np.concatenate(
            [np.insert(detections[video.video_id], 0, index, axis=1) for index, video in enumerate(videos)]
        )  # video, start, end, class, score
        values = [
            point_average_precision(rows[rows[:, 3] == label][:, [0, 1, 2, 4]], points, labels, label)
            for label in np.unique(labels)
        ]
        return {"point_mAP": float(np.mean(values)), "validation_videos": len(videos)}

    return measure
