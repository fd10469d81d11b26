"""Proposals between the stages: reliable ones for the points, negative ones from the background."""

import numpy as np

from hrpro_pipeline.models.proposals import runs


def reliable_proposals(candidates: np.ndarray, positions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The reliable proposal of each point: the best candidate of its class that contains it.

    Candidates that stay strictly between the neighboring points come first. Only scores over 0 count.

    Args:
        candidates: [M, 4] rows of start, end, class, score.
        positions: points of one video in time order, [K], in the unit of the candidates' bounds. labels: [K].

    Returns:
        Row of each point's proposal, int64 [K]; -1 for a point that no candidate contains.
    """
    if not len(candidates) or not len(positions):
        return np.full(len(positions), -1, np.int64)
    score = candidates[:, 3]
    contains = containing(candidates, positions, labels)  # [K, M]
    border = np.concatenate([[-np.inf], positions, [np.inf]])
    between = contains & (candidates[:, 0] > border[:-2, None]) & (candidates[:, 1] < border[2:, None])
    eligible = np.where(between.any(axis=1, keepdims=True), between, contains)
    best = np.argmax(np.where(eligible, score, -np.inf), axis=1)
    return np.where(eligible.any(axis=1), best, -1)


def containing(candidates: np.ndarray, positions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which candidates [M, 4] of a score over 0 contain which points of their class [K] -> bool [K, M]."""
    start, end, label, score = candidates.T
    points = positions[:, None]
    return (label == labels[:, None]) & (start <= points) & (end >= points) & (score > 0)


def negative_proposals(background_seeds: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random sub-intervals of the runs of background seeds.

    A run is drawn first, then a whole-numbered interval in it; a run of one snippet gives itself. Runs of two
    snippets hold no such interval: they give themselves where there are no others.

    Args:
        background_seeds: bool [T].

    Returns:
        [count, 2], start and end on the snippet axis; [0, 2] where there is no background.
    """
    _, starts, ends = runs(background_seeds[None])
    lengths = ends - starts
    usable = lengths != 2
    if not usable.any():
        usable[:] = True
    starts, lengths = starts[usable], lengths[usable]
    drawn = np.empty((0, 2))
    while len(starts) and len(drawn) < count:
        # Intervals without length are drawn again, run and all, which favors the long runs.
        pick = rng.integers(len(starts), size=2 * (count - len(drawn)))
        first = np.floor(rng.random(len(pick)) * (lengths[pick] - 1))
        last = np.floor(first + rng.random(len(pick)) * (lengths[pick] - 1 - first))
        whole = lengths[pick] <= 2
        first, last = np.where(whole, 0, first), np.where(whole, lengths[pick], last)
        bounds = starts[pick, None] + np.stack([first, last], axis=1)
        drawn = np.concatenate([drawn, bounds[last > first]])
    return drawn[:count]
