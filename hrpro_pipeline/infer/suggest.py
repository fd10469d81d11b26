"""What to label next: doubts about the labels that there are, and the videos without points that teach most.

A video without points is worth more the rarer its likely classes are among the points, and the less sure the model is
of it: probabilities near one half, stages that disagree, moments unlike all prototypes. Videos are taken one after the
other, and what a video is likely to have counts as labeled for those after it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.data.suggestions import WORTH_A_LOOK, Suggestion
from hrpro_pipeline.infer.doubts import Evidence, Points, label_doubts, unlabeled, usual_scores

# Shares of the worth of a video.
_RARITY, _UNCERTAINTY = 0.5, 0.5
# Probability of the one moment that is looked at in a video in which nothing was detected.
_NEARLY_NOTHING = 0.1


def suggest_moments(
    evidence: Mapping[str, Evidence],
    points: Mapping[str, Points],
    background: Mapping[str, np.ndarray],
    classes: Sequence[str],
) -> list[Suggestion]:
    """Moments worth a look, best first.

    Doubts about labels have their own scores (see `label_doubts`). The moments of a video without points have the score
    of the video, so that they come together, in the order of time.

    Args:
        evidence: of all videos, with cosines of those without points.
        points: of those that have points of actions.
        background: moments without an action of the others, on the snippet axis.
    """
    doubts = [item for item in label_doubts(evidence, points, classes) if item.score >= WORTH_A_LOOK]
    usual = usual_scores(evidence, points)
    moments = {
        video_id: _moments(of_video, background.get(video_id, np.empty(0)), usual)
        for video_id, of_video in evidence.items()
        if video_id not in points
    }
    moments = {video_id: rows for video_id, rows in moments.items() if len(rows)}
    counts = np.zeros(len(classes))
    for labels in (of_video.labels for of_video in points.values()):
        counts += np.bincount(labels, minlength=len(classes))
    new = [
        Suggestion(video_id, float(seconds), classes[int(label)], "new", worth)
        for video_id, worth in _ranked_videos(moments, evidence, usual, counts)
        for seconds, label in _in_time(moments[video_id], evidence[video_id].clock)
    ]
    return sorted([*doubts, *new], key=lambda item: -item.score)  # stable: the moments of a video stay together


def _moments(evidence: Evidence, background: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Likely actions of a video without points, rows [M, 4] of start, end, class, probability.

    One at least, where it is most like an action, unless people saw already that there is none.
    """
    rows = unlabeled(evidence.detections, Points(np.empty(0), np.empty(0, np.int64), background, np.empty(0)))
    if len(rows) or len(background):
        return rows
    snippet, label = np.unravel_index((evidence.scores / usual).argmax(), evidence.scores.shape)
    return np.array([[snippet, snippet + 1, label, _NEARLY_NOTHING]], np.float64)


def _ranked_videos(
    moments: Mapping[str, np.ndarray], evidence: Mapping[str, Evidence], usual: np.ndarray, counts: np.ndarray
) -> list[tuple[str, float]]:
    """Videos and their worth, 0 to 1, best first; counts of labeled points by class, [C]."""
    if not moments:
        return []
    video_ids = list(moments)
    expected = np.stack([_expected_counts(rows, len(counts)) for rows in moments.values()])  # [V, C]
    unsure = np.array([_uncertainty(evidence[video_id], moments[video_id], usual) for video_id in video_ids])
    rarest = 1 / np.sqrt(1 + counts.min())
    remaining = np.ones(len(video_ids), bool)
    ranked: list[tuple[str, float]] = []
    worth_before = 1.0
    while remaining.any():
        rarity = expected @ (1 / np.sqrt(1 + counts)) / expected.sum(axis=1) / rarest
        worth = np.where(remaining, _RARITY * np.minimum(rarity, 1) + _UNCERTAINTY * unsure, -1)
        best = int(worth.argmax())
        worth_before = min(worth_before, float(worth[best]))
        ranked.append((video_ids[best], worth_before))
        remaining[best] = False
        counts = counts + expected[best]
    return ranked


def _expected_counts(rows: np.ndarray, num_classes: int) -> np.ndarray:
    """Actions that a video is likely to have of each class, [C]."""
    return np.bincount(rows[:, 2].astype(np.int64), weights=rows[:, 3], minlength=num_classes)


def _uncertainty(evidence: Evidence, rows: np.ndarray, usual: np.ndarray) -> float:
    """How unsure the model is of moments, 0 to 1, on average."""
    assert evidence.cosines is not None
    values = []
    for start, end, label, probability in rows:
        first = min(max(int(start), 0), len(evidence.scores) - 1)
        inside = slice(first, max(first + 1, int(np.ceil(end))))
        score = evidence.scores[inside, int(label)]
        disagreement = abs(probability - min(1.0, score.max() / max(usual[int(label)], 1e-6)))
        novelty = 1 - float(np.clip(evidence.cosines[first + int(score.argmax())].max(), 0, 1))
        values.append((1 - abs(2 * probability - 1) + disagreement + novelty) / 3)
    return float(np.mean(values))


def _in_time(rows: np.ndarray, clock: SnippetClock) -> list[tuple[float, float]]:
    """Middle in seconds and class of moments, in the order of time."""
    middles = clock.to_seconds(rows[:, :2].mean(axis=1))
    return sorted(zip(middles.tolist(), rows[:, 2].tolist(), strict=True))
