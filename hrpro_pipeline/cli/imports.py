"""`hrpro import`."""

from pathlib import Path

import click

from hrpro_pipeline.cli import options
from hrpro_pipeline.cli.group import CommandGroup
from hrpro_pipeline.cli.options import PresetOptions


@click.group("import", cls=CommandGroup)
def import_group() -> None:
    """Take over published features and checkpoints."""


@import_group.command("features")
@click.argument("archive", type=options.ExistingFolder)
@click.option("--out", required=True, type=options.Folder, help="FEATURES folder to write.")
@options.preset
def features(archive: Path, out: Path, preset: PresetOptions) -> None:
    """Import a published feature archive: features/{train,test}/VIDEO.npy beside gt_full.json.

    The arrays do not say which clock they were made with: it is the preset's.

    \b
    Example:
      hrpro import features dataset/THUMOS14 --out features/
    """
    from hrpro_pipeline.commands.imports import import_features

    video_ids = import_features(archive, out, preset=preset.preset, overrides=preset.overrides)
    click.echo(f"{len(video_ids)} videos imported: {out}")


@import_group.command("checkpoint")
@click.argument("stage1", type=options.ExistingFile)
@click.argument("stage2", type=options.ExistingFile, required=False)
@click.option(
    "--classes", required=True, type=options.ExistingFile, help="Class names in the model's order, one a line."
)
@click.option("--out", required=True, type=options.OutputPath, help="Folder, or file ending in .pt, to write.")
@options.preset
def checkpoint(stage1: Path, stage2: Path | None, classes: Path, out: Path, preset: PresetOptions) -> None:
    """Import state dicts that the published HR-Pro code saved.

    \b
    Example:
      hrpro import checkpoint model1_seed_0.pkl model2_seed_0.pkl --classes classes.txt --out runs/published
    """
    from hrpro_pipeline.commands.imports import import_checkpoint, model_file

    model = import_checkpoint(stage1, stage2, out, classes=classes, preset=preset.preset, overrides=preset.overrides)
    stages = "both stages" if stage2 else "stage 1"
    width = sum(model.widths.values())
    click.echo(f"{model_file(out)}: {stages}, {len(model.classes)} classes, features {width} wide")
