"""Features of raw videos, extracted the way that a model was trained."""

from dataclasses import replace
from typing import cast

from hrpro_pipeline.extract.extractor import Extractor, load_extractor
from hrpro_pipeline.extract.options import ExtractOptions, FlowBackend
from hrpro_pipeline.models.checkpoint import TrainedModel


def extractor_for(model: TrainedModel, options: ExtractOptions) -> Extractor:
    """An extractor with the model's own extraction settings and TV-L1 implementation.

    Args:
        options: `weights` may be `auto` for those of the model's features; `flow` is not used.

    Raises:
        HrproError: weights, device or decoder are not available.
    """
    weights = options.weights
    if weights == "auto":
        weights = "random" if has_random_weights(model) else "kinetics"
    flow = str(model.extraction.get("flow_algorithm", "auto")).removeprefix("tvl1-")
    return load_extractor(model.settings.extract, replace(options, weights=weights, flow=cast(FlowBackend, flow)))


def has_random_weights(model: TrainedModel) -> bool:
    """Whether the model was trained on features of random weights, which are for tests and demonstrations."""
    return any(digest.startswith("random") for digest in model.weights.values())
