"""The snippet model: packed videos, attention's merged projections, dropout."""

import numpy as np
import pytest
import torch
from made_features import packing

from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.models.checkpoint import build_snippet
from hrpro_pipeline.models.snippet import AttentionLayer, Packing, SnippetModel, dropout

DIM = 32


def test_packed_videos_get_what_they_get_alone() -> None:
    torch.manual_seed(0)
    lengths = [5, 1, 40]
    model = SnippetModel(DIM, 3).eval()
    model.prototypes.normal_()
    features = torch.rand(sum(lengths), DIM)
    with torch.inference_mode():
        together = model(features, packing(lengths))
        alone = [model(video, packing([len(video)])) for video in features.split(lengths)]
    for part, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(part, torch.cat(parts), rtol=1e-4, atol=1e-5)


def test_merged_projections_are_the_same_map() -> None:
    """More tokens than channels go through one merged product, fewer through two in a row."""
    torch.manual_seed(0)
    layer = AttentionLayer(DIM, 4, 8, 0.0, 0.0)
    tokens = torch.rand(2 * DIM, DIM)
    for first, last in ((0, 3), (0, 1), (1, 3)):
        parts = zip(layer._project(tokens[:DIM], first, last), layer._project(tokens[DIM:], first, last), strict=True)
        for whole, (one, other) in zip(layer._project(tokens, first, last), parts, strict=True):
            torch.testing.assert_close(whole, torch.cat([one, other]), rtol=1e-4, atol=1e-5)


def test_dropout_of_random_bits() -> None:
    torch.manual_seed(0)
    values = torch.ones(1001, 999, requires_grad=True)
    dropped = dropout(values, 0.3)
    kept = dropped != 0
    assert kept.double().mean().item() == pytest.approx(0.7, abs=0.002)
    assert dropped[kept].unique().tolist() == [pytest.approx(1 / 0.7)]
    # No pattern along rows or columns.
    assert kept.double().mean(dim=0).std().item() == pytest.approx((0.21 / 1001) ** 0.5, rel=0.1)
    assert kept.double().mean(dim=1).std().item() == pytest.approx((0.21 / 999) ** 0.5, rel=0.1)
    dropped.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad != 0, kept)
    torch.manual_seed(0)
    assert torch.equal(dropout(values, 0.3), dropped)
    assert dropout(values, 0.999999).count_nonzero() < 100


def test_50_widths() -> None:
    """Stage 1 takes features of any width: the largest number of heads that divides it, up to the set one."""
    widths = np.unique(np.geomspace(16, 12288, 50).round().astype(int))
    assert len(widths) == 50
    settings = load_settings("thumos14", ["snippet.attention_layers=1", "snippet.feedforward=8"])
    for width in widths.tolist():
        with torch.device("meta"):  # shapes alone: 12,288 channels are 450 million parameters in the convolution
            model = build_snippet(settings, width, 3).eval()
            scores = model(torch.empty(9, width), Packing((9,), *torch.zeros(4, 1, dtype=torch.long)))
        assert scores.fused.shape == (9, 3)
        heads = model.layers[0].attention.num_heads
        assert width % heads == 0 and heads == max(count for count in range(1, 9) if width % count == 0)
    model = build_snippet(settings, 34, 3).eval()
    assert torch.isfinite(model(torch.ones(9, 34), Packing.of([9], torch.device("cpu"))).fused).all()
    with pytest.raises(ValueError, match="not divisible"):
        SnippetModel(34, 3, heads=8)
