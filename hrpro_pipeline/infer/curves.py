"""The snippet scores that a video's candidates were cut from, small enough to be shown."""

from collections.abc import Sequence

import numpy as np

from hrpro_pipeline.data.detections import Curves
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.models.candidates import Candidates

_MOST_POINTS = 1000
_MOST_CLASSES = 5
_DIGITS = 3


def curves_of(found: Candidates, classes: Sequence[str], clock: SnippetClock, class_threshold: float) -> Curves:
    """Curves of the classes that are localized (the best five at most) and of attention.

    A video of more than 1000 snippets gets the means of equally many neighbors.

    Args:
        classes: names, [C].
        class_threshold: classes with at least this video score are localized, or the best one where there is none.
    """
    order = np.argsort(-found.video_scores, kind="stable")
    count = int((found.video_scores >= class_threshold).sum())
    chosen = order[: min(max(count, 1), _MOST_CLASSES)]
    step = -(-len(found.fused) // _MOST_POINTS)
    return Curves(
        start_seconds=round(float(clock.to_seconds(np.array(step / 2))), _DIGITS),
        seconds_per_point=step * clock.seconds_per_snippet,
        classes=tuple(classes[index] for index in chosen),
        scores=tuple(_means(found.fused[:, index], step) for index in chosen),
        attention=_means(1 - found.background, step),
    )


def _means(values: np.ndarray, step: int) -> tuple[float, ...]:
    """Means of each `step` neighbors, the last of those that are left; [T] -> [ceil(T / step)]."""
    edges = np.arange(0, len(values), step)
    totals = np.add.reduceat(values.astype(np.float64), edges)
    return tuple(np.round(totals / np.diff(np.append(edges, len(values))), _DIGITS).tolist())
