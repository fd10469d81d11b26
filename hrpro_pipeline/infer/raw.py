"""Features of raw videos, extracted the way that a model was trained."""

from collections.abc import Iterator, Mapping

from hrpro_pipeline.data.features import VideoFeatures
from hrpro_pipeline.data.storage import Location
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.extractor import extract_videos, load_extractor
from hrpro_pipeline.models.checkpoint import TrainedModel


def features_of_videos(
    model: TrainedModel,
    videos: Mapping[str, Location],
    *,
    weights: str = "auto",
    decoder: str = "auto",
    device: str = "auto",
) -> Iterator[tuple[str, VideoFeatures | HrproError]]:
    """Extract videos with the model's own settings, and give each as it finishes; nothing is written.

    Args:
        videos: path or URL by video id.
        weights: `auto` for what the model's features were made with, or a folder of weight files.

    Raises:
        HrproError: what concerns all videos, before the first one.
    """
    if weights == "auto":
        is_random = any(digest.startswith("random") for digest in model.weights.values())
        weights = "random" if is_random else "kinetics"
    flow = str(model.extraction.get("flow_algorithm", "auto")).removeprefix("tvl1-")
    extractor = load_extractor(model.settings.extract, weights, flow, decoder, device)
    return extract_videos(videos.items(), extractor)
