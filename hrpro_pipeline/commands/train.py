"""`hrpro train`: all stages from features and points."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hrpro_pipeline.base import launch
from hrpro_pipeline.base.functions import function_of
from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.configs.presets import DEFAULT_PRESET
from hrpro_pipeline.configs.schema import ExtractSettings, Settings
from hrpro_pipeline.data.annotations import (
    VideoAnnotation,
    in_subset,
    read_ambiguous,
    read_annotations,
    read_ids,
)
from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo, draw_validation, hold_out, load_training_set
from hrpro_pipeline.data.features import StoredFeatures, list_features, read_header
from hrpro_pipeline.data.inputs import Inputs
from hrpro_pipeline.data.parts import in_parts
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.data.run_inputs import write_inputs
from hrpro_pipeline.data.suggestions import DOUBTS_FILE, write_suggestions
from hrpro_pipeline.data.uniform import check_uniform
from hrpro_pipeline.errors import HrproError, UsageError
from hrpro_pipeline.infer.doubts import describe_doubts, doubts_of
from hrpro_pipeline.infer.evaluator import (
    Measure,
    WatchedVideo,
    evaluator,
    point_measure,
    segment_measure,
    watched,
)
from hrpro_pipeline.infer.held_out import calibrate
from hrpro_pipeline.models.calibration import Calibration
from hrpro_pipeline.models.checkpoint import FILE_NAME, TrainedModel, dividing_heads, load_model, save_model
from hrpro_pipeline.models.device import resolve_device
from hrpro_pipeline.models.snippet import prototype_similarity
from hrpro_pipeline.show.training import Sample, heat_map, timeline
from hrpro_pipeline.train.checkpoints import check_empty
from hrpro_pipeline.train.trainer import train
from hrpro_pipeline.train.warm_start import describe_start, warm_settings
from hrpro_pipeline.train.watch import Draw, Selection, Watch

log = logging.getLogger(__name__)

# Folder in RUN of the run that holds videos out.
_REHEARSAL = "held_out"


@dataclass(frozen=True)
class Training:
    """Train all stages on cached features and points, and write a RUN folder.

    The last checkpoint becomes the model, unless `validate_on` or `best_on_test` is given. `doubts.csv` in the run
    ranks the points that seem misplaced and the actions that seem forgotten.

    Args:
        features: FEATURES folder.
        points: CSV of labeled points.
        out: RUN folder to write.
        annotations: ActivityNet-style JSON: class list, frame rates, and segments for `evaluate_on`; the classes of
            the points are used without it.
        videos: file that names the training videos; all that have points otherwise.
        ambiguous: file of segments that detections must not overlap in that evaluation.
        evaluate_on: subset of the annotations to evaluate on while training, from features in the same folder.
        validate_on: file that names training videos, or a share of them, to hold out: the checkpoint that finds their
            points best becomes the model.
        best_on_test: the checkpoint that scores best on `evaluate_on` becomes the model. Its score there says nothing
            about other videos; the model and all that is made with it are labeled so.
        preset: name of a preset.
        overrides: `section.key=value` settings over the preset.
        seed: of initial weights, order and dropout.
        resume: go on from the last checkpoint in `out`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        warm_start: RUN folder or `model.pt` to go on from, with other points: its weights, for the classes that both
            have, and a quarter of the steps. No videos are held out; the answer is that of the model before.
        stage1: a model of the same settings and data whose stage 1 is taken instead of training it.

    Returns:
        The model that `model.pt` in `out` holds, on the CPU.

    Raises:
        HrproError: features, points or annotations that do not fit together (every problem is named), or an `out`
            that holds a run already.

    Examples:
        Four steps are for examples: leave `overrides` out for real videos.

        >>> from hrpro_pipeline import train_detector
        >>> few = ["snippet.steps=4", "snippet.attention_layers=0", "pyramid.steps=4"]
        >>> model = train_detector("features/", "points.csv", "runs/first", overrides=few)
        >>> model.classes
        ('pour', 'stir')
        >>> model.notes.videos, model.notes.checkpoint
        (2, 'last')
    """

    features: str | Path
    points: str | Path
    out: str | Path
    _: KW_ONLY
    annotations: str | Path | None = None
    videos: str | Path | None = None
    ambiguous: str | Path | None = None
    evaluate_on: str | None = None
    validate_on: str | Path | float | None = None
    best_on_test: bool = False
    preset: str = DEFAULT_PRESET
    overrides: Sequence[str] = ()
    seed: int = 0
    resume: bool = False
    device: str = "auto"
    warm_start: str | Path | None = None
    stage1: TrainedModel | None = None

    @property
    def inputs(self) -> Inputs:
        """The paths alone."""
        paths = (self.annotations, self.videos, self.ambiguous, self.warm_start)
        optional = (None if path is None else Path(path) for path in paths)
        return Inputs(Path(self.features), Path(self.points), *optional)

    def run(self) -> TrainedModel:
        if self.best_on_test and (self.evaluate_on is None or self.validate_on is not None):
            raise UsageError("`best_on_test` needs `evaluate_on`, and does not go with `validate_on`")
        settings = load_settings(self.preset, self.overrides)
        inputs = self.inputs
        truth = read_annotations(inputs.annotations) if inputs.annotations is not None else {}
        data = _training_set(inputs, truth, settings)
        labeled = data
        settings, start = self._warm_start(_with_heads(_with_extraction(settings, data), data), data)
        to_watch: dict[str, WatchedVideo] = {}
        measures: list[Measure] = []
        select = None
        if self.evaluate_on is not None:
            evaluated = _evaluated_videos(truth, self.evaluate_on, settings.evaluate.exclude)
            to_watch |= _features_of(inputs.features, evaluated, data, self.evaluate_on)
            measures.append(segment_measure(evaluated, settings.evaluate.tiou, self.evaluate_on))
            if self.best_on_test:
                select = Selection("average", f"{self.evaluate_on}, the subset that it was evaluated on")
        if self.validate_on is not None:
            data, validation = self._split(data)
            to_watch |= watched(validation)
            measures.append(point_measure(validation))
            select = _by_points_of(validation)
        ambiguous = read_ambiguous(inputs.ambiguous) if inputs.ambiguous is not None else {}
        evaluate = evaluator(to_watch, ambiguous, measures) if measures else None
        device = resolve_device(self.device)
        settings, calibration = self._answer_before(data, settings, start, device)
        model = train(
            data,
            settings,
            Path(self.out),
            seed=self.seed,
            device=device,
            watch=Watch(evaluate, select, _drawing(data, truth, to_watch)),
            resume=self.resume,
            stage1=None if self.stage1 is None else self.stage1.snippet,
            calibration=calibration,
            start=start,
        )
        if settings.answer.held_out and self.validate_on is not None and launch.rank() == 0:
            model.calibration = calibrate(model, validation, device)
            save_model(Path(self.out) / FILE_NAME, model)
        if launch.rank() == 0:
            write_inputs(Path(self.out), inputs, self.evaluate_on)
            _write_doubts(Path(self.out) / DOUBTS_FILE, model, labeled, device)
        return model

    def _warm_start(self, settings: Settings, data: TrainingSet) -> tuple[Settings, TrainedModel | None]:
        """Settings with fewer steps, and the model to go on from; the settings alone where there is none."""
        if self.warm_start is None:
            return settings, None
        start = load_model(Path(self.warm_start))
        if start.pyramid is None and settings.pyramid.steps and data.num_points >= settings.pyramid.min_points:
            log.info("the model has no stage 3; train anew, without `warm_start`, to see whether it helps by now")
        settings = warm_settings(settings, start, data)
        log.info("going on from %s: %s", self.warm_start, describe_start(start, data, settings))
        return settings, start

    def _answer_before(
        self, data: TrainingSet, settings: Settings, start: TrainedModel | None, device: torch.device
    ) -> tuple[Settings, Calibration | None]:
        """What the answer of the model will be as far as that is known before it is trained; see `_rehearse`."""
        if self.validate_on is not None or self.best_on_test:
            return settings, None
        if start is not None:
            return settings, start.calibration
        if settings.answer.held_out and self.stage1 is None:
            return self._rehearse(data, settings, device)
        return settings, None

    def _rehearse(
        self, data: TrainingSet, settings: Settings, device: torch.device
    ) -> tuple[Settings, Calibration | None]:
        """Train on a part of the videos, and learn from the points of the others.

        Returns:
            Settings without the stages that made the model worse on those points, and what the answer of a model is
            that was trained so; None where no video can be spared.
        """
        if not self.resume:
            check_empty(Path(self.out))
        try:
            part, videos = _hold_some_out(data, settings, self.seed)
        except HrproError:
            log.warning("the model learns no answer: each video is the only one of a class")
            return settings, None
        watch = Watch(evaluator(watched(videos), {}, [point_measure(videos)]), _by_points_of(videos))
        run = Path(self.out) / _REHEARSAL
        model = train(part, settings, run, seed=self.seed, device=device, watch=watch, resume=self.resume)
        if settings.pyramid.steps and model.pyramid is None:
            settings = settings.model_copy(update={"pyramid": settings.pyramid.model_copy(update={"steps": 0})})
        return settings, calibrate(model, videos, device)

    def _split(self, data: TrainingSet) -> tuple[TrainingSet, tuple[TrainingVideo, ...]]:
        """The videos to train on, and those to validate on."""
        assert self.validate_on is not None
        if isinstance(self.validate_on, float):
            return hold_out(data, draw_validation(data, self.validate_on, self.seed))
        return hold_out(data, read_ids(Path(self.validate_on)))


def _hold_some_out(data: TrainingSet, settings: Settings, seed: int) -> tuple[TrainingSet, tuple[TrainingVideo, ...]]:
    """Training set without the held-out videos, and these: parts of long ones where no whole video can be spared.

    Raises:
        HrproError: no part can be spared either.
    """
    try:
        part, videos = hold_out(data, draw_validation(data, settings.answer.held_out, seed))
        log.info("first a run that holds out %d videos, to learn what the answer is", len(videos))
    except HrproError:
        parts = in_parts(data, settings.snippet.window)
        part, videos = hold_out(parts, draw_validation(parts, settings.answer.held_out, seed))
        log.info("first a run that holds out %d parts of videos, to learn what the answer is", len(videos))
    return part, videos


def _write_doubts(file: Path, model: TrainedModel, data: TrainingSet, device: torch.device) -> None:
    doubts = doubts_of(model, data, device)
    write_suggestions(file, doubts)
    log.info("labels worth a second look: %s: %s", describe_doubts(doubts), file)


def _by_points_of(videos: Sequence[TrainingVideo]) -> Selection:
    return Selection("point_mAP", f"the points of {len(videos)} validation videos")


train_detector = function_of(Training, "train_detector")


def _training_set(inputs: Inputs, truth: dict[str, VideoAnnotation], settings: Settings) -> TrainingSet:
    return load_training_set(
        inputs.features,
        read_points(inputs.points),
        truth,
        read_ids(inputs.videos) if inputs.videos is not None else None,
        settings.extract.streams if "streams" in settings.extract.model_fields_set else None,
        points_name=str(inputs.points),
        on_disk={"disk": True, "auto": None}.get(settings.compute.features, False),
    )


def _with_extraction(settings: Settings, data: TrainingSet) -> Settings:
    """Settings whose extraction is that of the feature files, so that the model can extract new videos alike."""
    stored = {name: value for name, value in data.extraction.items() if name in ExtractSettings.model_fields}
    clock = {"fps": data.clock.fps, "snippet_frames": data.clock.snippet_frames, "stride": data.clock.stride}
    if data.extraction:  # files of one RGB network do not name several
        stored.setdefault("backbones", ())
    merged = settings.extract.model_dump() | stored | clock | {"streams": tuple(data.widths)}
    return settings.model_copy(update={"extract": ExtractSettings.model_validate(merged)})


def _with_heads(settings: Settings, data: TrainingSet) -> Settings:
    """Settings whose attention heads divide the width of the features; the log says so where they are others."""
    width = sum(data.widths.values())
    heads = dividing_heads(width, settings.snippet.heads)
    if heads == settings.snippet.heads:
        return settings
    if settings.snippet.attention_layers:
        log.info("features %d wide: %d attention heads, as %d do not divide it", width, heads, settings.snippet.heads)
    return settings.model_copy(update={"snippet": settings.snippet.model_copy(update={"heads": heads})})


def _evaluated_videos(
    truth: dict[str, VideoAnnotation], subset: str, exclude: Sequence[str]
) -> dict[str, VideoAnnotation]:
    if not truth:
        raise HrproError("`evaluate_on` needs `annotations` with the segments to evaluate against")
    return {video_id: video for video_id, video in in_subset(truth, subset).items() if video_id not in exclude}


def _features_of(
    folder: Path, evaluated: Mapping[str, VideoAnnotation], data: TrainingSet, subset: str
) -> dict[str, WatchedVideo]:
    """Features [T, D] of a subset's videos from the folder of the training features, in memory if those are.

    Raises:
        HrproError: no features or segments of the subset, or features that were not made like those of `data`.
    """
    paths = list_features(folder)
    headers = {video_id: read_header(paths[video_id]) for video_id in evaluated if video_id in paths}
    if not headers:
        raise HrproError(f"{folder}: no features of the videos of subset {subset!r}")
    if not any(video.segments for video in evaluated.values()):
        raise HrproError(f"the annotations of subset {subset!r} have no segments to evaluate against")
    first = data.videos[0].video_id
    compared = {first: read_header(paths[first])} | headers
    check_uniform(((paths[video_id], header) for video_id, header in compared.items()), tuple(data.widths))
    stored = {
        video_id: WatchedVideo(StoredFeatures(paths[video_id], tuple(data.widths), header.num_snippets), header.clock)
        for video_id, header in headers.items()
    }
    if isinstance(data.videos[0].features, StoredFeatures) or launch.rank() > 0:
        return stored
    arrays = {}
    with progress("reading features to evaluate on", len(stored), "videos", minor=True) as task:
        for video_id, video in stored.items():
            arrays[video_id] = replace(video, features=np.asarray(video.features))
            task.advance()
    return arrays


def _drawing(data: TrainingSet, truth: Mapping[str, VideoAnnotation], others: Mapping[str, WatchedVideo]) -> Draw:
    """Draws the timelines of a few videos of middling length: at most two to train on and two to evaluate on."""
    label_of = {name: label for label, name in enumerate(data.classes)}
    points = {
        video.video_id: np.stack([video.clock.to_seconds(video.positions), video.labels], axis=1)
        for video in data.videos
    }
    samples = []
    for group in (watched(data.videos), others):
        by_length = sorted(group, key=lambda video_id: len(group[video_id].features))
        for video_id in by_length[max(0, len(by_length) // 2 - 1) :][:2]:
            segments = truth[video_id].segments if video_id in truth else ()
            rows = [(segment.start_seconds, segment.end_seconds, label_of[segment.label]) for segment in segments]
            samples.append(
                Sample(
                    video_id,
                    group[video_id].features,
                    group[video_id].clock,
                    points.get(video_id, np.empty((0, 2))),
                    np.array(rows, np.float64).reshape(-1, 3),
                )
            )

    def draw(model: TrainedModel, with_prototypes: bool) -> Iterator[tuple[str, np.ndarray]]:
        if with_prototypes:
            yield "snippet/prototypes", heat_map(prototype_similarity(model.snippet.prototypes), model.classes)
        for sample in samples:
            yield f"timeline/{sample.video_id}", timeline(model, sample)

    return draw
