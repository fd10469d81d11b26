"""Features of raw videos, extracted the way that a model was trained."""

from hrpro_pipeline.extract.extractor import Extractor, load_extractor
from hrpro_pipeline.models.checkpoint import TrainedModel


def extractor_for(
    model: TrainedModel, *, weights: str = "auto", decoder: str = "auto", device: str = "auto"
) -> Extractor:
    """What extracts videos with the model's own settings.

    Args:
        weights: `auto` for what the model's features were made with, or a folder of weight files.

    Raises:
        HrproError: weights, device or decoder that cannot be had.
    """
    if weights == "auto":
        is_random = any(digest.startswith("random") for digest in model.weights.values())
        weights = "random" if is_random else "kinetics"
    flow = str(model.extraction.get("flow_algorithm", "auto")).removeprefix("tvl1-")
    return load_extractor(model.settings.extract, weights, flow, decoder, device)
