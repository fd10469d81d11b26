"""Stage 2: the proposals it learns from, and one step over them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hrpro_pipeline.configs.schema import InstanceSettings, Settings
from hrpro_pipeline.data.dataset import TrainingVideo
from hrpro_pipeline.models.candidates import find_candidates
from hrpro_pipeline.models.device import or_on_cpu, send
from hrpro_pipeline.models.instance import InstanceModel, pool_parts
from hrpro_pipeline.models.precision import Precision, matrix_products
from hrpro_pipeline.models.snippet import Packing, SnippetModel
from hrpro_pipeline.train import parallel
from hrpro_pipeline.train.losses import best_tiou, regression_loss, score_loss
from hrpro_pipeline.train.pseudo_labels import pseudo_labels
from hrpro_pipeline.train.reliable import containing, negative_proposals, reliable_proposals

LOSSES = ("score", "regression", "total")


@dataclass(frozen=True)
class ProposalSet:
    """What stage 2 learns from in one video; arrays float32.

    Attributes:
        index: of the video among the training videos.
        num_snippets: T.
        proposals: [M, 2], all candidates and the negative proposals, on the snippet axis.
        reliable: [R, 2], the reliable proposals of the points that have one.
    """

    index: int
    num_snippets: int
    proposals: np.ndarray
    reliable: np.ndarray


@dataclass(frozen=True)
class InstanceBatch:
    """Proposals of packed videos.

    Attributes:
        features: [N, D], packed as `packing` says.
        proposals: [M, 2]. video: [M], of each proposal.
        reliable: [B, R, 2], rows of NaN where a video has fewer than R.
        draws: [M], uniform in 0..1, for the score loss.
    """

    features: Tensor
    packing: Packing
    proposals: Tensor
    video: Tensor
    reliable: Tensor
    draws: Tensor


def propose(
    model: SnippetModel,
    video: TrainingVideo,
    index: int,
    features: Tensor,
    settings: Settings,
    rng: np.random.Generator,
) -> ProposalSet:
    """Candidates, reliable and negative proposals of one training video (paper, point-based proposal generation).

    Args:
        model: the trained stage 1 network, in eval mode.
        features: the video's features [T, D] on the model's device.
    """
    found = or_on_cpu(
        lambda there: find_candidates(model, there, settings),
        *(model, features, features.device, video.video_id),
    )
    candidates = found.proposals
    if settings.instance.reliable_proposals:
        rows = reliable_proposals(candidates, video.positions, video.labels)
        reliable = candidates[rows[rows >= 0], :2]
    else:
        reliable = candidates[containing(candidates, video.positions, video.labels).any(axis=0), :2]
    _, background_seeds = video_seeds(found.background, video, len(model.prototypes), settings)
    count = int(settings.instance.negative_ratio * len(candidates))
    negatives = negative_proposals(background_seeds, count, rng)
    proposals = np.concatenate([candidates[:, :2], negatives])
    return ProposalSet(index, len(features), proposals.astype(np.float32), reliable.astype(np.float32))


def video_seeds(
    background: np.ndarray, video: TrainingVideo, num_classes: int, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo labels of one video from its background scores b [T] -> action seeds, bool [T, C], and background, [T]."""
    points = torch.zeros(len(background), num_classes)
    points[video.snippets, video.labels] = 1
    action_seeds, background_seeds = pseudo_labels(
        torch.from_numpy(background),
        points,
        Packing.of([len(points)], points.device),
        settings.snippet.action_threshold,
        settings.snippet.background_threshold,
    )
    return action_seeds.numpy() > 0, background_seeds.numpy()


def pack(
    videos: Sequence[ProposalSet], features: Tensor, max_proposals: int, rngs: Sequence[np.random.Generator]
) -> InstanceBatch:
    """Join the proposals of videos, at most `max_proposals` of each drawn at random, to their packed features [N, D].

    Args:
        rngs: one for each video, so that its draws do not depend on the other videos.
    """
    proposals, draws = [], []
    for video, rng in zip(videos, rngs, strict=True):
        chosen = video.proposals
        if len(chosen) > max_proposals:
            chosen = chosen[rng.choice(len(chosen), max_proposals, replace=False)]
        proposals.append(chosen)
        draws.append(rng.random(len(chosen), np.float32))
    owner = np.repeat(np.arange(len(videos)), [len(rows) for rows in proposals])
    reliable = pad_sequence(
        [torch.from_numpy(video.reliable) for video in videos], batch_first=True, padding_value=torch.nan
    )

    device = features.device
    return InstanceBatch(
        features=features,
        packing=Packing.of([video.num_snippets for video in videos], device),
        proposals=send(np.concatenate(proposals), device),
        video=send(owner, device),
        reliable=send(reliable.numpy(), device),
        draws=send(np.concatenate(draws), device),
    )


def train_step(
    model: InstanceModel,
    parts: Iterable[InstanceBatch | None],
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    settings: InstanceSettings,
    precision: Precision = "float32",
) -> Tensor:
    """One step over the proposals of whole videos: the loss of each, averaged.

    Args:
        parts, batch_size: as for stage 1.

    Returns:
        The losses named in LOSSES of this process's videos, [b, 3], on the device.
    """
    optimizer.zero_grad(set_to_none=True)
    found = [torch.empty(0, len(LOSSES), device=next(model.parameters()).device)]
    for part in parts:
        if part is None:
            continue
        pooled = pool_parts(part.features, part.packing.first, part.packing.count, part.proposals, part.video)
        with matrix_products(precision, part.features.device):
            scores = model(pooled, part.proposals)
        target = best_tiou(part.proposals, part.reliable, part.video)
        score = score_loss(
            scores.completeness, target, part.draws, settings.iou_threshold, part.video, len(part.packing)
        )
        regression = regression_loss(scores.refined, target, part.reliable, settings.iou_threshold, part.video)
        score, regression = settings.score_weight * score, settings.regression_weight * regression
        losses = torch.stack([score, regression, score + regression], dim=1)
        (losses[:, -1].sum() / batch_size).backward()
        found.append(losses.detach())
    parallel.sum_gradients(model)
    optimizer.step()
    return torch.cat(found)
