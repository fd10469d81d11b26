"""The prototype memory: its start, and how alike the prototypes of different classes are."""

from collections.abc import Iterable

import numpy as np
import torch

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.train.snippet_stage import SnippetBatch


@torch.no_grad()
def initialize_prototypes(model: SnippetModel, batches: Iterable[SnippetBatch]) -> None:
    """Set each prototype to the mean embedding at its class's points (paper, Eq. 2); zeros for a class without.

    Raises:
        HrproError: the embedding of a video is not finite.
    """
    training = model.training
    model.eval()
    total = torch.zeros_like(model.prototypes)
    count = torch.zeros_like(model.prototypes[:, :1])
    for batch in batches:
        embedding = model(batch.features, batch.packing).embedding
        if not bool(embedding.isfinite().all()):
            raise HrproError(f"{', '.join(batch.video_ids)}: the embedding is not finite; look at the features")
        total += batch.points.T @ embedding
        count += batch.points.sum(dim=0)[:, None]
    model.prototypes.copy_(total / count.clamp(min=1))
    model.train(training)


def mean_off_diagonal(cosines: np.ndarray) -> float:
    """Mean cosine of two different prototypes; 0 where there are no two."""
    known = cosines[np.ix_(*[np.diag(cosines) > 0.5] * 2)]
    pairs = len(known) * (len(known) - 1)
    return float((known.sum() - np.trace(known)) / pairs) if pairs else 0.0
