"""Pictures of a run for TensorBoard, uint8 RGB [H, W, 3]: how alike prototypes are, and timelines of a few videos."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hrpro_pipeline.data.features import StoredFeatures
from hrpro_pipeline.models.candidates import Candidates, find_candidates
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.device import or_on_cpu

# Takes a model, features [T, D] on its device and candidates [M, 4] -> rows of start and end in seconds, class, score.
Detect = Callable[[TrainedModel, Tensor, np.ndarray], np.ndarray]

_LABELS, _WIDTH, _LANE, _GAP = 150, 850, 44, 26
_MOST_CLASSES, _MOST_DETECTIONS, _MOST_LETTERS = 5, 8, 18
_INK, _ATTENTION, _SCORE = (60, 60, 60), (205, 205, 205), (120, 170, 225)
_TRUTH, _DETECTED, _POINT = (60, 160, 90), (225, 130, 40), (200, 30, 60)
_LEGEND = {
    "attention": (150, 150, 150),
    "score of the class": _SCORE,
    "point": _POINT,
    "ground truth": _TRUTH,
    "best detections": _DETECTED,
}


@dataclass(frozen=True)
class Sample:
    """A video to show.

    Attributes:
        features: float32 [T, D], or their file.
        points: rows of time in seconds and class, [K, 2].
        segments: ground truth where there is some, rows of start and end in seconds and class, [G, 3].
    """

    video_id: str
    features: np.ndarray | StoredFeatures
    points: np.ndarray
    segments: np.ndarray


@dataclass(frozen=True)
class Shown:
    """Videos whose timelines are drawn, and what detects in them."""

    samples: tuple[Sample, ...]
    detect: Detect


def similarity(prototypes: Tensor) -> np.ndarray:
    """Cosines of prototypes [C, D] with each other, [C, C]; 0 for a class that has none yet."""
    directions = F.normalize(prototypes.detach(), dim=1)
    return (directions @ directions.T).cpu().numpy()


def mean_off_diagonal(cosines: np.ndarray) -> float:
    """Mean cosine of two different prototypes; 0 where there are no two."""
    known = cosines[np.ix_(*[np.diag(cosines) > 0.5] * 2)]
    pairs = len(known) * (len(known) - 1)
    return float((known.sum() - np.trace(known)) / pairs) if pairs else 0.0


def heat_map(cosines: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """A matrix of cosines with a name for each row, where the rows are high enough."""
    cell = int(np.clip(480 // len(cosines), 4, 48))
    levels = ((np.clip(cosines, -1, 1) + 1) * 127.5).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    matrix = np.repeat(np.repeat(colors, cell, axis=0), cell, axis=1)
    image = np.full((len(matrix) + _GAP, _LABELS + len(matrix), 3), 255, np.uint8)
    image[: len(matrix), _LABELS:] = matrix
    for row, label in enumerate(classes):
        if cell >= 12:
            _write(image, label[:_MOST_LETTERS], 4, row * cell + cell // 2 + 4)
        for column in range(len(classes) if cell >= 40 else 0):
            light = (255, 255, 255) if cosines[row, column] < 0.4 else _INK
            where = _LABELS + column * cell + 6, row * cell + cell // 2 + 4
            _write(image, f"{cosines[row, column]:.2f}", *where, color=light)
    _write(image, "cosine of the prototypes: -1 dark, 1 light", 4, len(image) - 8)
    return image


def timeline(model: TrainedModel, sample: Sample, detect: Detect) -> np.ndarray:
    """Attention and class scores over a video, with its points, its ground truth, and the best detections.

    A lane for the attention, and one for each class that the video has or is said to have.

    Args:
        model: networks in eval mode.
    """
    device = model.snippet.prototypes.device
    features = torch.from_numpy(np.asarray(sample.features))

    def compute(there: Tensor) -> tuple[Candidates, np.ndarray]:
        found = find_candidates(model.snippet, there, model.settings)
        return found, detect(model, there, found.proposals)

    found, detections = or_on_cpu(compute, model, features, device, sample.video_id)
    seconds = model.clock.seconds_per_snippet * len(found.fused)
    shown = _shown_classes(sample, found.fused)
    image = np.full(((1 + len(shown)) * (_LANE + _GAP) + 2 * _GAP, _LABELS + _WIDTH, 3), 255, np.uint8)
    for index, (name, color) in enumerate(_LEGEND.items()):
        _write(image, name, _LABELS + 170 * index, 16, color)
    _curve(image, _GAP, 1 - found.background, _ATTENTION, "attention")
    for lane, label in enumerate(shown, start=1):
        top = _GAP + lane * (_LANE + _GAP)
        _curve(image, top, found.fused[:, label], _SCORE, model.classes[label])
        for start, end, _ in sample.segments[sample.segments[:, 2] == label]:
            _bar(image, top + _LANE + 3, start / seconds, end / seconds, _TRUTH)
        for start, end, *_ in detections[detections[:, 2] == label][:_MOST_DETECTIONS]:
            _bar(image, top + _LANE + 11, start / seconds, end / seconds, _DETECTED)
        for time, _ in sample.points[sample.points[:, 1] == label]:
            x = _column(time / seconds)
            cv2.line(image, (x, top), (x, top + _LANE), _POINT, 1, cv2.LINE_AA)
            cv2.circle(image, (x, top + 5), 4, _POINT, -1, cv2.LINE_AA)
    for share in (0, 0.25, 0.5, 0.75, 1):
        _write(image, f"{share * seconds:.0f} s", min(_column(share), _LABELS + _WIDTH - 50), len(image) - 8)
    return image


def _shown_classes(sample: Sample, fused: np.ndarray) -> list[int]:
    own = np.unique(np.concatenate([sample.points[:, 1], sample.segments[:, 2]])).astype(int).tolist()
    highest = fused.max(axis=0)  # [C]
    likely = [int(label) for label in np.argsort(-highest) if label not in own and highest[label] > 0.5]
    return (own + likely)[:_MOST_CLASSES] or [int(highest.argmax())]


def _curve(image: np.ndarray, top: int, values: np.ndarray, color: tuple[int, int, int], label: str) -> None:
    """A filled curve of values [T] in 0..1; several values on one pixel show their highest."""
    first = np.floor(np.linspace(0, len(values), _WIDTH, endpoint=False)).astype(int)
    heights = np.clip(np.maximum.reduceat(values, first), 0, 1) * (_LANE - 1)
    filled = np.arange(_LANE)[::-1, None] <= heights  # [lane, width]
    image[top : top + _LANE, _LABELS:][filled] = color
    image[top + _LANE - 1, _LABELS:] = _INK
    _write(image, label[:_MOST_LETTERS], 4, top + _LANE // 2 + 4)


def _bar(image: np.ndarray, top: int, start: float, end: float, color: tuple[int, int, int]) -> None:
    cv2.rectangle(image, (_column(start), top), (max(_column(end), _column(start) + 1), top + 5), color, -1)


def _column(share: float) -> int:
    return _LABELS + round(min(max(share, 0.0), 1.0) * (_WIDTH - 1))


def _write(image: np.ndarray, text: str, x: int, y: int, color: tuple[int, int, int] = _INK) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's fonts have no more
    cv2.putText(image, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
