"""Stage 1: one optimizer step, the prototype memory's start, and the order of the videos."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.configs.schema import SnippetSettings
from hrpro_pipeline.data.dataset import TrainingVideo
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.device import send
from hrpro_pipeline.models.precision import Precision, matrix_products
from hrpro_pipeline.models.snippet import Packing, SnippetModel, SnippetScores, video_scores
from hrpro_pipeline.train import parallel
from hrpro_pipeline.train.losses import (
    background_loss,
    contrastive_loss,
    moving_prototypes,
    per_video,
    point_loss,
    seed_means,
    video_loss,
)
from hrpro_pipeline.train.pseudo_labels import pseudo_labels

LOSSES = ("video", "point", "background", "contrastive", "total")


@dataclass(frozen=True)
class SnippetBatch:
    """Packed training videos as the network takes them.

    Attributes:
        video_ids: [B].
        features: [N, D].
        points: [N, C] of 0 and 1.
        packing: of the videos.
    """

    video_ids: list[str]
    features: Tensor
    points: Tensor
    packing: Packing


def pack(videos: Sequence[TrainingVideo], features: Tensor, num_classes: int) -> SnippetBatch:
    """Join the points of videos to their packed features [N, D]."""
    lengths = [len(video.features) for video in videos]
    starts = np.cumsum([0, *lengths[:-1]])
    rows = np.concatenate([start + video.snippets for start, video in zip(starts, videos, strict=True)])
    labels = np.concatenate([video.labels for video in videos])
    where = send(np.stack([rows, labels]), features.device)
    points = torch.zeros(len(features), num_classes, device=features.device)
    points[where[0], where[1]] = 1
    return SnippetBatch([video.video_id for video in videos], features, points, Packing.of(lengths, features.device))


@torch.no_grad()
def initialize_prototypes(model: SnippetModel, batches: Iterable[SnippetBatch]) -> None:
    """Set each prototype to the mean embedding at its class's points (paper, Eq. 2); zeros for a class without.

    Raises:
        HrproError: what the network makes of a video is not finite.
    """
    training = model.training
    model.eval()
    total = torch.zeros_like(model.prototypes)
    count = torch.zeros_like(model.prototypes[:, :1])
    for batch in batches:
        embedding = model(batch.features, batch.packing).embedding
        if not bool(embedding.isfinite().all()):
            raise HrproError(f"{', '.join(batch.video_ids)}: the embedding is not finite; look at the features")
        total += batch.points.T @ embedding
        count += batch.points.sum(dim=0)[:, None]
    model.prototypes.copy_(total / count.clamp(min=1))
    model.train(training)


def train_step(
    model: SnippetModel,
    parts: Iterable[SnippetBatch | None],
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    settings: SnippetSettings,
    precision: Precision = "float32",
) -> Tensor:
    """One step over whole videos: the loss of each, averaged; the memory moves after each video.

    Losses see the memory as it moves, video by video, as in the published code; attention sees it as it was before
    the videos that go through the network together. Nothing waits for the device here: a loss that is not finite is
    the caller's to find.

    Args:
        parts: the step's videos, in parts that go through the network one after the other; None where another process
            has all videos of a part.
        batch_size: videos of the step, over all parts and processes.

    Returns:
        The losses named in LOSSES of this process's videos, [b, 5], on the device.
    """
    optimizer.zero_grad(set_to_none=True)
    found = [torch.empty(0, len(LOSSES), device=model.prototypes.device)]
    for part in parts:
        if part is None:  # the other processes still tell how the memory moves
            nothing = model.prototypes[None][:0]
            _move_prototypes(model, nothing, nothing[..., 0] > 0, batch_size, settings.momentum)
            continue
        with matrix_products(precision, part.features.device):
            scores = model(part.features, part.packing)
        losses = _losses(model, scores, part, batch_size, settings)
        (losses[:, -1].sum() / batch_size).backward()
        found.append(losses.detach())
    parallel.sum_gradients(model)
    optimizer.step()
    return torch.cat(found)


def _losses(
    model: SnippetModel, scores: SnippetScores, batch: SnippetBatch, batch_size: int, settings: SnippetSettings
) -> Tensor:
    """The losses of each video [B, 5]; moves the model's prototypes by the action seeds."""
    packing, points = batch.packing, batch.points
    video, num_videos = packing.video, len(packing)
    channels = torch.cat([scores.fused, scores.background[:, None]], dim=1)  # [N, C + 1]
    action_seeds, background_seeds = pseudo_labels(
        scores.background.detach(), points, packing, settings.action_threshold, settings.background_threshold
    )
    means, has_seeds = seed_means(scores.embedding.detach(), action_seeds, packing)
    prototypes = _move_prototypes(model, means, has_seeds, batch_size, settings.momentum)
    present = (per_video(points, video, num_videos) > 0).to(points.dtype)
    whole = video_scores(scores.class_scores, packing.lengths, settings.topk_divisor, present)
    contrast = contrastive_loss(
        scores.embedding,
        prototypes,
        action_seeds,
        background_seeds,
        packing,
        settings.temperature,
        settings.drop_last_snippet,
    )
    losses = [
        video_loss(whole, present),
        point_loss(channels, points, video, num_videos),
        background_loss(channels, background_seeds, video, num_videos),
        contrast,
    ]
    weights = (settings.video_weight, settings.point_weight, settings.background_weight, settings.contrastive_weight)
    total = sum((weight * loss for weight, loss in zip(weights, losses, strict=True)), start=losses[0].new_zeros(()))
    return torch.stack([*losses, total], dim=1)


def _move_prototypes(model: SnippetModel, means: Tensor, present: Tensor, batch_size: int, momentum: float) -> Tensor:
    """Move the memory by the videos of a part, those of other processes too -> what each own video sees, [b, C, D]."""
    all_means, all_present, own = parallel.gather_videos(means, present, batch_size)
    moved = moving_prototypes(model.prototypes, all_means, all_present, momentum)
    # Not in place: the graph of the contrastive loss holds the memory as it was.
    model.prototypes = moved[-1].clone()
    return moved[:-1][own]


def batch_order(step: int, num_videos: int, batch_size: int, seed: int) -> np.ndarray:
    """Videos of a step (from 0): each epoch is a new random order, whose tail that fills no batch is dropped.

    A function of the step alone, so that a resumed run goes on as an undisturbed one would.
    """
    batch_size = min(batch_size, num_videos)
    per_epoch = num_videos // batch_size
    order = np.random.default_rng([seed, 1, step // per_epoch]).permutation(num_videos)
    start = step % per_epoch * batch_size
    return order[start : start + batch_size]
