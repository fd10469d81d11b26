"""`hrpro extract`."""

import logging
import sys
from typing import TYPE_CHECKING

import click

from hrpro_pipeline.base import progress
from hrpro_pipeline.cli import options
from hrpro_pipeline.cli.options import PresetOptions
from hrpro_pipeline.extract.options import EngineName, ExtractOptions, FlowBackend, Workers

if TYPE_CHECKING:
    from hrpro_pipeline.extract.folder import ExtractionSummary

log = logging.getLogger(__name__)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=str, metavar="PATH...")
@click.option("--out", required=True, type=str, help="Folder (or URL) for the features, one HDF5 file a video.")
@options.preset
@click.option("--streams", metavar="rgb,flow", help="Streams to extract.  [default: those of the preset]")
@click.option(
    "--backbone",
    metavar="NAME,...",
    help="RGB network by name, or PATH.py:FUNCTION for your own, whose code is run; several with commas. "
    "RGB alone, unless --streams says more.  [default: that of the preset]",
)
@options.as_record(
    ExtractOptions,
    "extraction",
    click.option("--weights", default="kinetics", show_default=True, help="kinetics, random, or a folder of files."),
    click.option("--flow", type=options.choices(FlowBackend), default="auto", show_default=True),
    options.decoder,
    click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda (all visible GPUs) or cuda:N (that one)."
    ),
    options.keep_partial,
)
@options.as_record(
    Workers,
    "workers",
    click.option("--engine", type=options.choices(EngineName), default="local", show_default=True),
    click.option(
        "--workers",
        "count",
        type=click.IntRange(min=1),
        help="Worker processes.  [default: one for each GPU; on the CPU one; on Ray as many as fit]",
    ),
    click.option("--ray-address", metavar="ADDRESS", help="A running Ray cluster.  [default: one on this machine]"),
)
@click.option("--overwrite", is_flag=True, help="Extract again what is there already.")
@options.on_error
def extract(
    paths: tuple[str, ...],
    out: str,
    preset: PresetOptions,
    streams: str | None,
    backbone: str | None,
    extraction: ExtractOptions,
    workers: Workers,
    overwrite: bool,
    on_error: str,
) -> None:
    """Extract features of videos (files and folders): TV-L1 + two-stream I3D, or other networks.

    Running the same command again extracts what is missing or was made with other settings, and nothing else.

    \b
    Example:
      hrpro extract videos/ --out features/
      hrpro extract videos/ --out features/ --backbone mvit_v2_s
    """
    from hrpro_pipeline.commands.extract import extract_features

    overrides = preset.overrides
    if streams is not None:
        overrides = (*overrides, f"extract.streams=[{streams}]")
    summary = extract_features(
        paths,
        out,
        preset=preset.preset,
        overrides=overrides,
        backbone=backbone,
        weights=extraction.weights,
        flow=extraction.flow,
        decoder=extraction.decoder,
        device=extraction.device,
        engine=workers.engine,
        workers=workers.count,
        ray_address=workers.ray_address,
        overwrite=overwrite,
        keep_partial=extraction.keep_partial,
    )
    _log_summary(summary)
    counts = f"{len(summary.done)} extracted, {len(summary.skipped)} there already, {len(summary.failed)} failed"
    click.echo(f"{counts}: {out}")
    if summary.failed and on_error == "fail":
        sys.exit(1)


def _log_summary(summary: "ExtractionSummary") -> None:
    """A table of what needs a look, and how fast it went."""
    rows = [(failure.video_id, "failed", failure.reason) for failure in summary.failed]
    rows += [(video_id, "in part", reason) for video_id, reason in summary.partial.items()]
    width = max((len(video_id) for video_id, _, _ in rows), default=0)
    for video_id, status, reason in rows:
        fields = progress.about("video", video_id=video_id, status=status, reason=reason)
        log.warning("%s", f"{video_id:<{width}}  {status:<7}  {reason}", extra=fields)
    if summary.done:
        hours, rate = summary.video_seconds / 3600, summary.video_seconds / summary.seconds
        log.info("%.2f hours of video in %.0f s: %.2f times real time", hours, summary.seconds, rate)
