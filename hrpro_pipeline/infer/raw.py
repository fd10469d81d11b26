"""Features of raw videos, extracted the way that a model was trained."""

from dataclasses import replace
from typing import cast

from hrpro_pipeline.configs.schema import is_own_network
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.extractor import Extractor, load_extractor
from hrpro_pipeline.extract.networks.own import label_of
from hrpro_pipeline.extract.options import ExtractOptions, FlowBackend
from hrpro_pipeline.models.checkpoint import TrainedModel


def extractor_for(model: TrainedModel, options: ExtractOptions) -> Extractor:
    """An extractor with the model's own extraction settings and TV-L1 implementation.

    Args:
        options: `weights` may be `auto` for those of the model's features; `flow` is not used. Networks of the user's
            own must be named in it: nothing in a model makes code run.

    Raises:
        HrproError: weights, device or decoder are not available, the model's features were made elsewhere, or a network
            of the user's own is not named, or not the one that the model was trained with.
    """
    if reason := _why_not(model):
        raise HrproError(f"videos cannot be made into features for this model: {reason}; give it features instead")
    weights = options.weights
    if weights == "auto":
        weights = "random" if has_random_weights(model) else "kinetics"
    flow = str(model.extraction.get("flow_algorithm", "auto")).removeprefix("tvl1-")
    networks = model.settings.extract.networks()
    for path in options.own:
        if label_of(path) not in networks.values():
            raise HrproError(f"`backbone` {path}: the model was trained with {', '.join(networks.values())}")
    extractor = load_extractor(model.settings.extract, replace(options, weights=weights, flow=cast(FlowBackend, flow)))
    for stream, network in networks.items():
        if is_own_network(network) and extractor.backbones[stream].digest != model.weights.get(stream):
            raise HrproError(
                f"the network {network} or its weights changed since the model was trained: give the file as it was, "
                "or extract and train again"
            )
    return extractor


def _why_not(model: TrainedModel) -> str:
    """Why features like those of a model cannot be extracted here; empty if they can, as far as is known."""
    networks = model.settings.extract.networks()
    if other := [name for name in model.widths if name not in networks]:
        return f"its stream {other[0]} was imported"
    return "it was trained on imported features with a clock of its own for each video" if model.own_clocks else ""


def has_random_weights(model: TrainedModel) -> bool:
    """Whether the model was trained on features of random weights, which are for tests and demonstrations."""
    return any(digest.startswith("random") for digest in model.weights.values())
