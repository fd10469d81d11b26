"""A stage of training as the loop sees it. The stages themselves are made in `snippet_stage`, `instance_stage` and
`pyramid_stage`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hrpro_pipeline.models.precision import Precision
from hrpro_pipeline.train.feature_bank import FeatureBank

# A round, and training videos that go through the network together in one of its steps.
Part = tuple[int, list[int]]


@dataclass(frozen=True)
class Compute:
    """Where and how a stage computes: the features of the training videos, the device, the precision."""

    bank: FeatureBank
    device: torch.device
    precision: Precision


@dataclass(frozen=True)
class Stage:
    """A network, and the rounds of optimizer steps over whole videos that train it.

    Attributes:
        name: in files and settings: "snippet", "instance" or "pyramid".
        number: in seeds and texts: 1, 2 or 3.
        unit: what a round is called: "step" or "epoch".
        num_rounds: after which the stage ends.
        accumulate: parts that a step is cut into.
        batch_size: videos of a step.
        losses: names of the columns that `step` gives; the last one is the total.
        order: round (from 1) -> the training videos of each of its steps.
        batches: parts -> a batch of each, made as they are asked for.
        step: batches of the parts of one step (None where another process has all videos of a part) and the number of
            its videos -> losses [b, K] of this process's videos.
        log_every: rounds whose losses stay on the device before they are written down: reading them waits for them.
        evaluate_every: rounds between evaluations.
        save_every: rounds between checkpoints.
        snapshots: rounds after which the reliable snippets and proposals are written down.
    """

    name: str
    number: int
    title: str
    unit: str
    network: nn.Module
    optimizer: torch.optim.Optimizer
    num_rounds: int
    accumulate: int
    losses: tuple[str, ...]
    order: Callable[[int], Sequence[np.ndarray]]
    batches: Callable[[Sequence[Part]], Iterator[Any]]
    step: Callable[[Iterator[Any], int], Tensor]
    log_every: int
    evaluate_every: int
    save_every: int
    snapshots: frozenset[int] = frozenset()


def adam(network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Adam:
    """The optimizer of the published code."""
    return torch.optim.Adam(network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
