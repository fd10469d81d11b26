"""Arrays that the figures draw. Detections are rows [M, 4] of start, end, class, score; segments rows [G, 3]."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.infer.detector import apply_stage_2, detect_actions
from hrpro_pipeline.infer.diagnosis import overlaps
from hrpro_pipeline.models.candidates import Candidates, find_candidates, windows
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.snippet import Packing, SnippetModel
from hrpro_pipeline.show.overlay import score_floor

# Lowest tIoU of a true positive.
TRUE_POSITIVE_TIOU = 0.5
# Detections of a video whose number of actions is not known.
MOST_WITHOUT_TRUTH = 10
# Labels of snippets that have no class.
BACKGROUND, MIXED = -1, -2
_PERPLEXITY = 30.0


def segment_rows(truth: VideoAnnotation | None, classes: Sequence[str]) -> np.ndarray:
    """Segments of the model's classes in time order, [G, 3] of start and end in seconds and class."""
    rows = [
        (segment.start_seconds, segment.end_seconds, classes.index(segment.label))
        for segment in (truth.segments if truth is not None else ())
        if segment.label in classes
    ]
    return np.array(sorted(rows), np.float64).reshape(-1, 3)


def best_overlap(detections: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Highest tIoU of each detection with a segment of its class, [M]; 0 without one."""
    if not len(segments):
        return np.zeros(len(detections))
    return _overlaps_in_class(detections, segments).max(axis=1)


def true_positives(detections: np.ndarray, segments: np.ndarray, tiou: float = TRUE_POSITIVE_TIOU) -> np.ndarray:
    """Which detections, best first, match a segment of their class that no better one has matched: bool [M]."""
    tious = _overlaps_in_class(detections, segments)
    free = np.ones(len(segments), bool)
    is_true = np.zeros(len(detections), bool)
    for row in range(len(detections) if len(segments) else 0):
        of_free = np.where(free, tious[row], -1.0)
        segment = int(of_free.argmax())
        if of_free[segment] >= tiou:
            free[segment], is_true[row] = False, True
    return is_true


def _overlaps_in_class(detections: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """tIoU of detections with segments of their class, 0 with others: [M, G]."""
    same_class = detections[:, None, 2] == segments[:, 2]
    return np.where(same_class, overlaps(detections[:, :2], segments[:, :2]), 0.0)


def separation(scores: np.ndarray, is_good: np.ndarray) -> float:
    """How often a good detection scores higher than a bad one, 0..1; NaN if all are good or all are bad.

    Args:
        scores: [M].
        is_good: bool [M].
    """
    bad_scores = np.sort(scores[~is_good])
    num_below, num_up_to = (np.searchsorted(bad_scores, scores[is_good], side) for side in ("left", "right"))
    num_pairs = len(bad_scores) * int(is_good.sum())
    return float((num_below + num_up_to).sum() / (2 * num_pairs)) if num_pairs else float("nan")


def localized(model: TrainedModel, features: Tensor, stage_1_alone: bool = False) -> tuple[Candidates, np.ndarray]:
    """Snippet scores and candidates of a video [T, D], and its detections in seconds, best first."""
    candidates = find_candidates(model.snippet, features, model.settings)
    if stage_1_alone:
        model = replace(model, instance=None, pyramid=None)
    return candidates, detect_actions(model, features, candidates=candidates.proposals)


def best_without_truth(detections: np.ndarray) -> np.ndarray:
    """The detections [M, 4], best first, to show of a video whose number of actions is not known."""
    if not len(detections):
        return detections
    return detections[detections[:, 3] >= score_floor(detections[0, 3])][:MOST_WITHOUT_TRUTH]


def scored_twice(model: TrainedModel, features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of a video [T, D] in seconds with the scores of stage 1, [M, 4], and with those of stage 2, [2 M, 4].

    Both are without soft-NMS. A model without stage 2 gives the first twice.
    """
    before = find_candidates(model.snippet, features, model.settings).proposals
    after = before if model.instance is None else apply_stage_2(model, features, before)
    before, after = before.copy(), after.copy()
    for rows in (before, after):
        rows[:, :2] = model.clock.to_seconds(rows[:, :2])
    return before, after[after[:, 0] < after[:, 1]]


@torch.inference_mode()
def snippet_embedding(model: SnippetModel, features: Tensor, window: int) -> np.ndarray:
    """Embeddings of a video's snippets that the contrastive loss acts on, [T, D] -> [T, D]."""
    parts = []
    for span, middle in windows(len(features), window):
        part = features[span]
        parts.append(model(part, Packing.of([len(part)], part.device)).embedding[middle].cpu().numpy())
    return np.concatenate(parts)


def snippet_labels(segments: np.ndarray, num_snippets: int, clock: SnippetClock) -> np.ndarray:
    """Class of each snippet by its middle, int [T]: BACKGROUND outside of all segments, MIXED inside of two classes."""
    middle = clock.to_seconds(np.arange(num_snippets) + 0.5)
    labels = np.full(num_snippets, BACKGROUND)
    for start, end, label in segments:
        inside = (start <= middle) & (middle < end)
        labels = np.where(inside, np.where((labels == BACKGROUND) | (labels == label), int(label), MIXED), labels)
    return labels


def sample_rows(labels: np.ndarray, per_class: int, seed: int = 0) -> np.ndarray:
    """Rows of `labels` [N] in order: at most `per_class` of each class, twice as many of BACKGROUND, none of MIXED."""
    rng = np.random.default_rng(seed)
    sampled = []
    for label in np.unique(labels[labels >= BACKGROUND]):
        rows = np.flatnonzero(labels == label)
        count = min(len(rows), per_class * (2 if label == BACKGROUND else 1))
        sampled.append(rng.choice(rows, count, replace=False))
    return np.sort(np.concatenate(sampled)) if sampled else np.empty(0, np.int64)


def tsne(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE of at least 4 vectors [N, D], by their directions, which the contrastive loss compares -> [N, 2]."""
    from sklearn.manifold import TSNE

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, 1e-12)
    perplexity = min(_PERPLEXITY, max(2.0, len(vectors) / 20))
    embedded = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(directions.astype(np.float32))
    return np.asarray(embedded, np.float64)
