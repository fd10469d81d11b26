"""What the figures show, as arrays. Detections are rows [M, 4] of start, end, class, score; segments rows [G, 3]."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.infer.detector import detect_actions, with_instances
from hrpro_pipeline.models.candidates import Candidates, find_candidates, windows
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.snippet import Packing, SnippetModel
from hrpro_pipeline.show.overlay import lowest_shown

# tIoU from which on a detection counts as right.
RIGHT_TIOU = 0.5
# Detections of a video whose number of actions is not known.
SHOWN_WITHOUT_TRUTH = 10
BACKGROUND = -1
_PERPLEXITY = 30.0


def segment_rows(truth: VideoAnnotation | None, classes: Sequence[str]) -> np.ndarray:
    """Segments of the model's classes in time order, [G, 3] of start and end in seconds and class."""
    listed = truth.segments if truth is not None else ()
    rows = [
        (item.start_seconds, item.end_seconds, classes.index(item.label)) for item in listed if item.label in classes
    ]
    return np.array(sorted(rows), np.float64).reshape(-1, 3)


def best_overlap(detections: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """tIoU of each detection with the segment of its class that it overlaps most, [M]; 0 where there is none."""
    if not len(segments):
        return np.zeros(len(detections))
    return _overlaps(detections, segments).max(axis=1)


def right(detections: np.ndarray, segments: np.ndarray, tiou: float = RIGHT_TIOU) -> np.ndarray:
    """Which detections, best first, find a segment of their class that no better one has found: bool [M]."""
    overlaps = _overlaps(detections, segments)
    free = np.ones(len(segments), bool)
    hits = np.zeros(len(detections), bool)
    for row in range(len(detections) if len(segments) else 0):
        left = np.where(free, overlaps[row], -1.0)
        place = int(left.argmax())
        if left[place] >= tiou:
            free[place], hits[row] = False, True
    return hits


def _overlaps(detections: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """tIoU of detections with segments of their own class, 0 with others: [M, G]."""
    start, end, label = (detections[:, None, column] for column in range(3))
    shared = np.minimum(end, segments[:, 1]) - np.maximum(start, segments[:, 0])
    union = np.maximum((end - start) + (segments[:, 1] - segments[:, 0]) - shared, 1e-12)
    return np.where((label == segments[:, 2]) & (shared > 0), shared / union, 0.0)


def separation(scores: np.ndarray, good: np.ndarray) -> float:
    """How often a good detection scores higher than a bad one, 0..1; NaN where one of the kinds is missing.

    Args:
        scores: [M]. good: bool [M].
    """
    ranked = np.sort(scores[~good])
    below, upto = (np.searchsorted(ranked, scores[good], side) for side in ("left", "right"))
    pairs = len(ranked) * int(good.sum())
    return float((below + upto).sum() / (2 * pairs)) if pairs else float("nan")


def localized(model: TrainedModel, features: Tensor, stage_1_alone: bool = False) -> tuple[Candidates, np.ndarray]:
    """Snippet scores and candidates of a video [T, D], and its detections in seconds, best first."""
    found = find_candidates(model.snippet, features, model.settings)
    used = replace(model, instance=None) if stage_1_alone else model
    return found, detect_actions(used, features, candidates=found.proposals)


def without_truth(rows: np.ndarray) -> np.ndarray:
    """Of a video's detections [M, 4], best first, those to show where the number of actions is not known."""
    return rows[rows[:, 3] >= lowest_shown(rows[0, 3])][:SHOWN_WITHOUT_TRUTH] if len(rows) else rows


def scored_twice(model: TrainedModel, features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of a video [T, D] in seconds with the scores of stage 1, [M, 4], and with those of stage 2, [2 M, 4].

    Soft-NMS has touched neither. A model without stage 2 gives the first twice.
    """
    before = find_candidates(model.snippet, features, model.settings).proposals
    after = before if model.instance is None else with_instances(model, features, before)
    before, after = before.copy(), after.copy()
    for rows in (before, after):
        rows[:, :2] = model.clock.to_seconds(rows[:, :2])
    return before, after[after[:, 0] < after[:, 1]]


@torch.inference_mode()
def snippet_embedding(model: SnippetModel, features: Tensor, window: int) -> np.ndarray:
    """What the contrastive loss acts on, of a video's snippets [T, D] -> [T, D]."""
    parts = []
    for piece, kept in windows(len(features), window):
        part = features[piece]
        parts.append(model(part, Packing.of([len(part)], part.device)).embedding[kept].cpu().numpy())
    return np.concatenate(parts)


def snippet_labels(segments: np.ndarray, num_snippets: int, clock: SnippetClock) -> np.ndarray:
    """Class of each snippet by its middle, int [T]: BACKGROUND outside of all segments, -2 inside of two classes'."""
    middle = clock.to_seconds(np.arange(num_snippets) + 0.5)
    labels = np.full(num_snippets, BACKGROUND)
    for start, end, label in segments:
        inside = (start <= middle) & (middle < end)
        labels = np.where(inside, np.where((labels == BACKGROUND) | (labels == label), int(label), -2), labels)
    return labels


def sample_rows(labels: np.ndarray, per_class: int, seed: int = 0) -> np.ndarray:
    """Rows of `labels` [N], at most so many of each label (of BACKGROUND twice), none below it; ascending."""
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels[labels >= BACKGROUND]):
        rows = np.flatnonzero(labels == label)
        count = min(len(rows), per_class * (2 if label == BACKGROUND else 1))
        chosen.append(rng.choice(rows, count, replace=False))
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def tsne(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE of at least 4 vectors [N, D], by their directions, as the contrastive loss sees them -> [N, 2]."""
    from sklearn.manifold import TSNE

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, 1e-12)
    perplexity = min(_PERPLEXITY, max(2.0, len(vectors) / 20))
    found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(directions.astype(np.float32))
    return np.asarray(found, np.float64)
