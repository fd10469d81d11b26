"""The Python interface, and what the command line is made of: extract, train, detect, evaluate."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.configs.schema import EvaluateSettings, ExtractSettings, Settings
from hrpro_pipeline.data.annotations import (
    VideoAnnotation,
    in_subset,
    read_ambiguous,
    read_annotations,
    read_ids,
    read_points,
)
from hrpro_pipeline.data.dataset import TrainingSet, load_training_set
from hrpro_pipeline.data.detections import Detection, read_detections
from hrpro_pipeline.data.features import check_uniform, list_features, read_features, read_header
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.job import ExtractionSummary, extract_folder
from hrpro_pipeline.infer.detector import Ambiguous, Detector
from hrpro_pipeline.infer.evaluation import Evaluation, drop_ambiguous, evaluate
from hrpro_pipeline.infer.report import write_report
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.device import resolve_device
from hrpro_pipeline.train.trainer import train

PathLike = str | Path


def extract_features(
    paths: Iterable[PathLike],
    out: PathLike,
    *,
    preset: str = "thumos14",
    overrides: Sequence[str] = (),
    weights: str = "kinetics",
    flow: str = "auto",
    decoder: str = "auto",
    device: str = "auto",
    overwrite: bool = False,
) -> ExtractionSummary:
    """Extract two-stream features of videos, and of the videos in folders, into a FEATURES folder.

    Videos whose features are there already, made with the same settings, are skipped. A video that fails costs only
    itself: it is listed in the summary.

    Args:
        overrides: `section.key=value` settings over the preset.
        weights: `kinetics`, `random`, or a folder of weight files.
    """
    return extract_folder(
        [Path(path) for path in paths],
        Path(out),
        load_settings(preset, overrides).extract,
        weights=weights,
        flow=flow,
        decoder=decoder,
        device=device,
        overwrite=overwrite,
    )


def train_detector(
    features: PathLike,
    points: PathLike,
    out: PathLike,
    *,
    annotations: PathLike | None = None,
    videos: PathLike | None = None,
    evaluate_on: str | None = None,
    ambiguous: PathLike | None = None,
    preset: str = "thumos14",
    overrides: Sequence[str] = (),
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
) -> TrainedModel:
    """Train both stages on cached features and points, and write a RUN folder.

    Args:
        annotations: ActivityNet-style JSON: class list, frame rates, and segments for `evaluate_on`; the classes of
            the points are used without it.
        videos: file that names the training videos; all that have points otherwise.
        evaluate_on: subset of the annotations to evaluate on while training, from features in the same folder.
        ambiguous: file of segments that detections must not overlap in that evaluation.
    """
    settings = load_settings(preset, overrides)
    truth = read_annotations(Path(annotations)) if annotations is not None else {}
    data = load_training_set(
        Path(features),
        read_points(Path(points)),
        truth,
        read_ids(Path(videos)) if videos is not None else None,
        settings.extract.streams,
        points_name=str(points),
    )
    settings = _with_extraction(settings, data)
    where = resolve_device(device)
    evaluator = None
    if evaluate_on is not None:
        if not truth:
            raise HrproError("--evaluate-on needs --annotations with the segments to evaluate against")
        left_out = read_ambiguous(Path(ambiguous)) if ambiguous is not None else {}
        evaluator = _evaluator(
            Path(features), in_subset(truth, evaluate_on), settings, data, where, left_out, evaluate_on
        )
    return train(data, settings, Path(out), seed=seed, device=where, evaluate=evaluator, resume=resume)


def evaluate_detections(
    detections: PathLike,
    annotations: PathLike,
    *,
    subset: str | None = None,
    tiou: Sequence[float] = EvaluateSettings().tiou,
    exclude: Sequence[str] = (),
    ambiguous: PathLike | None = None,
) -> Evaluation:
    """ActivityNet-style mAP of a DETECTIONS folder or result file.

    Args:
        subset: videos of this subset; all annotated videos otherwise.
        exclude: videos left out.
        ambiguous: file of segments; detections that overlap one are dropped.
    """
    truth = read_annotations(Path(annotations))
    if subset is not None:
        truth = in_subset(truth, subset)
    read = read_detections(Path(detections))
    found: Mapping[str, Sequence[Detection]] = {video_id: video.detections for video_id, video in read.items()}
    if ambiguous is not None:
        found = drop_ambiguous(found, read_ambiguous(Path(ambiguous)))
    try:
        return evaluate(found, truth, tiou, exclude)
    except ValueError as error:
        raise HrproError(f"{annotations}: {error}") from None


def report_detections(
    detections: PathLike,
    out: PathLike,
    *,
    annotations: PathLike | None = None,
    points: PathLike | None = None,
    subset: str | None = None,
    preset: str = "thumos14",
    min_score: float = 0.0,
) -> None:
    """Show detections on one self-contained HTML page, beside ground truth and points where given.

    Args:
        subset: evaluate on this subset; on the annotated videos that have detections otherwise.
        preset: gives tIoU thresholds and the videos left out of the evaluation.
        min_score: show detections from this score on.
    """
    read = read_detections(Path(detections))
    truth = read_annotations(Path(annotations)) if annotations is not None else {}
    evaluated = {key: video for key, video in truth.items() if key in read}
    if subset is not None:
        evaluated = in_subset(truth, subset)
    chosen = load_settings(preset).evaluate
    has_segments = any(video.segments for key, video in evaluated.items() if key not in chosen.exclude)
    found = {video_id: video.detections for video_id, video in read.items()}
    write_report(
        Path(out),
        read,
        truth=truth,
        points=read_points(Path(points)) if points is not None else (),
        evaluation=evaluate(found, evaluated, chosen.tiou, chosen.exclude) if has_segments else None,
        min_score=min_score,
    )


def _with_extraction(settings: Settings, data: TrainingSet) -> Settings:
    """Settings whose extraction is that of the feature files, so that the model can extract new videos alike."""
    stored = {name: value for name, value in data.extraction.items() if name in ExtractSettings.model_fields}
    clock = {"fps": data.clock.fps, "snippet_frames": data.clock.snippet_frames, "stride": data.clock.stride}
    merged = settings.extract.model_dump() | stored | clock | {"streams": tuple(data.widths)}
    return settings.model_copy(update={"extract": ExtractSettings.model_validate(merged)})


def _evaluator(
    features: Path,
    truth: dict[str, VideoAnnotation],
    settings: Settings,
    data: TrainingSet,
    device: torch.device,
    ambiguous: dict[str, list[tuple[float, float]]],
    subset: str,
) -> Callable[[TrainedModel], dict[str, Any]]:
    """A function that evaluates a model on a subset whose features are in the same folder.

    Raises:
        HrproError: no features or segments of the subset, or features that were not made like those of `data`.
    """
    exclude = settings.evaluate.exclude
    paths = list_features(features)
    wanted = {video_id: video for video_id, video in truth.items() if video_id not in exclude}
    there = {video_id: read_features(paths[video_id]) for video_id in wanted if video_id in paths}
    if not there:
        raise HrproError(f"{features}: no features of the videos of subset {subset!r}")
    first = data.videos[0].video_id
    headers = {first: read_header(paths[first])} | {video_id: item.header for video_id, item in there.items()}
    check_uniform(((paths[video_id], header) for video_id, header in headers.items()), tuple(data.widths))
    missing = len(wanted) - len(there)
    if not any(video.segments for video in wanted.values()):
        raise HrproError(f"the annotations of subset {subset!r} have no segments to evaluate against")

    def evaluator(model: TrainedModel) -> dict[str, Any]:
        detector = Detector(model, device)
        none: Ambiguous = ()
        found = {key: detector.detect(item, ambiguous.get(key, none)) for key, item in there.items()}
        result = evaluate(found, wanted, settings.evaluate.tiou)
        return {
            "subset": subset,
            "average": result.average,
            **{f"mAP@{at:g}": value for at, value in zip(result.tiou, result.mean_average_precision, strict=True)},
            "videos": len(there),
            "videos_without_features": missing,
        }

    return evaluator
