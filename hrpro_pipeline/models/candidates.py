"""Candidate proposals of a video's features: the snippet model and the proposal arithmetic joined."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hrpro_pipeline.configs.schema import DetectSettings, Settings
from hrpro_pipeline.models.proposals import candidate_proposals
from hrpro_pipeline.models.snippet import Packing, SnippetModel, video_scores


@dataclass(frozen=True)
class VideoScores:
    """What stage 1 says of a video.

    Attributes:
        fused: P, [T, C].
        background: b, [T].
        video_scores: scores of the classes in the whole video, [C].
    """

    fused: np.ndarray
    background: np.ndarray
    video_scores: np.ndarray


@dataclass(frozen=True)
class Candidates(VideoScores):
    """The scores of a video, and the candidates that were cut from them.

    Attributes:
        proposals: [M, 4] rows of start, end, class, score on the snippet axis.
    """

    proposals: np.ndarray


def find_candidates(model: SnippetModel, features: Tensor, settings: Settings) -> Candidates:
    """Score a video [T, D] with a model in eval mode and cut out its candidates."""
    scores = score_snippets(model, features, settings)
    proposals = cut_candidates(scores.fused, scores.background, scores.video_scores, settings.detect)
    return Candidates(scores.fused, scores.background, scores.video_scores, proposals)


@torch.inference_mode()
def score_snippets(model: SnippetModel, features: Tensor, settings: Settings) -> VideoScores:
    """Score a video [T, D] with a model in eval mode.

    A video longer than `detect.window` snippets is scored in windows, so that time and memory grow no faster than its
    length: attention stays within a window, and each window gives the scores of its middle. Video scores are the
    maximum over the windows.
    """
    detect = settings.detect
    fused_parts, background_parts, window_scores = [], [], []
    for window, middle in windows(len(features), detect.window):
        length = window.stop - window.start
        scores = model(features[window], Packing.of([length], features.device))
        window_scores.append(video_scores(scores.class_scores, [length], settings.snippet.topk_divisor)[0])
        fused_parts.append(scores.fused[middle])
        background_parts.append(scores.background[middle])
    class_scores = torch.stack(window_scores).amax(dim=0)
    joined = (torch.cat(fused_parts), torch.cat(background_parts), class_scores)
    return VideoScores(*(values.cpu().numpy() for values in joined))


@torch.inference_mode()
def prototype_cosines(model: SnippetModel, features: Tensor, settings: Settings) -> np.ndarray:
    """Cosines of the embeddings of a video [T, D] with the prototypes, [T, C], by a model in eval mode; in windows."""
    directions = F.normalize(model.prototypes, dim=1)
    parts = []
    for window, middle in windows(len(features), settings.detect.window):
        embedding = model(features[window], Packing.of([window.stop - window.start], features.device)).embedding
        parts.append((F.normalize(embedding, dim=1) @ directions.T)[middle])
    return torch.cat(parts).cpu().numpy()


def cut_candidates(
    fused: np.ndarray, background: np.ndarray, video_scores: np.ndarray, detect: DetectSettings
) -> np.ndarray:
    """`candidate_proposals` with the settings' thresholds: P [T, C], b [T], video scores [C] -> [M, 4]."""
    return candidate_proposals(
        fused,
        background,
        video_scores,
        upsample_factor=detect.upsample,
        class_threshold=detect.class_threshold,
        class_grid=detect.class_grid,
        attention_grid=detect.attention_grid,
        outer_ratio=detect.outer_ratio,
        drop_runs_at_zero=detect.drop_runs_at_zero,
    )


def windows(length: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Cut a video of `length` snippets into windows of at most `size` that overlap by half.

    Yields:
        The window, and the part of it whose scores count: its middle half, or up to an end of the video. The parts
        follow each other without gaps.
    """
    step = max(1, size // 2)
    margin = (size - step) // 2
    start = middle_start = 0
    while middle_start < length:
        stop = min(start + size, length)
        middle_stop = length if stop == length else stop - margin
        yield slice(start, stop), slice(middle_start - start, middle_stop - start)
        middle_start = middle_stop
        start += step
