"""How a training run is looked at while it goes, and which checkpoint becomes the model."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrpro_pipeline.models.checkpoint import TrainedModel

Evaluate = Callable[[TrainedModel], dict[str, Any]]
# Draws a model for TensorBoard -> tags and images, uint8 RGB [H, W, 3]; the prototypes too where asked to.
Draw = Callable[[TrainedModel, bool], Iterable[tuple[str, np.ndarray]]]


@dataclass(frozen=True)
class Selection:
    """Keep the checkpoint that scores best instead of the last.

    Attributes:
        key: the number of an evaluation that decides.
        data: what it is measured on, in words for the notes of the model.
    """

    key: str
    data: str


@dataclass(frozen=True)
class Watch:
    """How a run is looked at while it goes.

    Attributes:
        evaluate: called with the model so far; must give `average`, or the key of `select`, and may give more numbers.
        select: which checkpoint becomes the model; the last one by default.
        draw: pictures for TensorBoard.
    """

    evaluate: Evaluate | None = None
    select: Selection | None = None
    draw: Draw | None = None
