"""From a video's features to its candidate proposals: the snippet model and the proposal arithmetic joined."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.configs.schema import DetectSettings, Settings
from hrpro_pipeline.models.proposals import candidate_proposals
from hrpro_pipeline.models.snippet import Packing, SnippetModel, video_scores


@dataclass(frozen=True)
class Candidates:
    """A video's candidates, and what they were cut from.

    Attributes:
        proposals: [M, 4] rows of start, end, class, score on the snippet axis.
        fused: P, [T, C].
        background: b, [T].
        video_scores: of the classes, [C].
    """

    proposals: np.ndarray
    fused: np.ndarray
    background: np.ndarray
    video_scores: np.ndarray


@torch.inference_mode()
def find_candidates(model: SnippetModel, features: Tensor, settings: Settings) -> Candidates:
    """Score a video [T, D] with a model in eval mode and cut out its candidates.

    A video longer than `detect.window` snippets is scored in windows, so that time and memory grow no faster than its
    length: each window is attended to by itself, and gives the scores of its middle; a class is as sure as in its best
    window.
    """
    detect = settings.detect
    fused, background, whole = [], [], []
    for window, kept in windows(len(features), detect.window):
        scores = model(features[window], Packing.of([window.stop - window.start], features.device))
        whole.append(video_scores(scores.class_scores, [len(scores.class_scores)], settings.snippet.topk_divisor)[0])
        fused.append(scores.fused[kept])
        background.append(scores.background[kept])
    class_scores = torch.stack(whole).amax(dim=0).cpu().numpy()
    joined, joined_background = torch.cat(fused).cpu().numpy(), torch.cat(background).cpu().numpy()
    proposals = cut_candidates(joined, joined_background, class_scores, detect)
    return Candidates(proposals, joined, joined_background, class_scores)


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
    """Cut a video into windows of at most `size` snippets that overlap by half.

    Yields:
        The window, and within it the part whose scores are kept: its middle half, or up to the video's end.
    """
    step = max(1, size // 2)
    margin = (size - step) // 2
    start = kept_to = 0
    while kept_to < length:
        stop = min(start + size, length)
        keep_until = length if stop == length else stop - margin
        yield slice(start, stop), slice(kept_to - start, keep_until - start)
        kept_to = keep_until
        start += step
