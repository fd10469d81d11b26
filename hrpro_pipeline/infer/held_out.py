"""What videos that were held out from training say about a model: how its scores become an answer."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.data.dataset import TrainingVideo
from hrpro_pipeline.infer.answer import fit_calibration
from hrpro_pipeline.infer.detector import scores_and_detections
from hrpro_pipeline.models.calibration import Calibration
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.device import or_on_cpu
from hrpro_pipeline.models.pseudo_segments import pseudo_segments


def calibrate(model: TrainedModel, videos: Sequence[TrainingVideo], device: torch.device) -> Calibration | None:
    """Learn from the points of held-out videos what a model's answer is.

    The pseudo segments of the points, cut from the scores of stage 1, stand for the truth.

    Returns:
        None where nothing can be learned: no detection is right, or none is wrong.
    """
    model.to(device)
    detections, segments = {}, {}
    for video in videos:
        features = torch.from_numpy(np.asarray(video.features))
        compute = partial(_compare, model, video)
        detections[video.video_id], segments[video.video_id] = or_on_cpu(
            compute, model, features, device, video.video_id
        )
    model.to(torch.device("cpu"))
    return fit_calibration(detections, segments)


def _compare(model: TrainedModel, video: TrainingVideo, features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Detections [M, 4] of a video, and its pseudo segments, rows [K, 3] of start, end, class; both in seconds."""
    scores, detections = scores_and_detections(model.on_clock(video.clock), features)
    peak_ratio = model.settings.pyramid.peak_ratio
    bounds = pseudo_segments(scores.fused, video.positions, video.labels, peak_ratio, video.background)
    return detections, np.column_stack([video.clock.to_seconds(bounds), video.labels])
