"""`hrpro evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hrpro_pipeline.cli import options
from hrpro_pipeline.configs.presets import DEFAULT_PRESET

if TYPE_CHECKING:
    from hrpro_pipeline.infer.evaluation import Evaluation


@click.command()
@click.argument("detections", type=options.Existing)
@click.option(
    "--annotations",
    required=True,
    type=options.ExistingFile,
    help="Segments: ActivityNet-style JSON, or a labeling tool's file.",
)
@click.option("--subset", help="Evaluate on this subset.  [default: all annotated videos]")
@click.option(
    "--tiou",
    type=options.Thresholds(),
    metavar="FIRST:LAST:STEP",
    help="tIoU thresholds, or one alone.  [default: those of the preset]",
)
@click.option("--exclude", multiple=True, metavar="VIDEO", help="Leave a video out (repeatable).")
@click.option("--ambiguous", type=options.ExistingFile, help="Drop detections that overlap these segments (THUMOS14).")
@click.option("--preset", help="Take tIoU thresholds and excluded videos from this preset.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    detections: Path,
    annotations: Path,
    subset: str | None,
    tiou: tuple[float, ...] | None,
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
    from hrpro_pipeline.commands.evaluate import evaluate_detections
    from hrpro_pipeline.configs.load import load_settings

    settings = load_settings(preset or DEFAULT_PRESET).evaluate
    evaluation = evaluate_detections(
        detections,
        annotations,
        subset=subset,
        tiou=tiou or settings.tiou,
        exclude=(*exclude, *(settings.exclude if preset else ())),
        ambiguous=ambiguous,
    )
    click.echo(json.dumps(evaluation.as_json()) if as_json else _table(evaluation))


def _table(evaluation: "Evaluation") -> str:
    missing, left_out = evaluation.num_missing, evaluation.num_left_out
    counts = [
        f"{evaluation.num_videos} videos, {evaluation.num_segments} segments, {evaluation.num_detections} detections"
    ]
    if missing:
        counts.append(f"{missing} videos have no detections and count as missed")
    if left_out:
        counts.append(f"{left_out} detections of other videos or classes left out")
    precisions = "  ".join(f"{100 * value:5.1f}" for value in evaluation.mean_average_precision)
    lines = [
        *(f"model: {model}" for model in evaluation.models),
        "; ".join(counts),
        "tIoU  " + "  ".join(f"{threshold:5.2f}" for threshold in evaluation.tiou) + "  average",
        f"mAP   {precisions}  {100 * evaluation.average:7.1f}",
        *(f"average mAP {name}: {100 * value:.1f}" for name, value in evaluation.averages.items()),
    ]
    return "\n".join(lines)
