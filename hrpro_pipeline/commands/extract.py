"""`hrpro extract`: features of videos."""

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from hrpro_pipeline.base.functions import function_of
from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.configs.presets import DEFAULT_PRESET
from hrpro_pipeline.data.features import STREAMS
from hrpro_pipeline.errors import UsageError
from hrpro_pipeline.extract.folder import ExtractionSummary, extract_folder
from hrpro_pipeline.extract.networks.own import is_path, label_of
from hrpro_pipeline.extract.options import Decoder, EngineName, ExtractOptions, FlowBackend, Workers


@dataclass(frozen=True)
class Extraction:
    """Extract two-stream features of videos, and of the videos in folders, into a FEATURES folder.

    Videos whose features are there already, made with the same settings, are skipped. A video that fails costs only
    itself: it is listed in the summary.

    Args:
        paths, out: paths, or URLs such as s3://bucket/folder.
        preset: name of a preset.
        overrides: `section.key=value` settings over the preset.
        backbone: name of the RGB network, or PATH.py:FUNCTION for one of your own, whose code is run; several with
            commas. RGB alone is extracted then, unless `overrides` set `extract.streams`.
        weights: `kinetics`, `random`, or a folder of weight files.
        flow: who computes TV-L1: `auto`, `torch` or `opencv`.
        decoder: which one is tried first: `auto`, `decord`, `pyav` or `torchcodec`.
        device: `auto`, `cpu`, `cuda` (all visible GPUs) or `cuda:N`.
        engine: `local`, or `ray` for a Ray cluster.
        workers: processes; by default one for each GPU, one in all on the CPU, on Ray as many as fit.
        ray_address: of a running cluster; one is started on this machine otherwise.
        overwrite: extract again what is there already.
        keep_partial: keep what can be decoded of a damaged video, marked as partial.

    Raises:
        HrproError: what concerns all videos: paths, settings, weights, device. A failing video is in the summary.

    Examples:
        Small frames and random weights are for examples: leave `options` out for real videos.

        >>> from hrpro_pipeline import extract_features
        >>> small = ["extract.resize=32", "extract.crop=32", "extract.streams=[rgb]"]
        >>> options = {"weights": "random", "overrides": small}
        >>> summary = extract_features(["videos/"], "new_features/", **options)
        >>> sorted(summary.done), summary.failed
        (['kitchen_01', 'kitchen_02'], [])
        >>> again = extract_features(["videos/"], "new_features/", **options)
        >>> again.done, sorted(again.skipped)
        ([], ['kitchen_01', 'kitchen_02'])
    """

    paths: Iterable[str | Path]
    out: str | Path
    _: KW_ONLY
    preset: str = DEFAULT_PRESET
    overrides: Sequence[str] = ()
    backbone: str | None = None
    weights: str = "kinetics"
    flow: FlowBackend = "auto"
    decoder: Decoder = "auto"
    device: str = "auto"
    engine: EngineName = "local"
    workers: int | None = None
    ray_address: str | None = None
    overwrite: bool = False
    keep_partial: bool = False

    def run(self) -> ExtractionSummary:
        backbones = self.backbone.split(",") if self.backbone is not None else []
        own = tuple(name for name in backbones if is_path(name))
        settings = load_settings(self.preset, [*_named_networks(backbones), *self.overrides]).extract
        known = [*STREAMS, *settings.networks()]
        if unknown := [name for name in settings.streams if name not in known]:
            raise UsageError(f"stream {unknown[0]!r} cannot be extracted; `streams` are {' and '.join(STREAMS)}")
        return extract_folder(
            list(self.paths),
            self.out,
            settings,
            ExtractOptions(self.weights, self.flow, self.decoder, self.device, self.keep_partial, own),
            Workers(self.engine, self.workers, self.ray_address),
            overwrite=self.overwrite,
        )


def _named_networks(backbones: Sequence[str]) -> list[str]:
    """Settings that take these RGB networks."""
    if not backbones:
        return []
    labels = [label_of(name) if is_path(name) else name for name in backbones]
    streams = [] if labels == ["i3d"] else ["extract.streams=[rgb]"]
    if len(labels) == 1:
        return [*streams, f"extract.backbone={labels[0]}"]
    return [*streams, f"extract.backbones=[{', '.join(labels)}]"]


extract_features = function_of(Extraction, "extract_features")
