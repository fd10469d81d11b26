"""Losses of both stages and the prototype memory: pure functions, one video at a time."""

import torch
from torch import Tensor
from torch.nn import functional as F


def focal_loss(scores: Tensor, target: Tensor, chosen: Tensor) -> Tensor:
    """Focal binary cross-entropy (gamma 2) of the chosen snippets (paper, Eq. 1).

    Args:
        scores: [T, C + 1] in 0..1: fused class scores P and, last, background b.
        target: [T, C + 1] of 0 and 1.
        chosen: bool [T].

    Returns:
        Scalar: summed over channels, averaged over the chosen snippets; 0 where there is none.
    """
    wrong = (1 - scores) * target + scores * (1 - target)
    entropy = F.binary_cross_entropy(scores, target, reduction="none")
    weight = chosen.to(scores.dtype)
    return ((wrong**2 * entropy).sum(dim=1) * weight).sum() / (weight.sum() + 1e-6)


def point_loss(scores: Tensor, points: Tensor) -> Tensor:
    """Focal loss at the labelled points; scores [T, C + 1], points [T, C]."""
    return focal_loss(scores, F.pad(points, (0, 1)), points.amax(dim=1) > 0)


def background_loss(scores: Tensor, background_seeds: Tensor) -> Tensor:
    """Focal loss at the background seeds: b is 1 there, every class 0; scores [T, C + 1], seeds bool [T]."""
    target = torch.zeros_like(scores)
    target[:, -1] = 1
    return focal_loss(scores, target, background_seeds)


def contrastive_loss(
    embedding: Tensor,
    prototypes: Tensor,
    action_seeds: Tensor,
    background_seeds: Tensor,
    temperature: float,
    drop_last_snippet: bool,
) -> Tensor:
    """Pull action seeds to their class's prototype, from other prototypes and from the video's background.

    As the published code has it: exp-similarities are averaged over the snippets of a class first, and two logarithms
    are halved (the paper's Eq. 7 sums per snippet and takes one).

    Args:
        embedding: [T, D]. prototypes: [C, D]; rows of zeros (classes without points) take no part.
        action_seeds: [T, C]. background_seeds: bool [T].
        drop_last_snippet: leave the video's last snippet out, as the published code does.

    Returns:
        Scalar: summed over the video's classes and divided by their number; 0 where the video has no background.
    """
    num_classes = (action_seeds > 0).any(dim=0).sum()
    if drop_last_snippet:
        embedding, action_seeds, background_seeds = embedding[:-1], action_seeds[:-1], background_seeds[:-1]
    known = prototypes.any(dim=1)
    present = (action_seeds > 0).any(dim=0) & known
    if not bool(background_seeds.any()) or not bool(present.any()):
        return embedding.new_zeros(())
    similarity = torch.exp(F.normalize(embedding, dim=1) @ F.normalize(prototypes, dim=1).T / temperature)  # [T, C]
    seeds = action_seeds[:, present].to(similarity.dtype)
    own = seeds.T @ similarity / seeds.sum(dim=0)[:, None]  # [K, C]: mean over a class's seeds
    background = similarity[background_seeds].mean(dim=0)  # [C]
    matched = own[:, present].diagonal()
    against_classes = -torch.log(matched / (own * known).sum(dim=1))
    against_background = -torch.log(matched / (matched + background[present]))
    return (0.5 * against_classes + 0.5 * against_background).sum() / num_classes


def video_loss(video_scores: Tensor, points: Tensor) -> Tensor:
    """Binary cross-entropy of video scores [C] against the classes that have points [T, C]."""
    return F.binary_cross_entropy(video_scores, points.amax(dim=0))


@torch.no_grad()
def update_prototypes(prototypes: Tensor, embedding: Tensor, action_seeds: Tensor, momentum: float) -> None:
    """Move the prototypes [C, D] in place towards the mean embedding of a video's seeds (paper, Eq. 3)."""
    present = (action_seeds > 0).any(dim=0)
    seeds = action_seeds[:, present].to(embedding.dtype)
    means = seeds.T @ embedding / seeds.sum(dim=0)[:, None]
    prototypes[present] = momentum * prototypes[present] + (1 - momentum) * means


def tiou(first: Tensor, second: Tensor) -> Tensor:
    """Temporal IoU of [M, 2] with [R, 2] -> [M, R]; intersections of reversed or disjoint segments count as 0."""
    start = torch.maximum(first[:, None, 0], second[None, :, 0])
    end = torch.minimum(first[:, None, 1], second[None, :, 1])
    shared = end - start
    union = (first[:, 1] - first[:, 0])[:, None] + (second[:, 1] - second[:, 0])[None] - shared
    return (shared / (union + 1e-6)).clamp(min=0)


def best_tiou(proposals: Tensor, reliable: Tensor) -> Tensor:
    """The highest tIoU of each proposal [M, 2] with any reliable proposal [R, 2] -> [M]; 0 where R = 0."""
    if not len(reliable):
        return proposals.new_zeros(len(proposals))
    return tiou(proposals, reliable).amax(dim=1)


def score_loss(completeness: Tensor, target: Tensor, draws: Tensor, iou_threshold: float) -> Tensor:
    """Smooth L1 of completeness [M] to the tIoU with the reliable proposals [M] (paper, Eq. 13).

    All proposals at or over the threshold count, and at random about as many of the others.

    Args:
        draws: [M], uniform in 0..1.
    """
    positive = target >= iou_threshold
    num_positive, num_other = positive.sum(), (~positive).sum()
    share = (num_positive / num_other.clamp(min=1)).clamp(max=1.0)
    weight = (positive | (draws * ~positive > 1 - share)).to(completeness.dtype)
    loss = F.smooth_l1_loss(completeness, target, reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1)


def regression_loss(refined: Tensor, proposals: Tensor, reliable: Tensor, iou_threshold: float) -> Tensor:
    """Smooth L1 of the refined proposals' tIoU to 1, over proposals at or over the threshold (paper, Eq. 14).

    Args:
        refined, proposals: [M, 2]. reliable: [R, 2].
    """
    weight = (best_tiou(proposals, reliable) >= iou_threshold).to(refined.dtype)
    reached = best_tiou(refined, reliable)
    loss = F.smooth_l1_loss(reached, torch.ones_like(reached), reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1)
