"""The start of the prototypes: what is left out of the network changes nothing, and is most of the work."""

import numpy as np
import pytest
import torch
from made_features import packing
from torch.utils.flop_counter import FlopCounterMode

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.train.prototypes import initialize_prototypes, starting_batches
from hrpro_pipeline.train.snippet_stage import SnippetBatch

LENGTHS = [9, 1, 2, 30]
# Both ends of videos, neighbors, and the only snippet of one.
ROWS = torch.tensor([0, 4, 5, 8, 9, 10, 11, 12, 41])


def network(num_classes: int = 40, **changes: object) -> SnippetModel:
    torch.manual_seed(0)
    model = SnippetModel(16, num_classes, heads=4, **changes)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if name.endswith("in_proj_bias"):  # a trained network has such, a new one none
            torch.nn.init.normal_(parameter)
    return model.eval()


def features(seed: int = 1) -> torch.Tensor:
    return torch.randn(sum(LENGTHS), 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("scrambled", [False, True])
@pytest.mark.parametrize("known", ["none", "some"])
@torch.no_grad()
def test_some_snippets_are_as_in_the_whole(layers: int, scrambled: bool, known: str) -> None:
    model = network(attention_layers=layers, scrambled_prototypes=scrambled)
    if known == "some":
        model.prototypes[3:] = torch.randn(37, 16)
    whole = model(features(), packing(LENGTHS)).embedding
    some = model.embedding_at(features(), packing(LENGTHS), ROWS)
    torch.testing.assert_close(some, whole[ROWS], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_the_memory_counts_as_often_as_it_has_classes() -> None:
    """One token alone would be another network: the test above can fail."""
    few, many = (network(num_classes).embedding_at(features(), packing(LENGTHS), ROWS) for num_classes in (2, 40))
    assert (few - many).abs().max() > 1e-2


def batch(lengths: list[int], rows: torch.Tensor, values: torch.Tensor) -> SnippetBatch:
    points = torch.zeros(sum(lengths), 40)
    points[rows, torch.arange(len(rows)) % 3] = 1
    return SnippetBatch([f"v{number}" for number in range(len(lengths))], values, points, packing(lengths))


def test_prototypes_are_mean_embeddings() -> None:
    """Whatever the batches."""
    model, values = network(), features()
    together = batch(LENGTHS, ROWS, values)
    alone, start = [], 0
    for length in LENGTHS:
        points = together.points[start : start + length]
        alone.append(SnippetBatch(["v"], values[start : start + length], points, packing([length])))
        start += length
    with torch.no_grad():
        embedding = model(values, together.packing).embedding
    expected = torch.stack([embedding[ROWS[label::3]].mean(dim=0) for label in range(3)])
    for batches in ([together], alone):
        model.prototypes.zero_()
        initialize_prototypes(model, batches)
        torch.testing.assert_close(model.prototypes[:3], expected, rtol=1e-4, atol=1e-6)
        assert not model.prototypes[3:].any()


def test_the_start_names_the_video_that_is_not_finite() -> None:
    values = features()
    values[11] = torch.inf
    with pytest.raises(HrproError, match="^v2: the embedding is not finite"):
        initialize_prototypes(network(), [batch(LENGTHS, ROWS, values)])


def test_videos_without_points() -> None:
    """Parts of long videos may have none."""
    model, none = network(), torch.empty(0, dtype=torch.long)
    initialize_prototypes(model, [batch(LENGTHS, none, features()), batch(LENGTHS, ROWS, features())])
    both = model.prototypes.clone()
    model.prototypes.zero_()
    initialize_prototypes(model, [batch(LENGTHS, ROWS, features())])
    torch.testing.assert_close(both, model.prototypes)


def test_the_start_is_a_fraction_of_the_work() -> None:
    """With 200 classes, 64 channels and videos of two minutes, counted in products."""
    model = SnippetModel(64, 200).eval()
    lengths = [187] * 4
    rows = torch.tensor([start * 187 + 50 for start in range(4)])
    values = torch.randn(sum(lengths), 64)
    counts = []
    for work in (lambda: model(values, packing(lengths)), lambda: model.embedding_at(values, packing(lengths), rows)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            work()
        counts.append(counter.get_total_flops())
    assert counts[0] > 3 * counts[1] > 0


def test_the_last_layer_leaves_the_memory_out() -> None:
    """Whose classes are more tokens than a video has snippets: nothing reads what it would make of them."""
    rows = []
    model = network().train()
    model.layers[-1].register_forward_hook(lambda *called: rows.append(len(called[-1])))
    model(features(), packing(LENGTHS))
    assert rows == [sum(LENGTHS)]


def test_videos_that_start_together() -> None:
    assert list(starting_batches([5000, 3000, 193, 20000, 1, 2])) == [[0, 1], [2], [3], [4, 5]]
    assert list(starting_batches([])) == []
    lengths = np.random.default_rng(0).integers(1, 3000, 50).tolist()
    assert [index for group in starting_batches(lengths) for index in group] == list(range(50))
