"""The Python interface, and what the command line is made of: extract, train, detect, evaluate."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from hrpro_pipeline.base import launch
from hrpro_pipeline.base.progress import progress
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
from hrpro_pipeline.data.dataset import TrainingSet, draw_validation, hold_out, load_training_set
from hrpro_pipeline.data.detections import Detection, read_detections
from hrpro_pipeline.data.failures import read_failures
from hrpro_pipeline.data.features import StoredFeatures, check_uniform, list_features, read_header
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.data.point_labels import Distribution, draw_points, points_csv
from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError, UsageError
from hrpro_pipeline.extract.folder import ExtractionSummary, extract_folder
from hrpro_pipeline.extract.options import Decoder, EngineName, ExtractOptions, FlowBackend, Workers
from hrpro_pipeline.infer.detector import detect_actions
from hrpro_pipeline.infer.diagnosis import diagnose
from hrpro_pipeline.infer.evaluation import Evaluation, drop_ambiguous, evaluate
from hrpro_pipeline.infer.evaluator import evaluator, point_measure, segment_measure
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.device import resolve_device
from hrpro_pipeline.show.report import write_report
from hrpro_pipeline.show.training import Sample, Shown
from hrpro_pipeline.train.trainer import Selection, train

PathLike = str | Path
# Of a run: where what it was trained on lies, for `hrpro figures`. The model itself names no path.
INPUTS = "inputs.json"


@dataclass(frozen=True)
class SeedScores:
    """Scores of one training with several seeds: by name (`average`, `mAP@0.5`, `point_mAP`), one for each seed."""

    seeds: tuple[int, ...]
    scores: dict[str, list[float]]
    checkpoint: str

    @classmethod
    def of(cls, seeds: Sequence[int], models: Sequence[TrainedModel]) -> "SeedScores":
        """From the evaluations of the checkpoints that became the models."""
        evaluations = [model.notes["evaluation"] for model in models]
        names = [name for name in evaluations[0] if name in ("average", "point_mAP") or name.startswith("mAP@")]
        scores = {name: [float(values[name]) for values in evaluations] for name in names}
        return cls(tuple(seeds), scores, models[0].notes["checkpoint"])

    def mean(self, name: str) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.scores[name]))

    def deviation(self, name: str) -> float:
        """Standard deviation over the seeds, of a sample; 0 for one seed."""
        return float(np.std(self.scores[name], ddof=1)) if len(self.seeds) > 1 else 0.0

    def as_json(self) -> dict[str, Any]:
        """The content of `seeds.json`."""
        summary = {name: {"mean": self.mean(name), "deviation": self.deviation(name)} for name in self.scores}
        return {"seeds": list(self.seeds), "checkpoint": self.checkpoint, "scores": self.scores, "summary": summary}


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
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    overwrite: bool = False,
    keep_partial: bool = False,
) -> ExtractionSummary:
    """Extract two-stream features of videos, and of the videos in folders, into a FEATURES folder.

    Videos whose features are there already, made with the same settings, are skipped. A video that fails costs only
    itself: it is listed in the summary.

    Args:
        paths, out: paths, or URLs such as s3://bucket/folder.
        preset: name of a preset.
        overrides: `section.key=value` settings over the preset.
        weights: `kinetics`, `random`, or a folder of weight files.
        flow: who computes TV-L1: `auto`, `torch` or `opencv`.
        decoder: which one is tried first: `auto`, `decord`, `pyav` or `torchcodec`.
        device: `auto`, `cpu`, `cuda` (all visible GPUs) or `cuda:N`.
        engine: `local`, or `ray` for a Ray cluster.
        workers: processes; by default one for each GPU, one in all on the CPU, on Ray as many as fit.
        ray_address: of a running cluster; one is started on this machine otherwise.
        overwrite: extract again what is there already.
        keep_partial: keep what can be decoded of a damaged video, marked as partial.

    Raises:
        HrproError: what concerns all videos: paths, settings, weights, device. A failing video is in the summary.

    Examples:
        Small frames and random weights are for examples: leave `options` out for real videos.

        >>> from hrpro_pipeline import extract_features
        >>> small = ["extract.resize=32", "extract.crop=32", "extract.streams=[rgb]"]
        >>> options = {"weights": "random", "overrides": small}
        >>> summary = extract_features(["videos/"], "new_features/", **options)
        >>> sorted(summary.done), summary.failed
        (['kitchen_01', 'kitchen_02'], [])
        >>> again = extract_features(["videos/"], "new_features/", **options)
        >>> again.done, sorted(again.skipped)
        ([], ['kitchen_01', 'kitchen_02'])
    """
    return extract_folder(
        list(paths),
        out,
        load_settings(preset, overrides).extract,
        ExtractOptions(weights, cast(FlowBackend, flow), cast(Decoder, decoder), device, keep_partial),
        Workers(cast(EngineName, engine), workers, ray_address),
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
    validate_on: PathLike | float | None = None,
    best_on_test: bool = False,
    preset: str = "thumos14",
    overrides: Sequence[str] = (),
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    stage1: TrainedModel | None = None,
) -> TrainedModel:
    """Train both stages on cached features and points, and write a RUN folder.

    The last checkpoint becomes the model, unless `validate_on` or `best_on_test` is given.

    Args:
        features: FEATURES folder.
        points: CSV of labeled points.
        out: RUN folder to write.
        annotations: ActivityNet-style JSON: class list, frame rates, and segments for `evaluate_on`; the classes of
            the points are used without it.
        videos: file that names the training videos; all that have points otherwise.
        evaluate_on: subset of the annotations to evaluate on while training, from features in the same folder.
        ambiguous: file of segments that detections must not overlap in that evaluation.
        validate_on: file that names training videos, or a share of them, to hold out: the checkpoint that finds their
            points best becomes the model.
        best_on_test: the checkpoint that scores best on `evaluate_on` becomes the model. Its score there says nothing
            about other videos; the model and all that is made with it are labeled so.
        preset: name of a preset.
        overrides: `section.key=value` settings over the preset.
        seed: of initial weights, order and dropout.
        resume: go on from the last checkpoint in `out`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        stage1: a model of the same settings and data whose stage 1 is taken instead of training it.

    Returns:
        The model that `model.pt` in `out` holds, on the CPU.

    Raises:
        HrproError: features, points or annotations that do not fit together (every problem is named), or an `out`
            that holds a run already.

    Examples:
        Four steps are for examples: leave `overrides` out for real videos.

        >>> from hrpro_pipeline import train_detector
        >>> few = ["snippet.steps=4", "snippet.attention_layers=0", "instance.epochs=1"]
        >>> model = train_detector("features/", "points.csv", "runs/first", overrides=few)
        >>> model.classes
        ('pour', 'stir')
        >>> model.notes["videos"], model.notes["checkpoint"]
        (2, 'last')
    """
    if best_on_test and (evaluate_on is None or validate_on is not None):
        raise UsageError("--best-on-test needs --evaluate-on, and does not go with --validate-on")
    settings = load_settings(preset, overrides)
    truth = read_annotations(Path(annotations)) if annotations is not None else {}
    data = load_training_set(
        Path(features),
        read_points(Path(points)),
        truth,
        read_ids(Path(videos)) if videos is not None else None,
        settings.extract.streams,
        points_name=str(points),
        on_disk={"disk": True, "auto": None}.get(settings.compute.features, False),
    )
    settings = _with_extraction(settings, data)
    watched: dict[str, np.ndarray | StoredFeatures] = {}
    measures = []
    select = None
    if evaluate_on is not None:
        if not truth:
            raise HrproError("--evaluate-on needs --annotations with the segments to evaluate against")
        wanted = in_subset(truth, evaluate_on)
        wanted = {key: video for key, video in wanted.items() if key not in settings.evaluate.exclude}
        watched |= _features_of(Path(features), wanted, data, evaluate_on)
        measures.append(segment_measure(wanted, settings.evaluate.tiou, evaluate_on))
        if best_on_test:
            select = Selection("average", f"{evaluate_on}, the subset that it was evaluated on")
    if validate_on is not None:
        if isinstance(validate_on, float):
            names = draw_validation(data, validate_on, seed)
        else:
            names = read_ids(Path(validate_on))
        data, held = hold_out(data, names)
        watched |= {video.video_id: video.features for video in held}
        measures.append(point_measure(held, data.clock))
        select = Selection("point_mAP", f"the points of {len(held)} validation videos")
    left_out = read_ambiguous(Path(ambiguous)) if ambiguous is not None else {}
    model = train(
        data,
        settings,
        Path(out),
        seed=seed,
        device=resolve_device(device),
        evaluate=evaluator(watched, left_out, measures) if measures else None,
        select=select,
        resume=resume,
        stage1=None if stage1 is None else stage1.snippet,
        shown=_shown(data, truth, watched),
    )
    if launch.rank() == 0:
        inputs = {"features": features, "points": points, "annotations": annotations}
        paths = {name: str(Path(path).resolve()) for name, path in inputs.items() if path is not None}
        write_text(Path(out) / INPUTS, json.dumps(paths | {"evaluate_on": evaluate_on}, indent=1) + "\n")
    return model


def train_seeds(
    features: PathLike, points: PathLike, out: PathLike, seeds: Sequence[int], **options: Any
) -> SeedScores:
    """`train_detector` with each of several seeds, into `out/seed_N`; writes `out/seeds.json`.

    Args:
        features, points, out: as for `train_detector`.
        seeds: different whole numbers.
        options: the others of `train_detector`, `evaluate_on` or `validate_on` among them.

    Raises:
        UsageError: nothing to score by.
    """
    if options.get("evaluate_on") is None and options.get("validate_on") is None:
        raise UsageError("--seeds reports a mean score: it needs --evaluate-on or --validate-on")
    if launch.num_processes() > 1:
        raise UsageError("--seeds does not go with torchrun; start it once for each --seed")
    runs = []
    with progress("seeds", len(seeds), "runs") as task:
        for seed in seeds:
            runs.append(train_detector(features, points, Path(out) / f"seed_{seed}", seed=seed, **options))
            task.advance()
    scores = SeedScores.of(seeds, runs)
    write_text(Path(out) / "seeds.json", json.dumps(scores.as_json(), indent=1) + "\n")
    return scores


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
        detections: DETECTIONS folder, one file of it, or an ActivityNet-style result file.
        annotations: ActivityNet-style JSON with segments.
        subset: videos of this subset; all annotated videos otherwise.
        tiou: thresholds.
        exclude: videos left out.
        ambiguous: file of segments; detections that overlap one are dropped.

    Raises:
        HrproError: a file that cannot be read, or no segment to compare with.

    Examples:
        >>> from hrpro_pipeline import evaluate_detections
        >>> tiou = [0.3, 0.5, 0.7]
        >>> result = evaluate_detections("detections/", "annotations.json", tiou=tiou)
        >>> result.mean_average_precision
        [1.0, 0.75, 0.5]
        >>> result.average
        0.75
        >>> result.classes["stir"]
        [1.0, 0.5, 0.0]
        >>> result.num_videos, result.num_segments, result.num_detections
        (2, 3, 4)
    """
    truth = read_annotations(Path(annotations))
    if subset is not None:
        truth = in_subset(truth, subset)
    read = read_detections(Path(detections))
    found: Mapping[str, Sequence[Detection]] = {video_id: video.detections for video_id, video in read.items()}
    if found and not found.keys() & truth.keys():
        raise HrproError(
            f"{annotations}: none of the {len(found)} videos in {detections} ({next(iter(found))}, ...) is among its "
            f"{len(truth)} ({next(iter(truth))}, ...); give the annotations or the --subset of these videos"
        )
    if ambiguous is not None:
        found = drop_ambiguous(found, read_ambiguous(Path(ambiguous)))
    models = tuple(sorted({video.model for video in read.values()} - {""}))
    try:
        return replace(evaluate(found, truth, tiou, exclude), models=models)
    except ValueError as error:
        raise HrproError(f"{annotations}: {error}") from None


def report_detections(
    detections: PathLike,
    out: PathLike,
    *,
    annotations: PathLike | None = None,
    points: PathLike | None = None,
    videos: PathLike | None = None,
    subset: str | None = None,
    preset: str = "thumos14",
    min_score: float = 0.0,
) -> None:
    """Show detections on one self-contained HTML page, beside ground truth and points where given.

    Args:
        detections: DETECTIONS folder, one file of it, or an ActivityNet-style result file.
        out: HTML file to write.
        annotations: ground truth to show, and to evaluate against where it has segments.
        points: CSV of labeled points to show.
        videos: folder of the video files, by id: the page shows frames of them and plays them where they lie.
        subset: evaluate on this subset; on the annotated videos that have detections otherwise.
        preset: gives tIoU thresholds and the videos left out of the evaluation.
        min_score: show detections from this score on.

    Raises:
        HrproError: an input is unusable, or `videos` has none of the videos.

    Examples:
        >>> from hrpro_pipeline import report_detections
        >>> options = {"annotations": "annotations.json", "points": "points.csv"}
        >>> report_detections("detections/", "report.html", **options)
    """
    read = read_detections(Path(detections))
    files = None
    if videos is not None:
        files = {video_id: Path(file) for video_id, file in find_videos([Path(videos)]).items()}
        if read and not files.keys() & read.keys():
            names = f"{', '.join(sorted(read)[:3])}{', ...' if len(read) > 3 else ''}"
            raise HrproError(f"{videos}: holds none of the detections' videos; expected files named {names}")
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
        failures=read_failures(Path(detections)) if Path(detections).is_dir() else (),
        evaluation=evaluate(found, evaluated, chosen.tiou, chosen.exclude) if has_segments else None,
        diagnosis=diagnose(found, evaluated, chosen.exclude) if has_segments else None,
        videos=files,
        min_score=min_score,
    )


def write_points(
    annotations: PathLike, out: PathLike, distribution: Distribution, *, subset: str | None = None, seed: int = 0
) -> int:
    """Draw a point label in each annotated segment and write them as CSV -> how many.

    Args:
        annotations: ActivityNet-style JSON with segments.
        out: CSV to write.
        distribution: `uniform` over the segment, its `center`, or `gaussian` about the center.
        subset: of this subset alone; of all annotated videos otherwise.
        seed: of the random numbers.

    Examples:
        >>> write_points("annotations.json", "drawn.csv", "center")
        3
        >>> print(Path("drawn.csv").read_text(), end="")
        video_id,class,time
        kitchen_01,pour,1.500
        kitchen_01,stir,3.500
        kitchen_02,stir,2.000
    """
    truth = read_annotations(Path(annotations))
    if subset is not None:
        truth = in_subset(truth, subset)
    points = draw_points(truth.values(), distribution, seed)
    if not points:
        raise HrproError(f"{annotations}: no segments to draw points from")
    write_text(Path(out), points_csv(points))
    return len(points)


def _with_extraction(settings: Settings, data: TrainingSet) -> Settings:
    """Settings whose extraction is that of the feature files, so that the model can extract new videos alike."""
    stored = {name: value for name, value in data.extraction.items() if name in ExtractSettings.model_fields}
    clock = {"fps": data.clock.fps, "snippet_frames": data.clock.snippet_frames, "stride": data.clock.stride}
    merged = settings.extract.model_dump() | stored | clock | {"streams": tuple(data.widths)}
    return settings.model_copy(update={"extract": ExtractSettings.model_validate(merged)})


def _shown(
    data: TrainingSet, truth: Mapping[str, VideoAnnotation], watched: Mapping[str, np.ndarray | StoredFeatures]
) -> Shown:
    """Videos whose timelines TensorBoard shows: of middling length, at most two to train on and two to evaluate on."""
    classes = {name: label for label, name in enumerate(data.classes)}
    points = {
        video.video_id: np.stack([data.clock.to_seconds(video.positions), video.labels], axis=1)
        for video in data.videos
    }
    samples = []
    for group in ({video.video_id: video.features for video in data.videos}, watched):
        by_length = sorted(group, key=lambda video_id: len(group[video_id]))
        for video_id in by_length[max(0, len(by_length) // 2 - 1) :][:2]:
            known = truth[video_id].segments if video_id in truth else ()
            rows = [(each.start_seconds, each.end_seconds, classes[each.label]) for each in known]
            own = points.get(video_id, np.empty((0, 2)))
            samples.append(Sample(video_id, group[video_id], own, np.array(rows, np.float64).reshape(-1, 3)))
    return Shown(tuple(samples), lambda model, there, candidates: detect_actions(model, there, (), candidates))


def _features_of(
    features: Path, wanted: Mapping[str, VideoAnnotation], data: TrainingSet, subset: str
) -> dict[str, StoredFeatures] | dict[str, np.ndarray]:
    """Features [T, D] of a subset's videos from the folder of the training features, in memory if those are.

    Raises:
        HrproError: no features or segments of the subset, or features that were not made like those of `data`.
    """
    paths = list_features(features)
    there = {video_id: read_header(paths[video_id]) for video_id in wanted if video_id in paths}
    if not there:
        raise HrproError(f"{features}: no features of the videos of subset {subset!r}")
    if not any(video.segments for video in wanted.values()):
        raise HrproError(f"the annotations of subset {subset!r} have no segments to evaluate against")
    first = data.videos[0].video_id
    headers = {first: read_header(paths[first])} | there
    check_uniform(((paths[video_id], header) for video_id, header in headers.items()), tuple(data.widths))
    stored = {
        video_id: StoredFeatures(paths[video_id], tuple(data.widths), header.num_snippets)
        for video_id, header in there.items()
    }
    if isinstance(data.videos[0].features, StoredFeatures) or launch.rank() > 0:
        return stored
    read = {}
    with progress("reading features to evaluate on", len(stored), "videos", minor=True) as task:
        for video_id, in_file in stored.items():
            read[video_id] = np.asarray(in_file)
            task.advance()
    return read
