"""Stage 1: one optimiser step, the prototype memory's start, and the order of the videos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hrpro_pipeline.configs.schema import SnippetSettings
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.snippet import SnippetModel, SnippetScores, video_scores
from hrpro_pipeline.train.losses import (
    background_loss,
    contrastive_loss,
    point_loss,
    update_prototypes,
    video_loss,
)
from hrpro_pipeline.train.pseudo_labels import pseudo_labels

# Snippets, padding included, that go through the network together: enough to fill matrix products.
_TOKENS = 1024
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

    Losses see the memory as it moves, video by video, as in the published code; attention sees it as it was before
    the step, so that videos go through the network together.

    Returns:
        The losses named in LOSSES, [B] each, in the order that the videos went through the network.

    Raises:
        HrproError: a score or loss is not finite; nothing is updated by it.
    """
    device = model.prototypes.device
    optimizer.zero_grad(set_to_none=True)
    rows = []
    for group in length_groups(batch):
        lengths = torch.tensor([len(video.features) for video in group], device=device)
        padded = pad_sequence([video.features for video in group], batch_first=True).to(device)
        scores = model(padded, lengths)
        totals = []
        for index, video in enumerate(group):
            length = len(video.features)
            own = SnippetScores(*(part[index, :length] for part in scores))
            losses = _video_losses(model, own, video, settings)
            totals.append(losses[-1])
            rows.append(losses.detach())
        (torch.stack(totals).sum() / len(batch)).backward()
    optimizer.step()
    return dict(zip(LOSSES, torch.stack(rows, dim=1), strict=True))


def _video_losses(
    model: SnippetModel, scores: SnippetScores, video: TrainingTensors, settings: SnippetSettings
) -> Tensor:
    """The losses of one video [len(LOSSES)] from its own scores; moves the prototypes by its action seeds."""
    points = video.points.to(model.prototypes.device)
    channels = torch.cat([scores.fused, scores.background[:, None]], dim=1)  # [T, C + 1]
    _require_finite(channels.sum(), video.video_id)  # binary cross-entropy breaks off on NaN without a name
    action_seeds, background_seeds = pseudo_labels(
        scores.background.detach(), points, settings.action_threshold, settings.background_threshold
    )
    whole = video_scores(scores.class_scores[None], settings.topk_divisor, points.amax(dim=0, keepdim=True))[0]
    losses = torch.stack(
        [
            video_loss(whole, points),
            point_loss(channels, points),
            background_loss(channels, background_seeds),
            contrastive_loss(
                scores.embedding,
                model.prototypes,
                action_seeds,
                background_seeds,
                settings.temperature,
                settings.drop_last_snippet,
            ),
        ]
    )
    weights = (settings.video_weight, settings.point_weight, settings.background_weight, settings.contrastive_weight)
    total = (losses * losses.new_tensor(weights)).sum()
    _require_finite(total, video.video_id)
    # The graph of the contrastive loss holds the memory as it was.
    model.prototypes = model.prototypes.clone()
    update_prototypes(model.prototypes, scores.embedding.detach(), action_seeds, settings.momentum)
    return torch.cat([losses, total[None]])


def length_groups(batch: Sequence[TrainingTensors]) -> list[list[TrainingTensors]]:
    """Cut a batch into groups that are padded together, of at most `_TOKENS` snippets with the padding.

    A batch that fits as it is keeps its order; another is sorted by length, so that little is padding.
    """
    if max(len(video.features) for video in batch) * len(batch) <= _TOKENS:
        return [list(batch)]
    groups: list[list[TrainingTensors]] = []
    for video in sorted(batch, key=lambda video: len(video.features)):
        if groups and len(video.features) * (len(groups[-1]) + 1) <= _TOKENS:
            groups[-1].append(video)
        else:
            groups.append([video])
    return groups


def _require_finite(value: Tensor, video_id: str) -> None:
    if not bool(torch.isfinite(value)):
        raise HrproError(f"{video_id}: scores or loss are not finite; lower snippet.learning_rate")


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
