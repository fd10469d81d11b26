"""The paths of what a training reads. Nothing heavy."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Inputs:
    """Paths of what a training reads.

    Attributes:
        features: FEATURES folder.
        points: CSV of labeled points.
        annotations: ActivityNet-style JSON: classes, frame rates, and segments to evaluate against.
        videos: names the training videos, one id a line; all that have points otherwise.
        ambiguous: segments that detections must not overlap in an evaluation (THUMOS14).
        warm_start: RUN folder or `model.pt` to go on from.
    """

    features: Path
    points: Path
    annotations: Path | None = None
    videos: Path | None = None
    ambiguous: Path | None = None
    warm_start: Path | None = None
