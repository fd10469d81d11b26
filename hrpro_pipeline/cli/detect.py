"""`hrpro detect`."""

import logging
import sys
from pathlib import Path

import click

from hrpro_pipeline.base import progress
from hrpro_pipeline.cli import options
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.infer.output import Format, Output

log = logging.getLogger(__name__)


@click.command()
@click.argument("model", type=options.Existing)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--out", required=True, type=options.OutputPath, help="Folder for the detections.")
@click.option("--videos", type=options.ExistingFile, help="Detect in these videos alone, one id a line.")
@click.option("--ambiguous", type=options.ExistingFile, help="Drop detections that overlap these segments (THUMOS14).")
@options.as_record(
    Output,
    "output",
    click.option("--min-score", type=float, help="Keep detections with at least this score."),
    click.option("--top", type=click.IntRange(min=1), help="Keep the best N detections of a video."),
    click.option("--answer-only", is_flag=True, help="Keep the detections that the model gives as its answer."),
    click.option("--format", type=options.choices(Format), default="hrpro", show_default=True),
    click.option(
        "--overlay", is_flag=True, help="Of raw videos: draw labels and a timeline into OUT/overlay/<id>.mp4."
    ),
    click.option(
        "--clips", is_flag=True, help="Of raw videos: cut the best --top detections (10) into OUT/clips/<id>/."
    ),
)
@options.as_record(
    ExtractOptions,
    "extraction",
    click.option(
        "--weights", default="auto", show_default=True, help="For raw videos: auto (as trained), or a folder."
    ),
    click.option(
        "--backbone",
        "own",
        multiple=True,
        metavar="PATH.py:FUNCTION",
        help="For raw videos: your own network that the model was trained with, whose code is run (repeatable).",
    ),
    options.keep_partial,
    options.decoder,
    options.device,
)
@click.option(
    "--set", "overrides", multiple=True, metavar="detect.KEY=VALUE", help="A setting over the model's (repeatable)."
)
@options.on_error
def detect(
    model: Path,
    paths: tuple[Path, ...],
    out: Path,
    videos: Path | None,
    ambiguous: Path | None,
    output: Output,
    extraction: ExtractOptions,
    overrides: tuple[str, ...],
    on_error: str,
) -> None:
    """Detect actions in raw videos, folders of them, or FEATURES. No ground truth is needed.

    MODEL is a RUN folder or a model.pt.

    \b
    Example:
      hrpro detect runs/first new_videos/ --out detections/
    """
    from hrpro_pipeline.commands.detect import detect_folder

    done, failed = detect_folder(
        model,
        paths,
        out,
        videos=videos,
        ambiguous=ambiguous,
        min_score=output.min_score,
        top=output.top,
        answer_only=output.answer_only,
        overrides=overrides,
        format=output.format,
        overlay=output.overlay,
        clips=output.clips,
        weights=extraction.weights,
        backbone=extraction.own,
        decoder=extraction.decoder,
        device=extraction.device,
        keep_partial=extraction.keep_partial,
    )
    click.echo(f"{len(done)} {'video' if len(done) == 1 else 'videos'} detected, {len(failed)} failed: {out}")
    for video_id, reason in failed.items():
        fields = progress.about("video", video_id=video_id, status="failed", reason=reason)
        log.warning("failed: %s: %s", video_id, reason, extra=fields)
    if failed and on_error == "fail":
        sys.exit(1)
