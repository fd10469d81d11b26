"""Optimizer steps over whole videos: seeded by their round, shared among processes, cut finer where memory ends."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.device import is_out_of_memory
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.train import parallel
from hrpro_pipeline.train.stage import Stage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepLosses:
    """Losses [b, K] of this process's `videos` in one step of a round; the step has `batch_size` videos in all."""

    round: int
    videos: list[int]
    losses: Tensor
    batch_size: int


class StepRunner:
    """Takes a stage's steps; a step that the device has no memory for is repeated in twice as many parts.

    Args:
        snippet: its prototypes move within a step, so that a step that failed halfway has to put them back.
        parts: that a step is cut into, where the stage has been running before; else those of its settings.

    Attributes:
        parts: in use now.
    """

    def __init__(
        self, stage: Stage, snippet: SnippetModel, device: torch.device, seed: int, parts: int | None = None
    ) -> None:
        self._stage, self._snippet, self._device, self._seed = stage, snippet, device, seed
        self.parts = parts or stage.accumulate

    def rounds(self, first: int) -> Iterator[tuple[int, list[StepLosses]]]:
        """Take all steps from round `first` on -> each round when it is done, with the losses of its steps."""
        numbers = range(first, self._stage.num_rounds + 1)
        steps = [(number, order) for number in numbers for order in self._stage.order(number)]
        done: list[StepLosses] = []
        for index, losses in enumerate(self._steps(steps), start=1):
            done.append(losses)
            if index == len(steps) or steps[index][0] != losses.round:
                yield losses.round, done
                done = []

    def _steps(self, steps: Sequence[tuple[int, np.ndarray]]) -> Iterator[StepLosses]:
        """Batches are made ahead of their steps; after a change of parts those of the remaining steps are made anew."""
        done = 0
        while done < len(steps):
            remaining = steps[done:]
            cut = [(number, _split(order, self.parts)) for number, order in remaining]
            batches = self._stage.batches([(number, part) for number, parts in cut for part in parts if part])
            for (number, parts), (_, order) in zip(cut, remaining, strict=True):
                if done == 0 or steps[done - 1][0] != number:
                    seed_round(self._seed, self._stage.number, number)
                go_back = self._restore_point()
                try:
                    losses = self._stage.step((next(batches) if part else None for part in parts), len(order))
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    break
                yield StepLosses(number, [video for part in parts for video in part], losses, len(order))
                done += 1
            else:
                return
            del batches
            self._cut_finer(len(order))
            go_back()

    def _restore_point(self) -> Callable[[], None]:
        """Remember what a step draws from and changes before it is complete -> a function that goes back to it."""
        device = self._device
        prototypes, cpu_state = self._snippet.prototypes, torch.random.get_rng_state()
        cuda_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

        def go_back() -> None:
            self._snippet.prototypes = prototypes  # a step never changes them in place
            torch.random.set_rng_state(cpu_state)
            if cuda_state is not None:
                torch.cuda.set_rng_state(cuda_state, device)

        return go_back

    def _cut_finer(self, num_videos: int) -> None:
        """Cut steps into twice as many parts. Raises HrproError if that cannot be."""
        key, parts = f"{self._stage.name}.accumulate", self.parts
        if parallel.size() > 1:  # the other processes are in the middle of the same step
            raise HrproError(f"out of GPU memory in a step of {key}={parts}; run again with `{key}={2 * parts}`")
        if parts >= num_videos:
            lower = ", lower instance.max_proposals" if self._stage.name == "instance" else ""
            raise HrproError(
                f"out of GPU memory with one video at a time ({key}={parts}); keep the features off the GPU with "
                f"`compute.features=host`{lower}, leave the longest videos out with `videos`, or use `device=cpu`"
            )
        self.parts = min(2 * parts, num_videos)
        log.warning("out of GPU memory: steps are cut into %d parts from here on (%s)", self.parts, key)
        torch.cuda.empty_cache()


def seed_round(seed: int, stage: int, number: int) -> None:
    """Dropout depends on the round and the process alone, so that no state of it needs to be kept."""
    sequence = np.random.SeedSequence([seed, stage, number, parallel.rank()])
    torch.manual_seed(int(sequence.generate_state(1)[0]))


def _split(order: np.ndarray, parts: int) -> list[list[int]]:
    """The videos of this process in each of the parts that a step is cut into; a part may be empty."""
    pieces = np.array_split(np.asarray(order), min(parts, len(order)))
    return [piece[parallel.rank() :: parallel.size()].tolist() for piece in pieces]
