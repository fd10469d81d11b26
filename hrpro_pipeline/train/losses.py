"""Losses of both stages and the prototype memory: pure functions over packed videos, a loss for each.

N snippets or M proposals of B videos lie one after the other; `video` [N] or [M] says whose each one is.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from hrpro_pipeline.models.snippet import Packing


def per_video(values: Tensor, video: Tensor, num_videos: int) -> Tensor:
    """Sum rows of [N, ...] by video -> [B, ...]."""
    return values.new_zeros(num_videos, *values.shape[1:]).index_add(0, video, values)


def focal_loss(scores: Tensor, target: Tensor, selected: Tensor, video: Tensor, num_videos: int) -> Tensor:
    """Focal binary cross-entropy (gamma 2) of the selected snippets (paper, Eq. 1).

    Args:
        scores: [N, C + 1] in 0..1: fused class scores P and, last, background b.
        target: [N, C + 1] of 0 and 1.
        selected: bool [N].

    Returns:
        [B]: summed over channels, averaged over a video's selected snippets; 0 where there is none.
    """
    error = (1 - scores) * target + scores * (1 - target)
    # torch's cross-entropy breaks off on NaN, on CUDA for good; here NaN goes on into the loss, which is looked at.
    entropy = F.binary_cross_entropy(scores.nan_to_num(0.5), target, reduction="none")
    weight = selected.to(scores.dtype)
    total = per_video((error**2 * entropy).sum(dim=1) * weight, video, num_videos)
    return total / (per_video(weight, video, num_videos) + 1e-6)


def point_loss(scores: Tensor, points: Tensor, video: Tensor, num_videos: int) -> Tensor:
    """Focal loss at the labeled points; scores [N, C + 1], points [N, C] -> [B]."""
    return focal_loss(scores, F.pad(points, (0, 1)), points.amax(dim=1) > 0, video, num_videos)


def background_loss(scores: Tensor, background_seeds: Tensor, video: Tensor, num_videos: int) -> Tensor:
    """Focal loss at the background seeds: b is 1 there, every class 0; scores [N, C + 1], seeds bool [N] -> [B]."""
    target = torch.zeros_like(scores)
    target[:, -1] = 1
    return focal_loss(scores, target, background_seeds, video, num_videos)


def video_loss(video_scores: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy of video scores [B, C] against the classes that have points [B, C] -> [B]."""
    return F.binary_cross_entropy(video_scores.nan_to_num(0.5), present, reduction="none").mean(dim=1)


def contrastive_loss(
    embedding: Tensor,
    prototypes: Tensor,
    action_seeds: Tensor,
    background_seeds: Tensor,
    packing: Packing,
    temperature: float,
    drop_last_snippet: bool,
) -> Tensor:
    """Pull action seeds to their class's prototype, from other prototypes and from the video's background.

    As the published code has it: exp-similarities are averaged over the snippets of a class first, and two logarithms
    are halved (the paper's Eq. 7 sums per snippet and takes one).

    Args:
        embedding: [N, D].
        prototypes: [B, C, D], as each video sees them; rows of zeros (classes without points) take no part.
        action_seeds: [N, C]. background_seeds: bool [N].
        drop_last_snippet: leave each video's last snippet out, as the published code does.

    Returns:
        [B]: summed over a video's classes and divided by their number; 0 where it has no background.
    """
    video, num_videos = packing.video, len(packing)
    num_classes = (per_video(action_seeds, video, num_videos) > 0).sum(dim=1)
    if drop_last_snippet:
        action_seeds = action_seeds.index_fill(0, packing.last, 0)
        background_seeds = background_seeds.index_fill(0, packing.last, False)
    known = prototypes.any(dim=2)  # [B, C]
    count = per_video(action_seeds, video, num_videos)  # [B, C]
    background_count = per_video(background_seeds.to(embedding.dtype), video, num_videos)[:, None]  # [B, 1]
    present = (count > 0) & known & (background_count > 0)

    directions = F.normalize(embedding, dim=1).split(list(packing.lengths))
    pairs = zip(directions, prototypes, strict=True)
    cosine = torch.cat([rows @ F.normalize(memory, dim=1).T for rows, memory in pairs])
    similarity = torch.exp(cosine / temperature)  # [N, C]
    # Sums over a class's seeds: of the similarity to its own prototype, and to all that are known.
    matched = per_video(action_seeds * similarity, video, num_videos)
    to_all = per_video(action_seeds * (similarity * known[video]).sum(dim=1, keepdim=True), video, num_videos)
    background = per_video(similarity * background_seeds[:, None], video, num_videos) / background_count.clamp(min=1)
    mean_matched = matched / count.clamp(min=1)
    # Absent classes get a constant: a logarithm of 0 would reach the gradient even where it is left out.
    against_classes = torch.where(present, matched, 1) / torch.where(present, to_all, 1)
    against_background = torch.where(present, mean_matched, 1) / torch.where(present, mean_matched + background, 1)
    terms = -0.5 * torch.log(against_classes) - 0.5 * torch.log(against_background)
    return terms.sum(dim=1) / num_classes.clamp(min=1)


@torch.no_grad()
def seed_means(embedding: Tensor, action_seeds: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """Mean embedding of each video's action seeds by class: [B, C, D], 0 without seeds; and which have some [B, C]."""
    lengths = list(packing.lengths)
    pairs = zip(embedding.split(lengths), action_seeds.split(lengths), strict=True)
    totals, counts = zip(*((seeds.T @ rows, seeds.sum(dim=0)) for rows, seeds in pairs), strict=True)
    count = torch.stack(counts)
    return torch.stack(totals) / count.clamp(min=1)[..., None], count > 0


@torch.no_grad()
def moving_prototypes(prototypes: Tensor, means: Tensor, present: Tensor, momentum: float) -> Tensor:
    """The memory as it moves from video to video: m <- momentum m + (1 - momentum) mean (paper, Eq. 3).

    All steps at once: after some moves, what is left of the start and of each mean are powers of the momentum.

    Args:
        prototypes: [C, D], before the first video.
        means: mean embedding of the videos' action seeds, [B, C, D]; present: bool [B, C], classes that move.

    Returns:
        [B + 1, C, D]: before each video, and after the last.
    """
    num_videos = len(means)
    moves = F.pad(present.long().cumsum(dim=0), (0, 0, 1, 0))  # [B + 1, C], moves made before video i
    since = moves[:, None] - moves[None, 1:]  # [B + 1, B, C], moves made between video j and video i
    earlier = torch.ones(num_videos + 1, num_videos, dtype=torch.bool, device=means.device).tril(-1)
    weights = torch.where(earlier[..., None] & present, momentum ** since.clamp(min=0).to(means.dtype), 0)
    # A video whose numbers are not finite must not reach those before it: 0 times NaN is NaN.
    finite = means.nan_to_num(nan=0, posinf=0, neginf=0)
    start = (momentum ** moves.to(means.dtype))[..., None] * prototypes
    return start + (1 - momentum) * torch.einsum("ijc,jcd->icd", weights, finite)


def tiou(first: Tensor, second: Tensor) -> Tensor:
    """Temporal IoU of segments [..., 2], broadcast; intersections of reversed or disjoint segments count as 0."""
    start = torch.maximum(first[..., 0], second[..., 0])
    end = torch.minimum(first[..., 1], second[..., 1])
    shared = end - start
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - shared
    return (shared / (union + 1e-6)).clamp(min=0)


def best_tiou(proposals: Tensor, reliable: Tensor, video: Tensor) -> Tensor:
    """The highest tIoU of each proposal with any reliable proposal of its video.

    Args:
        proposals: [M, 2]. video: [M].
        reliable: [B, R, 2], rows of NaN where a video has fewer than R.

    Returns:
        [M]; 0 where the video has none.
    """
    if reliable.shape[1] == 0:
        return proposals.new_zeros(len(proposals))
    overlaps = tiou(proposals[:, None], reliable.nan_to_num(0)[video])  # [M, R]
    return torch.where(reliable[video, :, 0].isnan(), 0, overlaps).amax(dim=1)


def score_loss(
    completeness: Tensor, target: Tensor, draws: Tensor, iou_threshold: float, video: Tensor, num_videos: int
) -> Tensor:
    """Smooth L1 of completeness [M] to the tIoU with the reliable proposals [M] (paper, Eq. 13) -> [B].

    All proposals at or over the threshold count, and at random about as many of the others.

    Args:
        draws: [M], uniform in 0..1.
    """
    positive = target >= iou_threshold
    num_positive = per_video(positive.to(target.dtype), video, num_videos)
    num_other = per_video((~positive).to(target.dtype), video, num_videos)
    share = (num_positive / num_other.clamp(min=1)).clamp(max=1.0)
    weight = (positive | (draws * ~positive > 1 - share[video])).to(completeness.dtype)
    loss = F.smooth_l1_loss(completeness, target, reduction="none")
    return per_video(loss * weight, video, num_videos) / per_video(weight, video, num_videos).clamp(min=1)


def regression_loss(refined: Tensor, target: Tensor, reliable: Tensor, iou_threshold: float, video: Tensor) -> Tensor:
    """Smooth L1 of the refined proposals' tIoU to 1, over proposals at or over the threshold (paper, Eq. 14) -> [B].

    Args:
        refined: [M, 2].
        target: tIoU of the proposals as they were with the reliable ones, [M].
        reliable: [B, R, 2], as `best_tiou` takes them.
    """
    weight = (target >= iou_threshold).to(refined.dtype)
    reached = best_tiou(refined, reliable, video)
    loss = F.smooth_l1_loss(reached, torch.ones_like(reached), reduction="none")
    total = per_video(loss * weight, video, len(reliable))
    return total / per_video(weight, video, len(reliable)).clamp(min=1)
