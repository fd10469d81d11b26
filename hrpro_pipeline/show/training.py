"""Pictures of a run for TensorBoard, uint8 RGB [H, W, 3]: similarity of prototypes, and timelines of a few videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch

from hrpro_pipeline.data.features import StoredFeatures
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.infer.detector import scores_and_detections
from hrpro_pipeline.models.candidates import VideoScores
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.device import or_on_cpu
from hrpro_pipeline.show.fonts import spelled_out

# Pixels: the column of names, the plot beside it, the height of a lane, and the gap beneath it.
_NAMES_WIDTH, _WIDTH, _LANE, _GAP = 150, 850, 44, 26
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
    """A video whose timeline is drawn.

    Attributes:
        features: float32 [T, D], or their file. clock: of the features.
        points: rows of time in seconds and class, [K, 2].
        segments: ground truth, rows of start and end in seconds and class, [G, 3]; empty without annotations.
    """

    video_id: str
    features: np.ndarray | StoredFeatures
    clock: SnippetClock
    points: np.ndarray
    segments: np.ndarray


def heat_map(cosines: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """A matrix of cosines [C, C] in colors, with the name of each row if the rows are high enough."""
    cell = int(np.clip(480 // len(cosines), 4, 48))
    levels = ((np.clip(cosines, -1, 1) + 1) * 127.5).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    matrix = np.repeat(np.repeat(colors, cell, axis=0), cell, axis=1)
    image = np.full((len(matrix) + _GAP, _NAMES_WIDTH + len(matrix), 3), 255, np.uint8)
    image[: len(matrix), _NAMES_WIDTH:] = matrix
    for row, label in enumerate(classes):
        baseline = row * cell + cell // 2 + 4
        if cell >= 12:
            _write(image, label[:_MOST_LETTERS], 4, baseline)
        for column in range(len(classes) if cell >= 40 else 0):
            color = (255, 255, 255) if cosines[row, column] < 0.4 else _INK
            _write(image, f"{cosines[row, column]:.2f}", _NAMES_WIDTH + column * cell + 6, baseline, color)
    _write(image, "cosine of the prototypes: -1 dark, 1 light", 4, len(image) - 8)
    return image


def timeline(model: TrainedModel, sample: Sample) -> np.ndarray:
    """Score a video, detect in it, and draw both.

    Args:
        model: networks in eval mode.
    """
    features = torch.from_numpy(np.asarray(sample.features))
    device = model.snippet.prototypes.device
    compute = partial(scores_and_detections, model.on_clock(sample.clock))
    scores, detections = or_on_cpu(compute, model, features, device, sample.video_id)
    return draw_timeline(sample, scores, detections, model.classes)


def draw_timeline(sample: Sample, scores: VideoScores, detections: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Attention and class scores over a video, with its points, its ground truth, and the best detections.

    A lane for the attention, and one for each class that the video has or is likely to have.

    Args:
        scores: of the snippets of the video.
        detections: rows [M, 4] of start and end in seconds, class, score; best first.
        classes: names.
    """
    labels = _lane_classes(sample, scores.fused)
    seconds = sample.clock.seconds_per_snippet * len(scores.fused)
    image = np.full(((1 + len(labels)) * (_LANE + _GAP) + 2 * _GAP, _NAMES_WIDTH + _WIDTH, 3), 255, np.uint8)
    for index, (name, color) in enumerate(_LEGEND.items()):
        _write(image, name, _NAMES_WIDTH + 170 * index, 16, color)
    _curve(image, _GAP, 1 - scores.background, _ATTENTION, "attention")
    for lane, label in enumerate(labels, start=1):
        top = _GAP + lane * (_LANE + _GAP)
        _curve(image, top, scores.fused[:, label], _SCORE, classes[label])
        _bars(image, top + _LANE + 3, sample.segments[sample.segments[:, 2] == label] / seconds, _TRUTH)
        of_class = detections[detections[:, 2] == label][:_MOST_DETECTIONS]
        _bars(image, top + _LANE + 11, of_class / seconds, _DETECTED)
        for time in sample.points[sample.points[:, 1] == label, 0]:
            x = _column(time / seconds)
            cv2.line(image, (x, top), (x, top + _LANE), _POINT, 1, cv2.LINE_AA)
            cv2.circle(image, (x, top + 5), 4, _POINT, -1, cv2.LINE_AA)
    for share in (0, 0.25, 0.5, 0.75, 1):
        _write(image, f"{share * seconds:.0f} s", min(_column(share), _NAMES_WIDTH + _WIDTH - 50), len(image) - 8)
    return image


def _lane_classes(sample: Sample, fused: np.ndarray) -> list[int]:
    """Classes of the points and segments, then those with a high score; the best class without any."""
    of_video = np.unique(np.concatenate([sample.points[:, 1], sample.segments[:, 2]])).astype(int).tolist()
    highest = fused.max(axis=0)  # [C]
    likely = [int(label) for label in np.argsort(-highest) if label not in of_video and highest[label] > 0.5]
    return (of_video + likely)[:_MOST_CLASSES] or [int(highest.argmax())]


def _curve(image: np.ndarray, top: int, values: np.ndarray, color: tuple[int, int, int], label: str) -> None:
    """A filled curve of values [T] in 0..1; several values on one pixel show their highest."""
    first = np.floor(np.linspace(0, len(values), _WIDTH, endpoint=False)).astype(int)
    heights = np.clip(np.maximum.reduceat(values, first), 0, 1) * (_LANE - 1)
    filled = np.arange(_LANE)[::-1, None] <= heights  # [lane, width]
    image[top : top + _LANE, _NAMES_WIDTH:][filled] = color
    image[top + _LANE - 1, _NAMES_WIDTH:] = _INK
    _write(image, label[:_MOST_LETTERS], 4, top + _LANE // 2 + 4)


def _bars(image: np.ndarray, top: int, spans: np.ndarray, color: tuple[int, int, int]) -> None:
    """Bars of rows [N, >= 2] of start and end in shares of the width."""
    for start, end in spans[:, :2]:
        cv2.rectangle(image, (_column(start), top), (max(_column(end), _column(start) + 1), top + 5), color, -1)


def _column(share: float) -> int:
    """Pixel column of a share of the width."""
    return _NAMES_WIDTH + round(min(max(share, 0.0), 1.0) * (_WIDTH - 1))


def _write(image: np.ndarray, text: str, x: int, y: int, color: tuple[int, int, int] = _INK) -> None:
    plain = spelled_out(text, str.isascii)  # this font of OpenCV has ASCII alone
    cv2.putText(image, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
