"""Features of raw videos, extracted the way that a model was trained."""

from typing import cast

from hrpro_pipeline.extract.extractor import Extractor, load_extractor
from hrpro_pipeline.extract.options import Decoder, ExtractOptions, FlowBackend
from hrpro_pipeline.models.checkpoint import TrainedModel


def extractor_for(
    model: TrainedModel,
    *,
    weights: str = "auto",
    decoder: str = "auto",
    device: str = "auto",
    keep_partial: bool = False,
) -> Extractor:
    """What extracts videos with the model's own settings.

    Args:
        weights: `auto` for what the model's features were made with, or a folder of weight files.
        keep_partial: a video that cannot be decoded to its end gives the features of what could be.

    Raises:
        HrproError: weights, device or decoder that cannot be had.
    """
    if weights == "auto":
        weights = "random" if has_random_weights(model) else "kinetics"
    flow = str(model.extraction.get("flow_algorithm", "auto")).removeprefix("tvl1-")
    options = ExtractOptions(weights, cast(FlowBackend, flow), cast(Decoder, decoder), device, keep_partial)
    return load_extractor(model.settings.extract, options)


def has_random_weights(model: TrainedModel) -> bool:
    """Whether it was trained on features of random weights, which are for tests and demonstrations."""
    return any(digest.startswith("random") for digest in model.weights.values())
