"""The `hrpro` group: expected errors become one line and an exit code, in the words of the command line."""

import difflib
import logging
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from hrpro_pipeline._version import __version__
from hrpro_pipeline.base import progress
from hrpro_pipeline.errors import HrproError, UsageError

log = logging.getLogger(__name__)

# Each command: where it is, and its line in the help, so that `hrpro --help` loads none of them.
COMMANDS = {
    "ablate": ("ablation:ablate", "Train without parts of the method, and compare."),
    "convert": ("convert:convert", "Labels or detections from one program's file to another's."),
    "demo": ("demo:demo", "Run the whole chain on made videos."),
    "detect": ("detect:detect", "Detect actions in videos or FEATURES."),
    "evaluate": ("evaluate:evaluate", "Mean average precision of detections."),
    "export": ("exports:export_group", "Features and pseudo segments for other programs."),
    "extract": ("extract:extract", "Extract features of videos: TV-L1 + two-stream I3D, or others."),
    "figures": ("figures:figures", "Draw the paper's figures from a run."),
    "import": ("imports:import_group", "Take over features and published checkpoints."),
    "info": ("info:info", "Say what a FEATURES folder, a feature file, a RUN or a model holds."),
    "label": ("label:label", "Set points in videos in the browser."),
    "points": ("points:points", "Draw one point label in each annotated segment."),
    "report": ("report:report", "Show detections on one HTML page."),
    "suggest": ("suggest:suggest", "Rank the moments that are worth most to label next."),
    "summary": ("summary:summary", "Counts, durations and agreement of labels."),
    "train": ("train:train", "Train a detector on features and one point an action."),
    "weights": ("weights:weights", "List, download or verify the weights of the networks."),
}

# Keys of the called command and its arguments in click's context.
_CALLED, _ARGUMENTS = "hrpro_pipeline.command", "hrpro_pipeline.arguments"

# How the functions below the command line name their parameters and settings: `top`, `device=cpu`, `snippet.steps=9`.
_PARAMETER = re.compile(r"`(?P<name>[a-z]\w*)(?P<value>=[^`\s]+)?`|`(?P<setting>[a-z]\w*\.\w+=[^`\s]+)`")


class CommandGroup(click.Group):
    """Remembers which of its commands is called, so that errors can name the options of that command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        ctx.meta[_CALLED], ctx.meta[_ARGUMENTS] = command, tuple(rest)
        return name, command, rest


class MainGroup(CommandGroup):
    """Loads the command that is called, and turns expected errors into one line and exit code 1 or 2.

    `--debug` shows where an error came from.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"hrpro_pipeline.cli.{module}"), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if near := [] if args[0] in COMMANDS else difflib.get_close_matches(args[0], COMMANDS, n=1):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        progress.set_up_logging(ctx.params["log_format"], lambda text: in_options(text, ctx.meta.get(_CALLED)))
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "hrpro"
            hint = _hint_for_dash(error, ctx.meta.get(_ARGUMENTS, ()))
            _print_error(ctx, f"{error.format_message().rstrip('.')}; {hint}see `{command} --help`")
            ctx.exit(2)
        except BrokenPipeError:  # `hrpro ... | head` has seen enough
            raise
        except (HrproError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            _print_error(ctx, in_options(str(error), ctx.meta.get(_CALLED)))
            ctx.exit(2 if isinstance(error, UsageError) else 1)
        except KeyboardInterrupt:
            _print_error(ctx, "stopped", prefix="")
            ctx.exit(130)


def _hint_for_dash(error: click.UsageError, arguments: Sequence[str]) -> str:
    """Advice on a path that begins with a dash and was taken for an option; empty for anything else."""
    from hrpro_pipeline.data.files import is_video_name

    if not isinstance(error, click.NoSuchOption):
        return ""
    for word in arguments:
        if word.startswith(error.option_name) and (is_video_name(word) or Path(word).exists()):
            return f"for the path {word}, write ./{word}, or -- after the options and before all paths; "
    return ""


def in_options(text: str, command: click.Command | None) -> str:
    """A text that names parameters and settings, in the words of the command line: `device=cpu` becomes --device cpu.

    What the command has no option for stays as it is.
    """
    options = dict(_options(main))
    if command is not None:
        options |= dict(_options(command))

    def replace(match: re.Match[str]) -> str:
        if match["setting"]:
            return f"{options['overrides']} {match['setting']}" if "overrides" in options else match[0]
        value = (match["value"] or "").replace("=", " ", 1)
        return f"{options[match['name']]}{value}" if match["name"] in options else match[0]

    return _PARAMETER.sub(replace, text)


def _options(command: click.Command) -> Iterator[tuple[str, str]]:
    """Names of a command's parameters in Python, and how they are written on the command line."""
    for parameter in command.params:
        written = max(parameter.opts, key=len)
        if isinstance(parameter, click.Argument):
            written = parameter.human_readable_name
        else:
            yield written.lstrip("-").replace("-", "_"), written
        yield parameter.name or "", written


def _print_error(ctx: click.Context, text: str, prefix: str = "error: ") -> None:
    if ctx.params.get("log_format") == "json":
        log.error("%s", text)
    else:
        click.echo(prefix + text, err=True)


@click.group("hrpro", cls=MainGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show where an error came from.")
@click.option(
    "--log-format",
    type=click.Choice(progress.FORMATS),
    default="text",
    show_default=True,
    envvar=progress.FORMAT_VARIABLE,
    show_envvar=True,
    help="What goes to standard error: text, or one JSON object a line (log, progress, errors).",
)
@click.version_option(__version__, prog_name="hrpro")
def main(debug: bool, log_format: str) -> None:
    """From raw, untrimmed videos and one labeled point per action to a trained temporal action detector.

    \b
    Example:
      hrpro extract videos/ --out features/
      hrpro train features/ --points points.csv --out runs/first
      hrpro detect runs/first new_videos/ --out detections/
    """
