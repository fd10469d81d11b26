"""Stage 1: what one of its optimizer steps does, and the order of the videos."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.configs.schema import SnippetSettings
from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo
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
from hrpro_pipeline.train.stage import Compute, Stage, adam

# Steps whose losses are read together.
_STEPS_A_LOG = 10

LOSSES = ("video", "point", "background", "contrastive", "total")


@dataclass(frozen=True)
class SnippetBatch:
    """Packed training videos as the network takes them.

    Attributes:
        video_ids: [B].
        features: [N, D].
        points: [N, C] of 0 and 1.
        packing: of the videos.
        background: bool [N], snippets that people found no action in; None where they marked none.
    """

    video_ids: list[str]
    features: Tensor
    points: Tensor
    packing: Packing
    background: Tensor | None = None


def snippet_stage(
    model: SnippetModel, data: TrainingSet, settings: SnippetSettings, compute: Compute, seed: int, num_snapshots: int
) -> Stage:
    """Stage 1 for the training loop.

    Args:
        num_snapshots: of reliable snippets and proposals, evenly spread over the steps.
    """
    optimizer = adam(model, settings.learning_rate, settings.weight_decay)

    def step(parts: Iterator[SnippetBatch | None], batch_size: int) -> Tensor:
        return train_step(model, parts, batch_size, optimizer, settings, compute.precision)

    return Stage(
        name="snippet",
        number=1,
        title="stage 1 (snippets)",
        unit="step",
        network=model,
        optimizer=optimizer,
        num_rounds=settings.steps,
        accumulate=settings.accumulate,
        losses=LOSSES,
        order=lambda number: [batch_order(number - 1, len(data.videos), settings.batch_size, seed)],
        batches=lambda parts: snippet_batches(data, compute, [videos for _, videos in parts]),
        step=step,
        log_every=_STEPS_A_LOG,
        evaluate_every=settings.evaluate_every,
        save_every=settings.evaluate_every,
        snapshots=frozenset(round(settings.steps * part / num_snapshots) for part in range(1, num_snapshots + 1)),
    )


def snippet_batches(data: TrainingSet, compute: Compute, orders: Sequence[list[int]]) -> Iterator[SnippetBatch]:
    """A batch of each list of training videos."""
    for order, features in zip(orders, compute.bank.batches(orders), strict=True):
        yield pack([data.videos[index] for index in order], features, len(data.classes))


def pack(videos: Sequence[TrainingVideo], features: Tensor, num_classes: int) -> SnippetBatch:
    """Join the points of videos to their packed features [N, D]."""
    lengths = [len(video.features) for video in videos]
    starts = np.cumsum([0, *lengths[:-1]])
    rows = np.concatenate([start + video.snippets for start, video in zip(starts, videos, strict=True)])
    labels = np.concatenate([video.labels for video in videos])
    places = send(np.stack([rows, labels]), features.device)
    points = torch.zeros(len(features), num_classes, device=features.device)
    points[places[0], places[1]] = 1
    background = None
    if any(len(video.background) for video in videos):
        marked = [
            start + np.clip(np.floor(video.background).astype(np.int64), 0, length - 1)
            for start, length, video in zip(starts, lengths, videos, strict=True)
        ]
        background = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        background[send(np.concatenate(marked), features.device)] = True
    packing = Packing.of(lengths, features.device)
    return SnippetBatch([video.video_id for video in videos], features, points, packing, background)


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
    losses_of_parts = [torch.empty(0, len(LOSSES), device=model.prototypes.device)]
    for part in parts:
        if part is None:  # the other processes still tell how the memory moves
            no_means = model.prototypes[None][:0]
            _move_prototypes(model, no_means, no_means[..., 0] > 0, batch_size, settings.momentum)
            continue
        with matrix_products(precision, part.features.device):
            scores = model(part.features, part.packing)
        losses = _losses(model, scores, part, batch_size, settings)
        (losses[:, -1].sum() / batch_size).backward()
        losses_of_parts.append(losses.detach())
    parallel.sum_gradients(model)
    optimizer.step()
    return torch.cat(losses_of_parts)


def _losses(
    model: SnippetModel, scores: SnippetScores, batch: SnippetBatch, batch_size: int, settings: SnippetSettings
) -> Tensor:
    """The losses of each video [B, 5]; moves the model's prototypes by the action seeds."""
    packing, points = batch.packing, batch.points
    video, num_videos = packing.video, len(packing)
    channels = torch.cat([scores.fused, scores.background[:, None]], dim=1)  # [N, C + 1]
    action_seeds, background_seeds = pseudo_labels(
        scores.background.detach(),
        *(points, packing, settings.action_threshold, settings.background_threshold, batch.background),
    )
    means, has_seeds = seed_means(scores.embedding.detach(), action_seeds, packing)
    prototypes = _move_prototypes(model, means, has_seeds, batch_size, settings.momentum)
    present = (per_video(points, video, num_videos) > 0).to(points.dtype)
    scores_of_videos = video_scores(scores.class_scores, packing.lengths, settings.topk_divisor, present)
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
        video_loss(scores_of_videos, present),
        point_loss(channels, points, video, num_videos),
        background_loss(channels, background_seeds, video, num_videos),
        contrast,
    ]
    weights = (settings.video_weight, settings.point_weight, settings.background_weight, settings.contrastive_weight)
    total = sum((weight * loss for weight, loss in zip(weights, losses, strict=True)), start=losses[0].new_zeros(()))
    return torch.stack([*losses, total], dim=1)


def _move_prototypes(model: SnippetModel, means: Tensor, present: Tensor, batch_size: int, momentum: float) -> Tensor:
    """Move the memory by the videos of a part, those of other processes too.

    Returns:
        The memory that each of this process's videos sees, [b, C, D].
    """
    all_means, all_present, own_rows = parallel.gather_videos(means, present, batch_size)
    moved = moving_prototypes(model.prototypes, all_means, all_present, momentum)
    # Not in place: the graph of the contrastive loss holds the memory as it was.
    model.prototypes = moved[-1].clone()
    return moved[:-1][own_rows]


def batch_order(step: int, num_videos: int, batch_size: int, seed: int) -> np.ndarray:
    """Videos of a step (from 0): each epoch is a new random order, whose tail that fills no batch is dropped.

    A function of the step alone, so that a resumed run goes on as an undisturbed one would.
    """
    batch_size = min(batch_size, num_videos)
    per_epoch = num_videos // batch_size
    order = np.random.default_rng([seed, 1, step // per_epoch]).permutation(num_videos)
    start = step % per_epoch * batch_size
    return order[start : start + batch_size]
