"""The journal of a run: `metrics.jsonl` and TensorBoard events.

TensorBoard has one axis for all stages: the optimizer steps of stage 1, after them the epochs of stage 2, and the steps
of stage 3. So what a killed run wrote after its last checkpoint can be taken back there, too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from hrpro_pipeline.data.files import write_text

METRICS = "metrics.jsonl"
STAGES = ("snippet", "instance", "pyramid")


class Journal:
    """A line of JSON and TensorBoard scalars for each step or epoch; a context manager.

    Each line has `stage` (snippet, instance, pyramid), `step` (optimizer step, or epoch of stage 2), `kind` (loss,
    evaluation) and the numbers.

    Args:
        rounds: of each stage; the next one goes on after them.
        resumed: stage and step of the checkpoint that the run goes on from; TensorBoard drops what came after it.
        writes: this is the one process of those that train together.
    """

    def __init__(
        self, run: Path, rounds: Mapping[str, int], resumed: tuple[str, int] | None = None, writes: bool = True
    ) -> None:
        self._first_steps = {
            stage: sum(rounds.get(earlier, 0) for earlier in STAGES[:index]) for index, stage in enumerate(STAGES)
        }
        self._file: TextIO | None = None
        if writes:
            run.mkdir(parents=True, exist_ok=True)
            self._file = (run / METRICS).open("a", encoding="utf-8")
            purge = None if resumed is None else self._first_steps[resumed[0]] + resumed[1] + 1
            self._writer = SummaryWriter(str(run), purge_step=purge)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._writer.close()

    def write(self, stage: str, step: int, kind: str, values: dict[str, Any]) -> None:
        """Add a line; every number among the values becomes a scalar in TensorBoard."""
        if self._file is None:
            return
        self._file.write(json.dumps({"stage": stage, "step": step, "kind": kind, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                self.scalar(stage, step, f"{stage}/{kind}/{name}", value)

    def scalar(self, stage: str, step: int, tag: str, value: float) -> None:
        """A number for TensorBoard alone."""
        if self._file is not None:
            self._writer.add_scalar(tag, value, self._first_steps[stage] + step)

    def picture(self, stage: str, step: int, tag: str, image: np.ndarray) -> None:
        """A picture for TensorBoard: uint8 RGB [H, W, 3]."""
        if self._file is not None:
            self._writer.add_image(tag, image, self._first_steps[stage] + step, dataformats="HWC")

    def flush(self) -> None:
        """Everything so far to the files: a run that is resumed does not write it again."""
        if self._file is not None:
            self._writer.flush()


def rewind(run: Path, stage: str, step: int) -> None:
    """Drop the lines after `step` of `stage`, which a killed run wrote after its last checkpoint."""
    path = run / METRICS
    if not path.is_file():
        return
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the line that the kill cut short
            continue
        if (STAGES.index(row["stage"]), row["step"]) <= (STAGES.index(stage), step):
            lines.append(line)
    write_text(path, "".join(line + "\n" for line in lines))
