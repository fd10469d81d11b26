"""The command line. Heavy imports happen inside the commands, so that `hrpro --help` is quick."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hrpro_pipeline._version import __version__
from hrpro_pipeline.base import launch, progress
from hrpro_pipeline.configs.presets import DEFAULT_PRESET
from hrpro_pipeline.errors import HrproError, UsageError

if TYPE_CHECKING:
    from hrpro_pipeline.extract.folder import ExtractionSummary
    from hrpro_pipeline.infer.evaluation import Evaluation

log = logging.getLogger(__name__)

Folder = click.Path(file_okay=False, path_type=Path)
FileOut = click.Path(dir_okay=False, path_type=Path)
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


class ShareOrFile(click.ParamType):
    """A number between 0 and 1, or a file that is there."""

    name = "file or share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | Path:
        try:
            share = float(value)
        except ValueError:
            return Path(ExistingFile.convert(value, param, ctx))
        if not 0 < share < 1:
            self.fail(f"{value}; expected a file of video ids, or a share between 0 and 1", param, ctx)
        return share


class _Group(click.Group):
    """Turns expected errors into one line and exit code 1 or 2; `--debug` shows where they came from."""

    def invoke(self, ctx: click.Context) -> Any:
        progress.set_up_logging(ctx.params["log_format"])
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "hrpro"
            _fail(ctx, f"{error.format_message().rstrip('.')}; see `{command} --help`")
            ctx.exit(2)
        except BrokenPipeError:  # `hrpro ... | head` has seen enough
            raise
        except (HrproError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            _fail(ctx, str(error))
            ctx.exit(2 if isinstance(error, UsageError) else 1)
        except KeyboardInterrupt:
            _fail(ctx, "stopped", prefix="")
            ctx.exit(130)


def _fail(ctx: click.Context, text: str, prefix: str = "error: ") -> None:
    if ctx.params.get("log_format") == "json":
        log.error("%s", text)
    else:
        click.echo(prefix + text, err=True)


@click.group("hrpro", cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
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


def _preset(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting over the preset's (repeatable)."
    )(command)
    return click.option(
        "--preset", default=DEFAULT_PRESET, show_default=True, help="thumos14, gtea, beoid, activitynet13 or demo."
    )(command)


_decoder = click.option(
    "--decoder",
    type=click.Choice(["auto", "decord", "pyav", "torchcodec"]),
    default="auto",
    show_default=True,
    help="Decoder to try first; a file that it refuses goes to the next one.",
)
_keep_partial = click.option(
    "--keep-partial", is_flag=True, help="Keep what can be decoded of a damaged video, marked as partial."
)
_device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")


@main.command()
@click.argument("paths", nargs=-1, required=True, type=str, metavar="PATH...")
@click.option("--out", required=True, type=str, help="Folder (or URL) for the features, one HDF5 file a video.")
@_preset
@click.option("--streams", metavar="rgb,flow", help="Streams to extract.  [default: those of the preset]")
@click.option("--weights", default="kinetics", show_default=True, help="kinetics, random, or a folder of files.")
@click.option("--flow", type=click.Choice(["auto", "torch", "opencv"]), default="auto", show_default=True)
@_decoder
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda (all visible GPUs) or cuda:N (that one)."
)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Worker processes.  [default: one for each GPU; on the CPU one; on Ray as many as fit]",
)
@click.option("--ray-address", metavar="ADDRESS", help="A running Ray cluster.  [default: one on this machine]")
@click.option("--overwrite", is_flag=True, help="Extract again what is there already.")
@_keep_partial
@click.option(
    "--on-error",
    type=click.Choice(["skip", "fail"]),
    default="fail",
    show_default=True,
    help="Exit code when videos failed: 0 (skip) or 1 (fail). The other videos go on in both cases.",
)
def extract(
    paths: tuple[str, ...],
    out: str,
    preset: str,
    overrides: tuple[str, ...],
    streams: str | None,
    on_error: str,
    **options: Any,
) -> None:
    """Extract TV-L1 + two-stream I3D features of videos (files and folders).

    Running the same command again extracts what is missing or was made with other settings, and nothing else.

    \b
    Example:
      hrpro extract videos/ --out features/
    """
    from hrpro_pipeline.api import extract_features

    if streams is not None:
        overrides = (*overrides, f"extract.streams=[{streams}]")
    summary = extract_features(paths, out, preset=preset, overrides=overrides, **options)
    _log_extraction(summary)
    click.echo(
        f"{len(summary.done)} extracted, {len(summary.skipped)} there already, {len(summary.failed)} failed: {out}"
    )
    if summary.failed and on_error == "fail":
        sys.exit(1)


@main.command()
@click.argument("features", type=Folder)
@click.option("--points", required=True, type=ExistingFile, help="CSV: video_id, class and time (s) or point (frame).")
@click.option("--annotations", type=ExistingFile, help="ActivityNet-style JSON: classes, frame rates, segments.")
@click.option("--out", required=True, type=Folder, help="Folder for the run.")
@click.option("--videos", type=ExistingFile, help="Training videos, one id a line.  [default: all with points]")
@click.option("--evaluate-on", metavar="SUBSET", help="Evaluate on this subset of the annotations while training.")
@click.option("--ambiguous", type=ExistingFile, help="Ambiguous segments for that evaluation (THUMOS14).")
@click.option(
    "--validate-on",
    type=ShareOrFile(),
    help="Hold out these training videos (a file of ids, or a share such as 0.2) and keep the checkpoint that finds "
    "their points best.  [default: keep the last checkpoint]",
)
@click.option(
    "--best-on-test",
    is_flag=True,
    help="Keep the checkpoint that scores best on --evaluate-on. Its score is then no honest one, and it says so.",
)
@_preset
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--seeds", type=Seeds(), help="Several seeds, as 0,1,2: runs in OUT/seed_N, mean and deviation of scores."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@_device
@click.pass_context
def train(
    context: click.Context,
    features: Path,
    points: Path,
    out: Path,
    seed: int,
    seeds: tuple[int, ...] | None,
    **options: Any,
) -> None:
    """Train both stages of HR-Pro on cached features and one labeled point per action.

    Several GPUs: torchrun --nproc-per-node 4 -m hrpro_pipeline train ...

    \b
    Example:
      hrpro train features/ --points points.csv --annotations gt.json --evaluate-on Test --out runs/first
    """
    from hrpro_pipeline import api

    if seeds is not None:
        if context.get_parameter_source("seed") is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError("give --seed or --seeds, not both")
        scores = api.train_seeds(features, points, out, seeds, **options)
        for name in scores.scores:
            click.echo(
                f"{name}: {100 * scores.mean(name):.1f} +- {100 * scores.deviation(name):.1f} "
                f"({', '.join(f'{100 * value:.1f}' for value in scores.scores[name])})"
            )
        click.echo(f"{out}: seeds {', '.join(map(str, seeds))}; {_checkpoint(scores.checkpoint)}")
        return
    model = api.train_detector(features, points, out, seed=seed, **options)
    if launch.rank() > 0:  # of the processes that torchrun started, the first one speaks
        return
    stages = "both stages" if model.instance is not None else "stage 1 alone"
    chosen = _checkpoint(model.notes.checkpoint)
    click.echo(f"{out / 'model.pt'}: {stages}, {len(model.classes)} classes, {chosen}")


def _log_extraction(summary: "ExtractionSummary") -> None:
    """A table of what needs a look, and how fast it went."""
    rows = [(each.video_id, "failed", each.reason) for each in summary.failed]
    rows += [(video_id, "in part", reason) for video_id, reason in summary.partial.items()]
    width = max((len(video_id) for video_id, _, _ in rows), default=0)
    for video_id, status, reason in rows:
        fields = progress.about("video", video_id=video_id, status=status, reason=reason)
        log.warning("%s", f"{video_id:<{width}}  {status:<7}  {reason}", extra=fields)
    if summary.done:
        hours, rate = summary.video_seconds / 3600, summary.video_seconds / summary.seconds
        log.info("%.2f hours of video in %.0f s: %.2f times real time", hours, summary.seconds, rate)


def _checkpoint(chosen: str) -> str:
    return "the last checkpoint" if chosen == "last" else f"the checkpoint that was {chosen}"


@main.command()
@click.option("--annotations", required=True, type=ExistingFile, help="ActivityNet-style JSON with segments.")
@click.option("--distribution", required=True, type=click.Choice(["uniform", "center", "gaussian"]))
@click.option("--subset", help="Of this subset alone.  [default: all annotated videos]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--out", required=True, type=FileOut, help="The CSV to write.")
def points(annotations: Path, distribution: Any, subset: str | None, seed: int, out: Path) -> None:
    """Draw one point label in each annotated segment.

    \b
    Example:
      hrpro points --annotations gt.json --subset Validation --distribution uniform --out points.csv
    """
    from hrpro_pipeline.api import write_points

    click.echo(f"{out}: {write_points(annotations, out, distribution, subset=subset, seed=seed)} points")


@main.command()
@click.argument("features", type=Folder)
@click.option("--points", required=True, type=ExistingFile, help="CSV: video_id, class and time (s) or point (frame).")
@click.option("--annotations", required=True, type=ExistingFile, help="ActivityNet-style JSON with segments.")
@click.option("--evaluate-on", default="Test", show_default=True, metavar="SUBSET", help="Subset to evaluate on.")
@click.option("--out", required=True, type=Folder, help="Folder for the runs and the table.")
@click.option("--videos", type=ExistingFile, help="Training videos, one id a line.  [default: all with points]")
@click.option("--ambiguous", type=ExistingFile, help="Ambiguous segments for the evaluation (THUMOS14).")
@click.option("--seeds", type=Seeds(), default="0,1,2", show_default=True)
@_preset
@_device
def ablate(features: Path, points: Path, annotations: Path, out: Path, **options: Any) -> None:
    """Train without parts of the method, over seeds, and print what each is worth (the paper's Table 3).

    Run again, it does what is missing. The last checkpoint of each run counts.

    \b
    Example:
      hrpro ablate features/ --points points.csv --annotations gt.json --evaluate-on Test --out ablation/
    """
    from hrpro_pipeline.commands.ablation import run_ablation

    for line in run_ablation(features, points, annotations, out, **options):
        progress.say(line)


@main.command()
@click.argument("model", type=Existing)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the detections.")
@click.option("--videos", type=ExistingFile, help="Detect in these videos alone, one id a line.")
@click.option("--ambiguous", type=ExistingFile, help="Drop detections that overlap these segments (THUMOS14).")
@click.option("--min-score", type=float, help="Keep detections with at least this score.")
@click.option("--top", type=click.IntRange(min=1), help="Keep the best N detections of a video.")
@click.option("--format", "style", type=click.Choice(["hrpro", "activitynet"]), default="hrpro", show_default=True)
@click.option("--weights", default="auto", show_default=True, help="For raw videos: auto (as trained), or a folder.")
@_keep_partial
@click.option("--overlay", is_flag=True, help="Of raw videos: draw labels and a timeline into OUT/overlay/<id>.mp4.")
@click.option("--clips", is_flag=True, help="Of raw videos: cut the best --top detections (10) into OUT/clips/<id>/.")
@_decoder
@click.option("--on-error", type=click.Choice(["skip", "fail"]), default="fail", show_default=True)
@_device
def detect(model: Path, paths: tuple[Path, ...], out: Path, on_error: str, **options: Any) -> None:
    """Detect actions in raw videos, folders of them, or FEATURES. No ground truth is needed.

    MODEL is a RUN folder or a model.pt.

    \b
    Example:
      hrpro detect runs/first new_videos/ --out detections/
    """
    from hrpro_pipeline.infer.folder import detect_folder

    done, failed = detect_folder(model, paths, out, **options)
    click.echo(f"{len(done)} {'video' if len(done) == 1 else 'videos'} detected, {len(failed)} failed: {out}")
    for video_id, reason in failed.items():
        fields = progress.about("video", video_id=video_id, status="failed", reason=reason)
        log.warning("failed: %s: %s", video_id, reason, extra=fields)
    if failed and on_error == "fail":
        sys.exit(1)


@main.command()
@click.argument("detections", type=Existing)
@click.option("--annotations", required=True, type=ExistingFile, help="ActivityNet-style JSON with segments.")
@click.option("--subset", help="Evaluate on this subset.  [default: all annotated videos]")
@click.option("--tiou", metavar="FIRST:LAST:STEP", help="tIoU thresholds.  [default: those of the preset]")
@click.option("--exclude", multiple=True, metavar="VIDEO", help="Leave a video out (repeatable).")
@click.option("--ambiguous", type=ExistingFile, help="Drop detections that overlap these segments (THUMOS14).")
@click.option("--preset", help="Take tIoU thresholds and excluded videos from this preset.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    detections: Path,
    annotations: Path,
    subset: str | None,
    tiou: str | None,
    exclude: tuple[str, ...],
    ambiguous: Path | None,
    preset: str | None,
    as_json: bool,
) -> None:
    """ActivityNet-style mean average precision of detections.

    \b
    Example:
      hrpro evaluate detections/ --annotations gt.json --subset Test --tiou 0.1:0.7:0.1
    """
    from hrpro_pipeline.api import evaluate_detections
    from hrpro_pipeline.configs.load import load_settings

    chosen = load_settings(preset or DEFAULT_PRESET).evaluate
    result = evaluate_detections(
        detections,
        annotations,
        subset=subset,
        tiou=_thresholds(tiou) if tiou else chosen.tiou,
        exclude=(*exclude, *(chosen.exclude if preset else ())),
        ambiguous=ambiguous,
    )
    if as_json:
        click.echo(json.dumps(result.as_json()))
    else:
        click.echo(_table(result))


@main.command()
@click.argument("detections", type=Existing)
@click.option("--out", required=True, type=FileOut, help="The HTML file to write.")
@click.option("--annotations", type=ExistingFile, help="Ground truth to show and to evaluate against.")
@click.option("--points", type=ExistingFile, help="Labeled points to show.")
@click.option("--videos", type=ExistingFolder, help="Folder of the videos: the page shows frames and plays them there.")
@click.option("--subset", help="Evaluate on this subset.  [default: the annotated videos that have detections]")
@click.option("--preset", default=DEFAULT_PRESET, show_default=True, help="Gives tIoU thresholds and excluded videos.")
@click.option("--min-score", type=float, default=0.0, show_default=True, help="Show detections from this score on.")
def report(detections: Path, out: Path, **options: Any) -> None:
    """Show detections on one self-contained HTML page: timelines, videos, scores and kinds of errors.

    The page needs no network. With --videos it holds small frames of each video, and plays the files where they lie:
    keep page and videos together.

    \b
    Example:
      hrpro report detections/ --videos new_videos/ --annotations gt.json --out report.html
    """
    from hrpro_pipeline.api import report_detections

    report_detections(detections, out, **options)
    click.echo(f"{out}: open it in a browser")


@main.command()
@click.argument("run", type=Existing)
@click.option("--out", required=True, type=Folder, help="Folder for the figures, each as PNG and SVG.")
@click.option("--features", type=Folder, help="FEATURES folder.  [default: the one that the run was trained on]")
@click.option("--annotations", type=ExistingFile, help="Ground truth.  [default: what the run was given]")
@click.option("--points", type=ExistingFile, help="Labeled points.  [default: what the run was given]")
@click.option("--videos", type=ExistingFile, help="Videos to show, one id a line.  [default: 3 with the most actions]")
@click.option("--against", type=Existing, help="Another RUN to compare with.  [default: stage 1 against both stages]")
@_device
def figures(run: Path, out: Path, **options: Any) -> None:
    """Draw the paper's figures from a run: timelines (4), scores (5), snippets by class (B), reliability (C).

    \b
    Example:
      hrpro figures runs/first --out figures/
    """
    from hrpro_pipeline.commands.figures import write_figures

    drawn = write_figures(run, out, **options)
    for line in drawn.left_out:
        log.warning("left out: %s", line)
    click.echo(f"{len(drawn.files)} files: {out}")


@main.group("import")
def import_group() -> None:
    """Take over published features and checkpoints."""


@import_group.command("features")
@click.argument("archive", type=ExistingFolder)
@click.option("--out", required=True, type=Folder, help="FEATURES folder to write.")
@_preset
def import_features(archive: Path, out: Path, preset: str, overrides: tuple[str, ...]) -> None:
    """Import a published feature archive: features/{train,test}/VIDEO.npy beside gt_full.json.

    The arrays do not say which clock they were made with: it is the preset's.

    \b
    Example:
      hrpro import features dataset/THUMOS14 --out features/
    """
    from hrpro_pipeline.configs.load import load_settings
    from hrpro_pipeline.data.archive import import_archive
    from hrpro_pipeline.data.snippets import SnippetClock

    settings = load_settings(preset, overrides).extract
    clock = SnippetClock(settings.fps, settings.snippet_frames, settings.stride)
    click.echo(f"{len(import_archive(archive, out, clock))} videos imported: {out}")


@import_group.command("checkpoint")
@click.argument("stage1", type=ExistingFile)
@click.argument("stage2", type=ExistingFile, required=False)
@click.option("--classes", required=True, type=ExistingFile, help="Class names in the model's order, one a line.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder, or file ending in .pt, to write.")
@_preset
def import_checkpoint(
    stage1: Path, stage2: Path | None, classes: Path, out: Path, preset: str, overrides: tuple[str, ...]
) -> None:
    """Import state dicts that the published HR-Pro code saved.

    \b
    Example:
      hrpro import checkpoint model1_seed_0.pkl model2_seed_0.pkl --classes classes.txt --out runs/published
    """
    from hrpro_pipeline.configs.load import load_settings
    from hrpro_pipeline.data.files import read_text
    from hrpro_pipeline.models import checkpoint, published

    names = [line.strip() for line in read_text(classes, "class names, one a line").splitlines() if line.strip()]
    model = published.import_checkpoint(stage1, stage2, names, load_settings(preset, overrides))
    path = out if out.suffix == ".pt" else out / checkpoint.FILE_NAME
    checkpoint.save_model(path, model)
    stages = "both stages" if stage2 else "stage 1"
    click.echo(f"{path}: {stages}, {len(names)} classes, features {sum(model.widths.values())} wide")


@main.command()
@click.argument("path", type=Existing)
@click.option("--snippets", is_flag=True, help="Of a feature file: which seconds each snippet covers, as CSV.")
def info(path: Path, snippets: bool) -> None:
    """Say what a FEATURES folder, a feature file, a RUN or a model.pt holds.

    \b
    Example:
      hrpro info features/
      hrpro info features/kitchen_01.h5 --snippets
    """
    from hrpro_pipeline.commands.info import describe

    for line in describe(path, snippets):
        click.echo(line)


@main.command()
@click.argument("action", type=click.Choice(["list", "download", "verify"]), default="list")
def weights(action: str) -> None:
    """List, download or verify the Kinetics weights of the feature networks.

    \b
    Example:
      hrpro weights download
    """
    from hrpro_pipeline.extract import weights as entries

    rows = {"list": entries.list_all, "download": entries.download_all, "verify": entries.verify_all}[action]()
    for row in rows:
        click.echo(row.text)
    if not all(row.ok for row in rows):
        sys.exit(1)


@main.command()
@click.option("--out", default=Path("demo-out"), show_default=True, type=Folder, help="Folder for everything.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
def demo(out: Path, seed: int) -> None:
    """Run the whole chain on made videos: render, extract, train, detect, evaluate, report. Takes minutes.

    \b
    Example:
      hrpro demo --out demo-out
    """
    from hrpro_pipeline.commands.demo import run_demo

    run_demo(out, seed, progress.say)


def _thresholds(text: str) -> tuple[float, ...]:
    """`first:last:step` -> thresholds, both ends included."""
    try:
        first, last, step = (float(part) for part in text.split(":"))
        count = round((last - first) / step) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        raise click.BadParameter(
            f"{text!r}; expected first:last:step, such as 0.1:0.7:0.1", param_hint="--tiou"
        ) from None
    found = tuple(round(first + index * step, 10) for index in range(count))
    if not found or not all(0 < threshold <= 1 for threshold in found):
        raise click.BadParameter(f"{text!r}; thresholds lie between 0 and 1", param_hint="--tiou")
    return found


def _table(result: "Evaluation") -> str:
    lines = [f"model: {model}" for model in result.models]
    lines += [
        f"{result.num_videos} videos, {result.num_segments} segments, {result.num_detections} detections"
        + (f"; {result.num_missing} videos have no detections and count as missed" if result.num_missing else "")
        + (f"; {result.num_left_out} detections of other videos or classes left out" if result.num_left_out else ""),
        "tIoU  " + "  ".join(f"{threshold:5.2f}" for threshold in result.tiou) + "  average",
        "mAP   "
        + "  ".join(f"{100 * value:5.1f}" for value in result.mean_average_precision)
        + f"  {100 * result.average:7.1f}",
    ]
    lines += [f"average mAP {name}: {100 * value:.1f}" for name, value in result.averages.items()]
    return "\n".join(lines)
