"""Stage 2: the proposals it learns from, and one epoch over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.configs.schema import InstanceSettings, Settings
from hrpro_pipeline.data.dataset import TrainingVideo
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.candidates import find_candidates
from hrpro_pipeline.models.instance import InstanceModel
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.train.losses import best_tiou, regression_loss, score_loss
from hrpro_pipeline.train.pseudo_labels import pseudo_labels
from hrpro_pipeline.train.reliable import negative_proposals, reliable_proposals

LOSSES = ("score", "regression", "total")


@dataclass(frozen=True)
class ProposalSet:
    """What stage 2 learns from in one video.

    Attributes:
        features: [T, D].
        proposals: [M, 2], all candidates and the negative proposals, on the snippet axis.
        reliable: [R, 2], the reliable proposals of the points that have one.
    """

    video_id: str
    features: Tensor
    proposals: Tensor
    reliable: Tensor


def propose(
    model: SnippetModel, video: TrainingVideo, features: Tensor, settings: Settings, rng: np.random.Generator
) -> ProposalSet:
    """Candidates, reliable and negative proposals of one training video (paper, point-based proposal generation).

    Args:
        model: the trained stage 1 network, in eval mode.
        features: the video's features [T, D] on the model's device.
    """
    found = find_candidates(model, features, settings)
    rows = reliable_proposals(found.proposals, video.positions, video.labels)
    _, background_seeds = pseudo_labels(
        torch.from_numpy(found.background),
        torch.from_numpy(video.point_label(len(model.prototypes))),
        settings.snippet.action_threshold,
        settings.snippet.background_threshold,
    )
    count = int(settings.instance.negative_ratio * len(found.proposals))
    negatives = negative_proposals(background_seeds.numpy(), count, rng)
    proposals = np.concatenate([found.proposals[:, :2], negatives])
    reliable = found.proposals[rows[rows >= 0], :2]

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(features.device)

    return ProposalSet(video.video_id, features, tensor(proposals), tensor(reliable))


def train_epoch(
    model: InstanceModel,
    videos: Sequence[ProposalSet],
    optimizer: torch.optim.Optimizer,
    settings: InstanceSettings,
    rng: np.random.Generator,
) -> dict[str, float]:
    """One pass over the videos in random order; the tail that fills no batch is dropped.

    Args:
        videos: at least one, each with at least one proposal.

    Returns:
        The losses named in LOSSES, averaged over batches.

    Raises:
        HrproError: a loss is not finite.
    """
    batch_size = min(settings.batch_size, len(videos))
    order = rng.permutation(len(videos))
    rows = []
    for first in range(0, len(order) - batch_size + 1, batch_size):
        optimizer.zero_grad(set_to_none=True)
        for index in order[first : first + batch_size]:
            losses = _video_losses(model, videos[index], settings, rng)
            if not bool(torch.isfinite(losses[-1])):
                raise HrproError(f"{videos[index].video_id}: the loss is not finite; lower instance.learning_rate")
            (losses[-1] / batch_size).backward()
            rows.append(losses.detach())
        optimizer.step()
    return dict(zip(LOSSES, torch.stack(rows).mean(dim=0).tolist(), strict=True))


def _video_losses(
    model: InstanceModel, video: ProposalSet, settings: InstanceSettings, rng: np.random.Generator
) -> Tensor:
    proposals = video.proposals
    if len(proposals) > settings.max_proposals:
        chosen = rng.choice(len(proposals), settings.max_proposals, replace=False)
        proposals = proposals[torch.from_numpy(chosen).to(proposals.device)]
    scores = model(video.features, proposals)
    target = best_tiou(proposals, video.reliable)
    draws = torch.from_numpy(rng.random(len(proposals), np.float32)).to(proposals.device)
    score = settings.score_weight * score_loss(scores.completeness, target, draws, settings.iou_threshold)
    regression = settings.regression_weight * regression_loss(
        scores.refined, proposals, video.reliable, settings.iou_threshold
    )
    return torch.stack([score, regression, score + regression])
