"""What a run writes down while it goes: `metrics.jsonl` and TensorBoard events."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from torch.utils.tensorboard import SummaryWriter

from hrpro_pipeline.data.files import write_text

METRICS = "metrics.jsonl"
STAGES = ("snippet", "instance")


class Journal:
    """A line of JSON and TensorBoard scalars for each step or epoch; a context manager.

    Each line has `stage` (snippet, instance), `step` (optimiser step, or epoch of stage 2), `kind` (loss, evaluation)
    and the numbers.
    """

    def __init__(self, run: Path, writes: bool = True) -> None:
        self._file: TextIO | None = None
        if writes:  # one process of those that train together
            run.mkdir(parents=True, exist_ok=True)
            self._file = (run / METRICS).open("a", encoding="utf-8")
            self._writer = SummaryWriter(str(run))

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
                self._writer.add_scalar(f"{stage}/{kind}/{name}", value, step)


def rewind(run: Path, stage: str, step: int) -> None:
    """Drop the lines after `step` of `stage`: what a killed run wrote after its last checkpoint."""
    path = run / METRICS
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the line that the kill cut short
            continue
        if (STAGES.index(row["stage"]), row["step"]) <= (STAGES.index(stage), step):
            kept.append(line)
    write_text(path, "".join(line + "\n" for line in kept))
