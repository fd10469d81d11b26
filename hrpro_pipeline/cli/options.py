"""Kinds of values, options that several commands have, and options that reach a command as one record."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click

from hrpro_pipeline.configs.presets import DEFAULT_PRESET, preset_names
from hrpro_pipeline.extract.options import Decoder

Command = Callable[..., None]
Decorator = Callable[[Command], Command]

Folder = click.Path(file_okay=False, path_type=Path)
OutputPath = click.Path(path_type=Path)
OutputFile = click.Path(dir_okay=False, path_type=Path)
Existing = click.Path(exists=True, path_type=Path)
ExistingFile = click.Path(exists=True, dir_okay=False, path_type=Path)
ExistingFolder = click.Path(exists=True, file_okay=False, path_type=Path)


class Seeds(click.ParamType):
    """Numbers with commas between them."""

    name = "0,1,2"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            seeds = tuple(int(part) for part in value.split(","))
        except ValueError:
            seeds = ()
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            self.fail(f"{value!r}; expected different whole numbers, such as 0,1,2", param, ctx)
        return seeds


class Names(click.ParamType):
    """Names with commas between them."""

    name = "rgb,flow"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return value if isinstance(value, tuple) else tuple(name.strip() for name in value.split(","))


class ShareOrFile(click.ParamType):
    """A number between 0 and 1, or an existing file."""

    name = "file or share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | Path:
        try:
            share = float(value)
        except ValueError:
            return Path(ExistingFile.convert(value, param, ctx))
        if not 0 < share < 1:
            self.fail(f"{value}; expected a file of video ids, or a share between 0 and 1", param, ctx)
        return share


class Thresholds(click.ParamType):
    """tIoU thresholds as first:last:step, both ends included, or one alone."""

    name = "first:last:step"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            first, last, step = (float(part) for part in (value if ":" in value else f"{value}:{value}:1").split(":"))
            count = round((last - first) / step) + 1
        except (ValueError, ZeroDivisionError, OverflowError):
            self.fail(f"{value!r}; expected first:last:step, such as 0.1:0.7:0.1, or one, such as 0.5", param, ctx)
        thresholds = tuple(round(first + index * step, 10) for index in range(count))
        if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
            self.fail(f"{value!r}; thresholds lie between 0 and 1", param, ctx)
        return thresholds


@dataclass(frozen=True)
class PresetOptions:
    """A preset, and settings over it."""

    preset: str
    overrides: tuple[str, ...]


def choices(literal: Any) -> click.Choice[str]:
    """The values of a Literal."""
    return click.Choice(get_args(literal))


def as_record(record: Callable[..., Any], name: str, *options: Decorator) -> Decorator:
    """Options whose values reach the command as one record.

    Args:
        record: dataclass whose fields are called as the options' parameters are.
        name: of the command's parameter that takes the record.
    """
    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_record(**values: Any) -> None:
            fields = {field: values.pop(field) for field in names if field in values}
            command(**values, **{name: record(**fields)})

        decorated: Command = with_record
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def preset_with(default: str) -> Decorator:
    """`--preset` with this default, and `--set`, as one record."""
    names = preset_names()
    return as_record(
        PresetOptions,
        "preset",
        click.option("--preset", default=default, show_default=True, help=f"{', '.join(names[:-1])} or {names[-1]}."),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting over the preset's (repeatable)."
        ),
    )


preset = preset_with(DEFAULT_PRESET)
decoder = click.option(
    "--decoder",
    type=choices(Decoder),
    default="auto",
    show_default=True,
    help="Decoder to try first; a file that it refuses goes to the next one.",
)
keep_partial = click.option(
    "--keep-partial", is_flag=True, help="Keep what can be decoded of a damaged video, marked as partial."
)
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
points = click.option(
    "--points",
    required=True,
    type=ExistingFile,
    help="CSV: video_id, class and time (s) or point (frame); or a file of a labeling tool.",
)
training_videos = click.option(
    "--videos", type=ExistingFile, help="Training videos, one id a line.  [default: all with points]"
)
seed = click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
on_error = click.option(
    "--on-error",
    type=click.Choice(["skip", "fail"]),
    default="fail",
    show_default=True,
    help="Exit code when videos failed: 0 (skip) or 1 (fail). The other videos go on in both cases.",
)
