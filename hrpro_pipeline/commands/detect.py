"""`hrpro detect`: actions in raw videos or features, written as JSON and, of videos, drawn."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from pathlib import Path

from hrpro_pipeline.base.functions import function_of
from hrpro_pipeline.base.progress import Task, progress
from hrpro_pipeline.configs.load import override_settings
from hrpro_pipeline.data.annotations import read_ambiguous, read_ids
from hrpro_pipeline.data.detections import Detection, answer_of
from hrpro_pipeline.data.failures import Failure
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.options import Decoder, ExtractOptions
from hrpro_pipeline.infer.detector import Detector
from hrpro_pipeline.infer.folder import (
    ResultWriter,
    Sources,
    VideoResult,
    check_output,
    detect_in,
    find_sources,
    model_name,
)
from hrpro_pipeline.infer.output import Format, Output
from hrpro_pipeline.models.checkpoint import TrainedModel, load_model
from hrpro_pipeline.show.colors import class_colors
from hrpro_pipeline.show.overlay import distinct_detections
from hrpro_pipeline.show.render import Renderer, RenderJob

# Clips of a video where `top` is not given.
_NUM_CLIPS = 10


@dataclass(frozen=True)
class Detecting:
    """Detect in videos, folders of videos, feature files or FEATURES folders, and write a JSON for each.

    `failures.jsonl` in a folder of results lists the videos that failed.

    Args:
        model: RUN folder or `model.pt`.
        paths: videos, folders of videos, feature files or FEATURES folders.
        out: folder for the detections.
        videos: file of the only ids to detect in.
        ambiguous: file of segments that detections must not overlap (THUMOS14).
        min_score, top: keep detections with at least this score; the best so many of a video.
        format: `hrpro`, one JSON a video; `activitynet`, one for all: `out` itself if it ends in .json, else
            `detections.json` in it.
        overlay: write `overlay/<video id>.mp4` beside the results, too: the video with its detections drawn in.
        clips: cut the detections that are kept into `clips/<video id>/`; where `top` is not given, the answer, or the
            best 10 of a model without one.
        answer_only: keep the detections that the model gives as its answer.
        overrides: `detect.key=value` settings over the model's.
        weights: for videos: `auto` for those of the model's features, or a folder of weight files.
        backbone: for videos: your own networks that the model was trained with, PATH.py:FUNCTION; their code is run.
        decoder: the one to try first.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        keep_partial: detect in what can be decoded of a damaged video, too; its result says so.

    Returns:
        Ids of the videos that were done, and why others failed. A video that was detected in, but could not be drawn
        or cut, is in both.

    Raises:
        HrproError: the model or a path is unusable, a video of `videos` is missing, or `overlay` or `clips` of
            features.

    Examples:
        >>> from hrpro_pipeline import detect_folder
        >>> done, failed = detect_folder("runs/kitchen", ["more_features/"], "more_detections/")
        >>> done, failed
        (['kitchen_03'], {})
    """

    model: str | Path
    paths: Iterable[str | Path]
    out: str | Path
    _: KW_ONLY
    videos: str | Path | None = None
    ambiguous: str | Path | None = None
    min_score: float | None = None
    top: int | None = None
    answer_only: bool = False
    overrides: Sequence[str] = ()
    format: Format = "hrpro"
    overlay: bool = False
    clips: bool = False
    weights: str = "auto"
    backbone: Sequence[str] = ()
    decoder: Decoder = "auto"
    device: str = "auto"
    keep_partial: bool = False

    def run(self) -> tuple[list[str], dict[str, str]]:
        model, out = Path(self.model), Path(self.out)
        output = Output(self.min_score, self.top, self.answer_only, self.format, self.overlay, self.clips)
        extraction = ExtractOptions(
            weights=self.weights,
            decoder=self.decoder,
            device=self.device,
            keep_partial=self.keep_partial,
            own=tuple(self.backbone),
        )
        check_output(out, self.format)
        loaded = load_model(model)
        if self.answer_only and loaded.calibration is None:
            raise HrproError(
                f"{model}: has not learned what its answer is; train it with `validate_on`, or with general"
            )
        detector = Detector(_with_settings(loaded, self.overrides), self.device)
        video_ids = read_ids(Path(self.videos)) if self.videos is not None else None
        segments = read_ambiguous(Path(self.ambiguous)) if self.ambiguous is not None else {}
        results = ResultWriter(out, self.format, model_name(model, detector.model), detector.model.classes)
        sources = find_sources([Path(path) for path in self.paths], video_ids)
        if sources.features and (self.overlay or self.clips):
            first = next(iter(sources.features.values()))
            raise HrproError(f"{first}: features have no pictures; `overlay` and `clips` need the videos themselves")
        colors = class_colors(detector.model.classes)
        with progress("detecting", len(sources), "videos") as task, closing(Renderer()) as renderer:
            on_frames = partial(_report_frames, task, "frames")
            for result in detect_in(detector, sources, segments, extraction, on_frames):
                task.end_video(result.video_id)
                if isinstance(result, Failure):
                    results.fail(result)
                else:
                    result = replace(result, detections=_selected(result.detections, output))
                    results.add(result)
                    if self.overlay or self.clips:
                        job = _render_job(result, results.folder, output, colors, extraction)
                        if failure := _draw(renderer, result.video_id, sources, job, task):
                            results.fail(failure)
                task.advance(note=result.video_id)
        results.finish()
        return results.done, results.failed


detect_folder = function_of(Detecting, "detect_folder")


def _with_settings(model: TrainedModel, overrides: Sequence[str]) -> TrainedModel:
    """The model with other settings of detection. Raises HrproError for settings of anything else."""
    if other := [item for item in overrides if not item.startswith("detect.")]:
        raise HrproError(f"{other[0]!r}: a trained model takes settings of detection alone, detect.KEY=VALUE")
    return replace(model, settings=override_settings(model.settings, overrides)) if overrides else model


def _report_frames(task: Task, unit: str, video_id: str, count: int, total: int) -> None:
    task.video(video_id, count, total, unit)


def _selected(detections: Sequence[Detection], output: Output) -> tuple[Detection, ...]:
    """The best `top` detections that reach `min_score`; of the answer alone where that is asked for."""
    good = (item for item in detections if output.min_score is None or item.score >= output.min_score)
    if output.answer_only:
        good = (item for item in good if item.answer)
    return tuple(good)[: output.top]


def _render_job(
    result: VideoResult, folder: Path, output: Output, colors: Mapping[str, str], extraction: ExtractOptions
) -> RenderJob:
    """The request to draw and cut a video with its selected detections."""
    detections = result.detections
    return RenderJob(
        overlay=folder / "overlay" / f"{result.video_id}.mp4" if output.overlay else None,
        clips=folder / "clips" / result.video_id if output.clips else None,
        overlay_detections=tuple(distinct_detections(detections, output.min_score)),
        clip_detections=_clipped(detections, output),
        colors=colors,
        decoder=extraction.decoder,
        keep_partial=extraction.keep_partial,
    )


def _clipped(detections: tuple[Detection, ...], output: Output) -> tuple[Detection, ...]:
    """The detections to cut out: those of `top`, else the answer, else the best few."""
    if output.top is not None:
        return detections
    answer = answer_of(detections)
    return detections[:_NUM_CLIPS] if answer is None else answer


def _draw(renderer: Renderer, video_id: str, sources: Sources, job: RenderJob, task: Task) -> Failure | None:
    """Draw and cut a video; returns what went wrong."""
    try:
        renderer.render(sources.videos[video_id], job, partial(_report_frames, task, "frames drawn", video_id))
    except (HrproError, OSError) as error:
        return Failure(video_id, f"detected, but not drawn: {error}", str(sources.videos[video_id]))
    finally:
        task.end_video(video_id)
    return None
