"""Stage 2: the proposals that it learns from, and what one of its optimizer steps does with them."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.configs.schema import InstanceSettings, Settings
from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo
from hrpro_pipeline.models.candidates import find_candidates
from hrpro_pipeline.models.device import or_on_cpu, send
from hrpro_pipeline.models.instance import InstanceModel, pool_parts
from hrpro_pipeline.models.precision import Precision, matrix_products
from hrpro_pipeline.models.snippet import Packing, SnippetModel
from hrpro_pipeline.train import parallel
from hrpro_pipeline.train.losses import best_tiou, regression_loss, score_loss
from hrpro_pipeline.train.pseudo_labels import pseudo_labels
from hrpro_pipeline.train.reliable import containing, negative_proposals, reliable_proposals
from hrpro_pipeline.train.stage import Compute, Part, Stage, adam

log = logging.getLogger(__name__)

LOSSES = ("score", "regression", "total")


@dataclass(frozen=True)
class ProposalSet:
    """The proposals of one training video; arrays float32.

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


def instance_stage(
    model: InstanceModel, videos: Sequence[ProposalSet], settings: InstanceSettings, compute: Compute, seed: int
) -> Stage:
    """Stage 2 for the training loop.

    Args:
        videos: the training videos that have proposals.
    """
    optimizer = adam(model, settings.learning_rate, settings.weight_decay)
    proposals_of = {video.index: video for video in videos}
    indices = np.array(list(proposals_of))
    batch_size = min(settings.batch_size, len(videos))

    def order(epoch: int) -> list[np.ndarray]:
        shuffled = indices[np.random.default_rng([seed, 3, epoch]).permutation(len(indices))]
        # The tail that fills no batch is dropped.
        return [shuffled[at : at + batch_size] for at in range(0, len(shuffled) - batch_size + 1, batch_size)]

    def batches(parts: Sequence[Part]) -> Iterator[InstanceBatch]:
        for (epoch, order), features in zip(parts, compute.bank.batches([order for _, order in parts]), strict=True):
            rngs = [np.random.default_rng([seed, 4, epoch, index]) for index in order]
            yield pack([proposals_of[index] for index in order], features, settings.max_proposals, rngs)

    def step(parts: Iterator[InstanceBatch | None], batch_size: int) -> Tensor:
        return train_step(model, parts, batch_size, optimizer, settings, compute.precision)

    return Stage(
        name="instance",
        number=2,
        title="stage 2 (instances)",
        unit="epoch",
        network=model,
        optimizer=optimizer,
        num_rounds=settings.epochs,
        accumulate=settings.accumulate,
        losses=LOSSES,
        order=order,
        batches=batches,
        step=step,
        log_every=1,
        evaluate_every=settings.evaluate_every,
        save_every=1,
    )


def find_proposals(
    snippet: SnippetModel, data: TrainingSet, settings: Settings, compute: Compute, seed: int
) -> list[ProposalSet]:
    """The proposals of the training videos, by the processes together; videos without proposals are left out."""
    indices = list(range(len(data.videos)))[parallel.rank() :: parallel.size()]
    features = compute.bank.batches([[index] for index in indices])
    with progress("stage 2 (proposals)", len(indices), "videos", minor=True) as task:
        sets = [
            propose(snippet, data.videos[index], index, packed, settings, np.random.default_rng([seed, 2, index]))
            for index, packed in task.each(zip(indices, features, strict=True))
        ]
    sets = parallel.gather_objects(sets)
    with_proposals = [video for video in sets if len(video.proposals)]
    if empty := len(sets) - len(with_proposals):
        log.warning("stage 2: %d of %d videos have no proposals and are left out", empty, len(sets))
    return with_proposals


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
    result = or_on_cpu(
        lambda on_device: find_candidates(model, on_device, settings),
        *(model, features, features.device, video.video_id),
    )
    candidates = result.proposals
    if settings.instance.reliable_proposals:
        rows = reliable_proposals(candidates, video.positions, video.labels)
        reliable = candidates[rows[rows >= 0], :2]
    else:
        reliable = candidates[containing(candidates, video.positions, video.labels).any(axis=0), :2]
    _, background_seeds = video_seeds(result.background, video, len(model.prototypes), settings)
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
        sample = video.proposals
        if len(sample) > max_proposals:
            sample = sample[rng.choice(len(sample), max_proposals, replace=False)]
        proposals.append(sample)
        draws.append(rng.random(len(sample), np.float32))
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
    losses_of_parts = [torch.empty(0, len(LOSSES), device=next(model.parameters()).device)]
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
        losses_of_parts.append(losses.detach())
    parallel.sum_gradients(model)
    optimizer.step()
    return torch.cat(losses_of_parts)
