"""From scores that rank detections to probabilities that they are right."""

from dataclasses import dataclass

import numpy as np

_LOWEST_SCORE = 1e-3


@dataclass(frozen=True)
class Calibration:
    """Logistic regression on the logarithm of the score (Platt, 1999), and the probability that an answer needs."""

    slope: float
    intercept: float
    threshold: float

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Scores (any shape) -> probabilities of a right detection, 0 to 1."""
        return 1 / (1 + np.exp(-(self.slope * log_score(scores) + self.intercept)))


def log_score(scores: np.ndarray) -> np.ndarray:
    """The logarithm of scores, those of nearly nothing taken alike."""
    return np.log(np.maximum(np.asarray(scores, np.float64), _LOWEST_SCORE))
