"""Whether the features at a point are like those at points of its class in other videos. No model, nothing learned."""

from collections.abc import Sequence

import numpy as np

from hrpro_pipeline.data.dataset import TrainingVideo

# Nearest points that are asked for their class, and points that are compared with at most.
_NUM_NEIGHBORS = 15
_MOST_POINTS = 4000
# Snippets to both sides over which features are averaged: the moment, and what is around it.
_RADII = (1, 6)


def agreement_of_neighbors(videos: Sequence[TrainingVideo]) -> dict[str, np.ndarray]:
    """Of each point, the share of the 15 nearest points of other videos that are of its class.

    Fewer are asked where the other videos have fewer points of the class; 1 where they have none.

    Returns:
        [K] by video id.
    """
    counts = [len(video.labels) for video in videos]
    labels = np.concatenate([video.labels for video in videos])
    video_of_point = np.repeat(np.arange(len(videos)), counts)
    share = min(1.0, _MOST_POINTS / max(1, len(labels)))
    selected = np.random.default_rng(0).random(len(labels)) < share
    of_videos = np.split(selected, np.cumsum(counts)[:-1])
    around = [_around(video) for video in videos]
    references = np.concatenate([context[rows] for context, rows in zip(around, of_videos, strict=True)])
    labels, video_of_point = labels[selected], video_of_point[selected]
    mean, std = references.mean(axis=0), references.std(axis=0) + 1e-3
    references = (references - mean) / std
    squares = np.square(references).sum(axis=1)
    agreement = {}
    for index, video in enumerate(videos):
        contexts = (around[index] - mean) / std
        # Without the term that is the same for all references.
        distance = squares - 2 * contexts @ references.T  # [K, R]
        distance[:, video_of_point == index] = np.inf
        nearest = np.argsort(distance, axis=1)[:, :_NUM_NEIGHBORS]
        is_other = np.isfinite(np.take_along_axis(distance, nearest, axis=1))
        of_class = np.array([(labels[video_of_point != index] == label).sum() for label in video.labels])
        asked = np.minimum(of_class, _NUM_NEIGHBORS)
        is_asked = np.arange(nearest.shape[1]) < asked[:, None]
        alike = ((labels[nearest] == video.labels[:, None]) & is_asked & is_other).sum(axis=1)
        agreement[video.video_id] = np.where(asked > 0, alike / np.maximum(asked, 1), 1.0)
    return agreement


def _around(video: TrainingVideo) -> np.ndarray:
    """Mean features near each point, once for each radius, side by side: [K, 2 D]."""
    features = np.asarray(video.features)
    means = [
        [features[max(0, snippet - radius) : snippet + radius + 1].mean(axis=0) for radius in _RADII]
        for snippet in video.snippets
    ]
    return np.array(means, np.float32).reshape(len(video.snippets), -1)
