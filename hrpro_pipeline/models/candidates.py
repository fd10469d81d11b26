"""From a video's features to its candidate proposals: the snippet model and the proposal arithmetic joined."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.models.proposals import candidate_proposals
from hrpro_pipeline.models.snippet import SnippetModel, video_scores


@dataclass(frozen=True)
class Candidates:
    """proposals: [M, 4] rows of start, end, class, score on the snippet axis; fused: P, [T, C]; background: b, [T]."""

    proposals: np.ndarray
    fused: np.ndarray
    background: np.ndarray


@torch.inference_mode()
def find_candidates(model: SnippetModel, features: Tensor, settings: Settings) -> Candidates:
    """Score a video [T, D] with a model in eval mode and cut out its candidates."""
    scores = model(features.unsqueeze(0))
    whole = video_scores(scores.class_scores, settings.snippet.topk_divisor)[0].float().cpu().numpy()
    fused, background = scores.fused[0].float().cpu().numpy(), scores.background[0].float().cpu().numpy()
    detect = settings.detect
    proposals = candidate_proposals(
        fused,
        background,
        whole,
        upsample_factor=detect.upsample,
        class_threshold=detect.class_threshold,
        class_grid=detect.class_grid,
        attention_grid=detect.attention_grid,
        outer_ratio=detect.outer_ratio,
        drop_runs_at_zero=detect.drop_runs_at_zero,
    )
    return Candidates(proposals, fused, background)
