"""Stage 1: one optimiser step, the prototype memory's start, and the order of the videos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.configs.schema import SnippetSettings
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.snippet import SnippetModel, video_scores
from hrpro_pipeline.train.losses import (
    background_loss,
    contrastive_loss,
    point_loss,
    update_prototypes,
    video_loss,
)
from hrpro_pipeline.train.pseudo_labels import pseudo_labels

LOSSES = ("video", "point", "background", "contrastive", "total")


@dataclass(frozen=True)
class TrainingTensors:
    """A training video as the network takes it: features [T, D], points [T, C] of 0 and 1."""

    video_id: str
    features: Tensor
    points: Tensor


@torch.no_grad()
def initialise_prototypes(model: SnippetModel, videos: Sequence[TrainingTensors]) -> None:
    """Set each prototype to the mean embedding at its class's points (paper, Eq. 2); zeros for a class without."""
    training = model.training
    model.eval()
    total = torch.zeros_like(model.prototypes)
    count = torch.zeros_like(model.prototypes[:, :1])
    for video in videos:
        points = video.points.to(total.device)
        embedding = model(video.features[None].to(total.device)).embedding[0]
        _require_finite(embedding.sum(), video.video_id)
        total += points.T @ embedding
        count += points.sum(dim=0)[:, None]
    model.prototypes.copy_(total / count.clamp(min=1))
    model.train(training)


def train_step(
    model: SnippetModel,
    batch: Sequence[TrainingTensors],
    optimizer: torch.optim.Optimizer,
    settings: SnippetSettings,
) -> dict[str, Tensor]:
    """One step over whole videos: the loss of each, averaged; the memory moves after each video.

    Returns:
        The losses named in LOSSES, [B] each.

    Raises:
        HrproError: a loss is not finite; nothing is updated by it.
    """
    device = model.prototypes.device
    optimizer.zero_grad(set_to_none=True)
    rows = []
    for video in batch:
        features, points = video.features.to(device), video.points.to(device)
        scores = model(features[None])
        embedding, background = scores.embedding[0], scores.background[0]
        channels = torch.cat([scores.fused[0], background[:, None]], dim=1)  # [T, C + 1]
        _require_finite(channels.sum(), video.video_id)  # binary cross-entropy breaks off on NaN without a name
        action_seeds, background_seeds = pseudo_labels(
            background.detach(), points, settings.action_threshold, settings.background_threshold
        )
        whole = video_scores(scores.class_scores, settings.topk_divisor, points.amax(dim=0, keepdim=True))[0]
        losses = [
            video_loss(whole, points),
            point_loss(channels, points),
            background_loss(channels, background_seeds),
            contrastive_loss(
                embedding,
                model.prototypes,
                action_seeds,
                background_seeds,
                settings.temperature,
                settings.drop_last_snippet,
            ),
        ]
        weights = (
            settings.video_weight,
            settings.point_weight,
            settings.background_weight,
            settings.contrastive_weight,
        )
        total = torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()
        _require_finite(total, video.video_id)
        (total / len(batch)).backward()
        update_prototypes(model.prototypes, embedding.detach(), action_seeds, settings.momentum)
        rows.append(torch.stack([*losses, total]).detach())
    optimizer.step()
    return dict(zip(LOSSES, torch.stack(rows, dim=1), strict=True))


def _require_finite(value: Tensor, video_id: str) -> None:
    if not bool(torch.isfinite(value)):
        raise HrproError(
            f"{video_id}: scores or loss are not finite; lower snippet.learning_rate"
        )


def batch_order(step: int, num_videos: int, batch_size: int, seed: int) -> np.ndarray:
    """Videos of a step (from 0): each epoch is a new random order, whose tail that fills no batch is dropped.

    A function of the step alone, so that a resumed run goes on as an undisturbed one would.
    """
    batch_size = min(batch_size, num_videos)
    per_epoch = num_videos // batch_size
    order = np.random.default_rng([seed, 1, step // per_epoch]).permutation(num_videos)
    start = step % per_epoch * batch_size
    return order[start : start + batch_size]


def to_tensors(video_id: str, features: np.ndarray, points: np.ndarray) -> TrainingTensors:
    """Arrays [T, D] and [T, C] -> TrainingTensors."""
    return TrainingTensors(video_id, torch.from_numpy(features), torch.from_numpy(points))
