"""Stage 3: the segments that it learns from, and what one of its optimizer steps does with them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.configs.schema import PyramidSettings, Settings
from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo
from hrpro_pipeline.models.candidates import score_snippets
from hrpro_pipeline.models.device import or_on_cpu
from hrpro_pipeline.models.precision import Precision, matrix_products
from hrpro_pipeline.models.pseudo_segments import pseudo_segments
from hrpro_pipeline.models.pyramid import LevelScores, PyramidModel, pad
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.train import parallel
from hrpro_pipeline.train.snippet_stage import batch_order
from hrpro_pipeline.train.stage import Compute, Part, Stage

LOSSES = ("classification", "regression", "total")

# The lowest level takes actions that reach this many snippets to one side; each further level twice as many.
_FIRST_REACH = 4.0
_WARM_UP_STEPS = 30
_STEPS_A_LOG = 10
# Focal loss: weight of positives, and how much less what is right already counts (Lin et al., ICCV 2017).
_ALPHA, _GAMMA = 0.25, 2.0
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class LevelTargets:
    """What one level has to say of one video; L positions.

    Attributes:
        classes: of 0 and 1, [C, L].
        reach: distances to the start and end of the segment, in strides, [2, L]; 0 outside segments.
    """

    classes: Tensor
    reach: Tensor


@dataclass(frozen=True)
class PyramidBatch:
    """Padded training videos, [B, T, D], and the targets of each level of each video.

    Attributes:
        step: from 1.
    """

    step: int
    features: Tensor
    valid: Tensor
    targets: list[list[LevelTargets]]


def pyramid_stage(
    model: PyramidModel,
    data: TrainingSet,
    segments: Sequence[np.ndarray],
    settings: PyramidSettings,
    compute: Compute,
    seed: int,
) -> Stage:
    """Stage 3 for the training loop.

    Args:
        segments: pseudo segments of each training video, rows [K, 3] of start, end, class.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    num_classes = len(data.classes)
    norm = _mean_positives(segments, model.num_levels)

    def batches(parts: Sequence[Part]) -> Iterator[PyramidBatch]:
        orders = [videos for _, videos in parts]
        for (step, videos), packed in zip(parts, compute.bank.batches(orders), strict=True):
            features = packed.split([len(data.videos[index].features) for index in videos])
            padded, valid = pad(features, model.num_levels)
            targets = [targets_of(segments[index], num_classes, padded.shape[1], model.num_levels) for index in videos]
            yield PyramidBatch(step, padded, valid, targets)

    def step(parts: Iterator[PyramidBatch | None], batch_size: int) -> Tensor:
        return train_step(model, parts, batch_size, optimizer, settings, norm, compute.precision)

    return Stage(
        name="pyramid",
        number=3,
        title="stage 3 (pyramid)",
        unit="step",
        network=model,
        optimizer=optimizer,
        num_rounds=settings.steps,
        accumulate=settings.accumulate,
        losses=LOSSES,
        order=lambda number: [batch_order(number - 1, len(data.videos), settings.batch_size, seed)],
        batches=batches,
        step=step,
        log_every=_STEPS_A_LOG,
        evaluate_every=settings.evaluate_every,
        save_every=settings.evaluate_every,
    )


def find_segments(model: SnippetModel, data: TrainingSet, settings: Settings, compute: Compute) -> list[np.ndarray]:
    """Pseudo segments of all training videos, rows [K, 3] of start, end, class; by the processes together.

    Args:
        model: the trained stage 1 network, in eval mode.
    """
    indices = list(range(len(data.videos)))[parallel.rank() :: parallel.size()]
    features = compute.bank.batches([[index] for index in indices])

    def segments(video: TrainingVideo, packed: Tensor) -> np.ndarray:
        fused = or_on_cpu(
            lambda on_device: score_snippets(model, on_device, settings).fused,
            *(model, packed, packed.device, video.video_id),
        )
        bounds = pseudo_segments(fused, video.positions, video.labels, settings.pyramid.peak_ratio, video.background)
        return np.column_stack([bounds, video.labels])

    with progress("stage 3 (pseudo segments)", len(indices), "videos", minor=True) as task:
        rows = [
            segments(data.videos[index], packed) for index, packed in task.each(zip(indices, features, strict=True))
        ]
    return parallel.gather_objects(rows)


@torch.no_grad()
def standardize(model: PyramidModel, data: TrainingSet, compute: Compute) -> None:
    """Set the mean and the standard deviation that the model standardizes features with; [D] each, one video a time."""
    count = 0
    total = torch.zeros_like(model.mean, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for features in compute.bank.batches([[index] for index in range(len(data.videos))]):
        values = features.double()
        count += len(values)
        total += values.sum(dim=0)
        squares += values.square().sum(dim=0)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    # A channel that hardly changes must not become noise.
    std += 1e-3 * std.mean() + 1e-6
    model.mean.copy_(mean)
    model.std.copy_(std)


def targets_of(segments: np.ndarray, num_classes: int, length: int, num_levels: int) -> list[LevelTargets]:
    """The targets of each level for a video of `length` snippets.

    A position learns the class of each segment that it lies in and whose farther bound is in its level's range; it
    learns the bounds of the shortest of them.

    Args:
        segments: rows [K, 3] of start, end, class.
    """
    targets = []
    for level in range(num_levels):
        stride = 2**level
        positions = (np.arange(length // stride) + 0.5) * stride
        lowest = 0.0 if level == 0 else _FIRST_REACH * 2 ** (level - 1)
        highest = np.inf if level == num_levels - 1 else _FIRST_REACH * 2**level
        classes = np.zeros((num_classes, len(positions)), np.float32)
        reach = np.zeros((2, len(positions)), np.float32)
        for start, end, label in sorted(segments.tolist(), key=lambda row: row[0] - row[1]):  # the shortest comes last
            before, after = positions - start, end - positions
            farther = np.maximum(before, after)
            taken = (before > 0) & (after > 0) & (farther >= lowest) & (farther < highest)
            classes[int(label), taken] = 1
            reach[:, taken] = np.stack([before, after])[:, taken] / stride
        targets.append(LevelTargets(torch.from_numpy(classes), torch.from_numpy(reach)))
    return targets


def train_step(
    model: PyramidModel,
    parts: Iterator[PyramidBatch | None],
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    settings: PyramidSettings,
    norm: float,
    precision: Precision = "float32",
) -> Tensor:
    """One step: the losses of each video, divided by the mean number of positive positions of a video, averaged.

    Returns:
        The losses named in LOSSES of this process's videos, [b, 3], on the device.
    """
    optimizer.zero_grad(set_to_none=True)
    losses_of_parts = [torch.empty(0, len(LOSSES), device=model.mean.device)]
    for part in parts:
        if part is None:
            continue
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(part.step, settings.steps)
        with matrix_products(precision, part.features.device):
            scores = model(part.features, part.valid)
        losses = _losses(scores, part.targets) / norm
        losses = torch.cat([losses, losses.sum(dim=1, keepdim=True)], dim=1)
        (losses[:, -1].sum() / batch_size).backward()
        losses_of_parts.append(losses.detach())
    parallel.sum_gradients(model)
    torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
    optimizer.step()
    return torch.cat(losses_of_parts)


def _losses(scores: Sequence[LevelScores], targets: Sequence[Sequence[LevelTargets]]) -> Tensor:
    """Sums of the classification and the regression loss over the positions of each video, [B, 2]."""
    sums = []
    for level, of_level in enumerate(scores):
        classes = torch.stack([video[level].classes for video in targets]).to(of_level.logits.device)  # [B, C, L]
        reach = torch.stack([video[level].reach for video in targets]).to(of_level.reach.device)  # [B, 2, L]
        classification = (focal_loss(of_level.logits, classes).sum(dim=1) * of_level.valid).sum(dim=1)
        is_action = classes.amax(dim=1)  # [B, L]
        regression = (distance_loss(of_level.reach, reach) * is_action * of_level.valid).sum(dim=1)
        sums.append(torch.stack([classification, regression], dim=1))
    return torch.stack(sums).sum(dim=0)


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss of each class at each position, in the shape of the logits."""
    probability = torch.sigmoid(logits)
    right = probability * targets + (1 - probability) * (1 - targets)
    weight = _ALPHA * targets + (1 - _ALPHA) * (1 - targets)
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return weight * (1 - right) ** _GAMMA * entropy


def distance_loss(reach: Tensor, targets: Tensor) -> Tensor:
    """1 - tIoU of two segments around the same position, and the squared distance of their middles over their union.

    Distance-IoU of Zheng et al. (AAAI 2020) in one dimension.

    Args:
        reach: distances to both sides, [B, 2, L]. targets: the same of the segments to learn.

    Returns:
        [B, L].
    """
    overlap = torch.minimum(reach, targets).sum(dim=1)
    union = reach.sum(dim=1) + targets.sum(dim=1) - overlap
    around = torch.maximum(reach, targets).sum(dim=1).clamp(min=1e-6)
    distance = 0.5 * ((reach[:, 1] - reach[:, 0]) - (targets[:, 1] - targets[:, 0]))
    return 1 - overlap / union.clamp(min=1e-6) + (distance / around) ** 2


def _rate(step: int, num_steps: int) -> float:
    """Share of the learning rate at a step (from 1): rises at first, then falls as a half cosine."""
    rises = min(1.0, step / min(_WARM_UP_STEPS, max(1, num_steps // 3)))
    return rises * 0.5 * (1 + math.cos(math.pi * (step - 1) / num_steps))


def _mean_positives(segments: Sequence[np.ndarray], num_levels: int) -> float:
    """Positive positions of a training video on average, over all levels; at least 1."""
    total = 0.0
    for rows in filter(len, segments):
        length = int(np.ceil(rows[:, 1].max())) + 1
        targets = targets_of(rows, 1 + int(rows[:, 2].max()), -(-length // 2**num_levels) * 2**num_levels, num_levels)
        total += sum(float(level.classes.amax(dim=0).sum()) for level in targets)
    return max(1.0, total / max(1, len(segments)))
