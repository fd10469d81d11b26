"""`hrpro export`."""

from pathlib import Path

import click

from hrpro_pipeline.cli import options
from hrpro_pipeline.cli.group import CommandGroup
from hrpro_pipeline.data.feature_files.choices import FileLayout


@click.group("export", cls=CommandGroup)
def export_group() -> None:
    """Features and pseudo segments for other programs."""


@export_group.command("features")
@click.argument("features", type=options.Folder)
@click.option("--out", required=True, type=options.Folder, help="Folder to write.")
@click.option(
    "--layout",
    type=options.choices(FileLayout),
    default="flat",
    show_default=True,
    help="VIDEO.npy with the streams side by side, STREAM/VIDEO.npy, or VIDEO_STREAM.npy.",
)
@click.option("--streams", type=options.Names(), default=(), help="Streams to write.  [default: all]")
@click.option("--annotations", type=options.ExistingFile, help="ActivityNet-style JSON: subsets and segments.")
def features(features: Path, out: Path, layout: FileLayout, streams: tuple[str, ...], annotations: Path | None) -> None:
    """Export features as .npy, with the JSON that OpenTAD and ActionFormer read.

    \b
    Example:
      hrpro export features features/ --annotations gt.json --out exported/
    """
    from hrpro_pipeline.commands.exports import export_features

    result = export_features(features, out, layout=layout, streams=streams, annotations=annotations)
    clock = result.clock
    click.echo(f"{len(result.video_ids)} videos exported: {out}")
    click.echo(
        f"ActionFormer: feat_stride {clock.stride}, num_frames {clock.snippet_frames}, default_fps null, "
        f"input_dim {result.width}; OpenTAD: feature_stride {clock.stride}, offset_frames {clock.snippet_frames // 2}"
    )


@export_group.command("pseudo-labels")
@click.argument("run", type=options.Existing)
@click.option("--out", required=True, type=options.OutputFile, help="JSON file to write.")
@click.option("--features", type=options.ExistingFolder, help="Features, if they have moved since.")
@click.option("--points", type=options.ExistingFile, help="Points, if they have moved since.")
@click.option("--annotations", type=options.ExistingFile, help="Annotations, if they have moved since.")
@options.device
def pseudo_labels(
    run: Path, out: Path, features: Path | None, points: Path | None, annotations: Path | None, device: str
) -> None:
    """Export the pseudo segments of a run's training videos as ActivityNet-style JSON.

    \b
    Example:
      hrpro export pseudo-labels runs/first --out pseudo.json
    """
    from hrpro_pipeline.commands.exports import export_pseudo_labels

    count = export_pseudo_labels(run, out, features=features, points=points, annotations=annotations, device=device)
    click.echo(f"{count} pseudo segments: {out}")
