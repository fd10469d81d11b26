"""`hrpro import`."""

from pathlib import Path
from typing import Any

import click

from hrpro_pipeline.cli import options
from hrpro_pipeline.cli.group import CommandGroup
from hrpro_pipeline.cli.options import PresetOptions
from hrpro_pipeline.data.feature_files.choices import ClockChoice, Crops, Orientation, ReadAs
from hrpro_pipeline.data.numbers import finite_number


@click.group("import", cls=CommandGroup)
def import_group() -> None:
    """Take over features of other programs, and published checkpoints."""


class FrameRate(click.ParamType):
    """A number, or `native`."""

    name = "number or native"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "native":
            return value
        rate = finite_number(value)
        if rate is None or rate <= 0:
            self.fail(f"{value!r}; expected frames a second, such as 25, or native", param, ctx)
        return rate


@import_group.command("features")
@click.argument("archive", type=options.Existing)
@click.option("--out", required=True, type=options.Folder, help="FEATURES folder to write.")
@options.as_record(
    ReadAs,
    "read_as",
    click.option(
        "--streams",
        type=options.Names(),
        default=(),
        help="Names of the streams: to choose, to name the only one, or to cut each row into so many equal parts.",
    ),
    click.option("--layout", type=options.choices(Orientation), help="TD: a row is a snippet; DT: a column is."),
    click.option(
        "--crops", type=options.choices(Crops), help="Average several crops of each snippet, or put them side by side."
    ),
    click.option("--prefix", default="", help="Of the names of files, not part of a video's id."),
    click.option("--suffix", default="", help="Of the names of files, not part of a video's id."),
    click.option("--key", help="The array to take from each file of several."),
)
@options.as_record(
    ClockChoice,
    "clock",
    click.option("--fps", type=FrameRate(), help="Frames a second, or native: each video's own as annotated."),
    click.option("--stride", type=click.IntRange(min=1), help="Frames from one row to the next."),
    click.option("--snippet-frames", type=click.IntRange(min=1), help="Frames that a row was computed from."),
    click.option(
        "--rescaled", is_flag=True, help="Each video was rescaled to a fixed number of rows; its duration is annotated."
    ),
    click.option(
        "--annotations",
        type=options.ExistingFile,
        help="Durations and rates: ActivityNet-style JSON, or a CSV with columns video_id, duration, fps.",
    ),
)
@click.option("--resample", is_flag=True, help="Put all features on the clock of the preset.")
@options.preset
def features(
    archive: Path, out: Path, read_as: ReadAs, clock: ClockChoice, resample: bool, preset: PresetOptions
) -> None:
    """Import features of other programs: a folder or file of .npy, .npz, .mat, .h5, .pt, .safetensors or .csv.

    It says what it recognized. Where two readings are possible, it says which option decides. A published archive,
    features/{train,test}/VIDEO.npy beside gt_full.json, is on the clock of the preset.

    \b
    Example:
      hrpro import features dataset/THUMOS14 --out features/
      hrpro import features i3d/ --fps 25 --stride 16 --out features/
    """
    from hrpro_pipeline.commands.imports import import_features

    video_ids = import_features(
        archive,
        out,
        preset=preset.preset,
        overrides=preset.overrides,
        resample=resample,
        **vars(read_as),
        **vars(clock),
    )
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
