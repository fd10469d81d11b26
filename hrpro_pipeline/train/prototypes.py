"""The prototype memory: its start, and how alike the prototypes of different classes are."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.train.snippet_stage import SnippetBatch

# Snippets that go through the network together at the start, at most; a longer video goes alone.
_MOST_SNIPPETS = 8192


@torch.no_grad()
def initialize_prototypes(model: SnippetModel, batches: Iterable[SnippetBatch]) -> None:
    """Set each prototype to the mean embedding at its class's points (paper, Eq. 2); zeros for a class without.

    Raises:
        HrproError: the embedding at a point is not finite.
    """
    training = model.training
    model.eval()
    total = torch.zeros_like(model.prototypes)
    count = torch.zeros_like(model.prototypes[:, :1])
    for batch in batches:
        rows = batch.points.any(dim=1).nonzero().squeeze(1)
        embedding = model.embedding_at(batch.features, batch.packing, rows)
        finite = embedding.isfinite().all(dim=1)
        if not bool(finite.all()):
            video_id = batch.video_ids[int(batch.packing.video[rows[~finite][0]])]
            raise HrproError(f"{video_id}: the embedding is not finite; look at the features")
        points = batch.points[rows]
        total += points.T @ embedding
        count += points.sum(dim=0)[:, None]
    model.prototypes.copy_(total / count.clamp(min=1))
    model.train(training)


def starting_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of videos that go through the network together, in order; `lengths` are their snippets."""
    batch: list[int] = []
    for index, length in enumerate(lengths):
        if batch and sum(lengths[item] for item in batch) + length > _MOST_SNIPPETS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def mean_off_diagonal(cosines: np.ndarray) -> float:
    """Mean cosine of two different prototypes; 0 where there are no two."""
    known = cosines[np.ix_(*[np.diag(cosines) > 0.5] * 2)]
    pairs = len(known) * (len(known) - 1)
    return float((known.sum() - np.trace(known)) / pairs) if pairs else 0.0
