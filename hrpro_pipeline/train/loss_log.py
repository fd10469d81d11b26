"""Losses that stay on the device for a few rounds; then they are checked and written down."""

from collections.abc import Sequence

import torch

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.train import parallel
from hrpro_pipeline.train.journal import Journal
from hrpro_pipeline.train.stage import Stage
from hrpro_pipeline.train.steps import StepLosses


class LossLog:
    """The losses of a stage on their way into the journal.

    Args:
        video_ids: of the training videos, to name the one whose loss is not finite.
    """

    def __init__(self, stage: Stage, journal: Journal, video_ids: Sequence[str]) -> None:
        self._stage, self._journal, self._video_ids = stage, journal, video_ids
        self._rounds: list[list[StepLosses]] = []

    @property
    def is_full(self) -> bool:
        """Whether enough rounds have come together to be written."""
        return len(self._rounds) >= self._stage.log_every

    def add(self, steps: list[StepLosses]) -> None:
        """Take the losses of one round."""
        self._rounds.append(steps)

    def write(self) -> float:
        """Write a line for each round, the mean of its steps -> the total loss of the last step.

        Raises:
            HrproError: a loss is not finite; names the video.
        """
        steps = [step for steps in self._rounds for step in steps]
        self._check_finite(steps)
        sums = torch.stack([step.losses.sum(dim=0) / step.batch_size for step in steps])
        means = parallel.total(sums).cpu()  # [steps, K]
        row = 0
        for round_steps in self._rounds:
            values = means[row : row + len(round_steps)].mean(dim=0).tolist()
            self._journal.write(
                self._stage.name, round_steps[0].round, "loss", dict(zip(self._stage.losses, values, strict=True))
            )
            row += len(round_steps)
        self._rounds.clear()
        return float(means[-1, -1])

    def _check_finite(self, steps: list[StepLosses]) -> None:
        broken = torch.cat([step.losses[:, -1] for step in steps]).isfinite().logical_not().cpu()
        if broken.any():
            videos = [video for step in steps for video in step.videos]
            video_id = self._video_ids[videos[int(broken.nonzero()[0])]]
            raise HrproError(f"{video_id}: the loss is not finite; lower {self._stage.name}.learning_rate")
