"""The snippet scores that a video's candidates were cut from, thinned out for display."""

from collections.abc import Sequence

import numpy as np

from hrpro_pipeline.data.detections import Curves
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.models.candidates import VideoScores

_MOST_POINTS = 1000
_MOST_CLASSES = 5
_DIGITS = 3


def curves_of(video: VideoScores, classes: Sequence[str], clock: SnippetClock, class_threshold: float) -> Curves:
    """Curves of the localized classes (the best five at most) and of attention.

    A video of more than 1000 snippets gets means of neighboring snippets, equally many for each point.

    Args:
        classes: names, [C].
        class_threshold: classes with at least this video score are localized; the best class if none has it.
    """
    num_localized = int((video.video_scores >= class_threshold).sum())
    best_first = np.argsort(-video.video_scores, kind="stable")
    localized = best_first[: min(max(num_localized, 1), _MOST_CLASSES)]
    step = -(-len(video.fused) // _MOST_POINTS)
    return Curves(
        start_seconds=round(float(clock.to_seconds(np.array(step / 2))), _DIGITS),
        seconds_per_point=step * clock.seconds_per_snippet,
        classes=tuple(classes[label] for label in localized),
        scores=tuple(_means(video.fused[:, label], step) for label in localized),
        attention=_means(1 - video.background, step),
    )


def _means(values: np.ndarray, step: int) -> tuple[float, ...]:
    """Means of every `step` neighbors, the last of fewer; [T] -> [ceil(T / step)]."""
    edges = np.arange(0, len(values), step)
    totals = np.add.reduceat(values.astype(np.float64), edges)
    return tuple(np.round(totals / np.diff(np.append(edges, len(values))), _DIGITS).tolist())
