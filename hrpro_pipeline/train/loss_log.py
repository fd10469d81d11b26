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
            HrproError: a loss is not finite, here or in another process; names the video.
        """
        steps = [step for steps in self._rounds for step in steps]
        sums = torch.stack([step.losses.sum(dim=0) / step.batch_size for step in steps])
        means = parallel.total(sums).cpu()  # [steps, K]
        # Of the sums, which are the same in all processes: all raise together, and none is left waiting for the others.
        if not means[:, -1].isfinite().all():
            raise HrproError(
                f"{self._broken_video(steps)}: the loss is not finite; lower {self._stage.name}.learning_rate"
            )
        row = 0
        for round_steps in self._rounds:
            values = means[row : row + len(round_steps)].mean(dim=0).tolist()
            self._journal.write(
                self._stage.name, round_steps[0].round, "loss", dict(zip(self._stage.losses, values, strict=True))
            )
            row += len(round_steps)
        self._rounds.clear()
        return float(means[-1, -1])

    def _broken_video(self, steps: list[StepLosses]) -> str:
        """The first video whose loss is not finite, of this process's or else of another's."""
        broken = torch.cat([step.losses[:, -1] for step in steps]).isfinite().logical_not().cpu()
        videos = [video for step in steps for video in step.videos]
        own = [self._video_ids[video] for video, is_broken in zip(videos, broken.tolist(), strict=True) if is_broken]
        return next((name for name in parallel.gather_objects([own[0] if own else None]) if name), "a step")
