"""Detection in many videos or feature files, one result for each as it is done, and the files of the results."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrpro_pipeline.base.progress import about
from hrpro_pipeline.data.detections import (
    ACTIVITYNET_NAME,
    Curves,
    Detection,
    VideoDetections,
    write_activitynet,
    write_detections,
)
from hrpro_pipeline.data.failures import Failure, update_failures
from hrpro_pipeline.data.features import FeatureHeader, VideoFeatures, list_features, read_features
from hrpro_pipeline.data.files import holds_videos, sha256, video_id_of
from hrpro_pipeline.data.leases import remove_leases_folder
from hrpro_pipeline.data.storage import Location
from hrpro_pipeline.data.videos import FoundVideos, find_videos
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.extractor import Job, OnFrames
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.extract.pipeline import extract_videos
from hrpro_pipeline.infer.detector import Ambiguous, Detector
from hrpro_pipeline.infer.output import Format
from hrpro_pipeline.infer.raw import extractor_for, has_random_weights
from hrpro_pipeline.models.checkpoint import FILE_NAME, TrainedModel

log = logging.getLogger(__name__)

_MOST_REASON_LETTERS = 300


@dataclass(frozen=True)
class Sources:
    """Feature files and videos to detect in, by video id; `failures` are of videos that cannot be taken."""

    features: Mapping[str, Path]
    videos: Mapping[str, Location]
    failures: Sequence[Failure] = ()

    def __len__(self) -> int:
        return len(self.features) + len(self.videos) + len(self.failures)

    def of(self, video_id: str) -> Location:
        """The feature file or the video of an id."""
        return self.features[video_id] if video_id in self.features else self.videos[video_id]


@dataclass(frozen=True)
class VideoResult:
    """Detections of one video, best first, with the curves that they were cut from and the header of the features."""

    video_id: str
    detections: tuple[Detection, ...]
    curves: Curves
    header: FeatureHeader


def find_sources(paths: Sequence[Path], video_ids: Sequence[str] | None = None) -> Sources:
    """Find feature files and videos.

    Args:
        paths: videos, folders of videos, feature files, FEATURES folders.
        video_ids: take these alone, in this order.

    Raises:
        HrproError: a path without videos or features, a folder of both, a video given twice, an id without a source.
    """
    features: dict[str, Path] = {}
    video_paths: list[Path] = []
    for path in paths:
        files = _feature_files(path)
        if repeated := sorted(features.keys() & files.keys()):
            first = repeated[0]
            raise HrproError(f"{first}: features given twice, {features[first]} and {files[first]}")
        features |= files
        if not files:
            video_paths.append(path)
    found = find_videos(video_paths) if video_paths else FoundVideos({})
    if repeated := sorted(features.keys() & found.by_id.keys()):
        raise HrproError(f"{repeated[0]}: given both as video and as features; give one of them")
    sources = Sources(features, found.by_id, found.failures)
    return sources if video_ids is None else _selected(sources, video_ids)


def detect_in(
    detector: Detector,
    sources: Sources,
    ambiguous: Mapping[str, Ambiguous],
    options: ExtractOptions,
    on_frames: OnFrames = lambda *_: None,
) -> Iterator[VideoResult | Failure]:
    """Detect in feature files and videos, one at a time.

    Args:
        ambiguous: segments by video that detections must not overlap.
        options: for videos; `weights` may be `auto`, see `extractor_for`.
        on_frames: called from any thread while videos are extracted.

    Yields:
        The result of each video, or why it failed, as it is done.
    """
    yield from sources.failures
    for video_id, features in _features(detector.model, sources, options, on_frames):
        try:
            if isinstance(features, HrproError):
                raise features
            detections, curves = detector.detect_with_curves(features, ambiguous.get(video_id, ()))
        except (HrproError, RuntimeError) as error:  # RuntimeError: out of GPU memory, say
            reason = " ".join(str(error).split())[:_MOST_REASON_LETTERS]
            yield Failure(video_id, reason, str(sources.of(video_id)))
        else:
            yield VideoResult(video_id, tuple(detections), curves, features.header)


class ResultWriter:
    """Writes results, one file for each video or one for all, and remembers what became of the videos.

    Args:
        out: a folder; or the file, for `activitynet` and a name that ends in .json.
        model: name of the model, for the files. classes: those that it knows.

    Attributes:
        folder: of the results.
        done: ids of the videos with results.
        failed: reasons by id.
    """

    def __init__(self, out: Path, format: Format, model: str, classes: Sequence[str]) -> None:
        is_one_file = format == "activitynet" and out.suffix == ".json"
        self.folder = out.parent if is_one_file else out
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self._model, self._classes = model, tuple(classes)
        self._file = (out if is_one_file else out / ACTIVITYNET_NAME) if format == "activitynet" else None
        self._videos_of_file: list[VideoDetections] = []
        self._has_failures_file = not is_one_file  # its folder may be anybody's

    def add(self, result: VideoResult) -> None:
        """Write the result of a video, or keep it for the file of all."""
        self.done.append(result.video_id)
        header = result.header
        # A refined start may come after its end: there is nothing of the video in such a detection.
        detections = tuple(item for item in result.detections if item.start_seconds <= item.end_seconds)
        video = VideoDetections(
            result.video_id,
            detections,
            header.duration_seconds,
            str(header.source.get("name", f"{result.video_id}.h5")),
            self._model,
            result.curves,
            self._classes,
            header.record.get("partial_reason"),
        )
        if video.partial_reason is not None:
            fields = about("video", video_id=video.video_id, status="in part", reason=video.partial_reason)
            log.warning("in part: %s: %s", video.video_id, video.partial_reason, extra=fields)
        if self._file is None:
            write_detections(self.folder, video)
        else:
            self._videos_of_file.append(video)

    def fail(self, failure: Failure) -> None:
        """Note in `failures.jsonl` that a video failed."""
        self.failed[failure.video_id] = failure.reason
        if self._has_failures_file:
            update_failures(self.folder, {failure.video_id}, [failure])

    def finish(self) -> None:
        """Write the file of all videos; take those that did not fail out of `failures.jsonl`."""
        if self._file is not None:
            write_activitynet(self._file, self._videos_of_file)
        if self._has_failures_file:
            update_failures(self.folder, set(self.done) - self.failed.keys(), [])
            remove_leases_folder(self.folder)


def check_output(out: Path, format: Format) -> None:
    """Raise HrproError if results cannot be written to `out` because it is a file."""
    if out.is_file() and (format == "hrpro" or out.suffix != ".json"):
        raise HrproError(f"{out}: is a file; `out` names a folder for the detections")


def model_name(path: Path, model: TrainedModel) -> str:
    """The name of a model in result files: run, digest, and warnings about its selection and weights, but no path."""
    file = path / FILE_NAME if path.is_dir() else path
    checkpoint = model.notes.checkpoint
    warnings = [] if checkpoint in ("", "last") else [f"checkpoint: {checkpoint}"]
    warnings += ["random feature weights, NOT Kinetics"] if has_random_weights(model) else []
    name = f"{file.resolve().parent.name}/{file.name} sha256:{sha256(file)[:12]}"
    return name + "".join(f" ({warning})" for warning in warnings)


def _feature_files(path: Path) -> dict[str, Path]:
    """Feature files by video id: the file itself, or those of a FEATURES folder; none for anything else."""
    if path.suffix == ".h5" and path.is_file():
        return {video_id_of(path.stem): path}
    if not path.is_dir() or not any(path.glob("*.h5")):
        return {}
    files = list_features(path)
    if holds_videos(path):
        raise HrproError(f"{path}: holds both features and videos; put them into folders of their own")
    return files


def _selected(sources: Sources, video_ids: Sequence[str]) -> Sources:
    failures = [failure for failure in sources.failures if failure.video_id in video_ids]
    known = sources.features.keys() | sources.videos.keys() | {failure.video_id for failure in failures}
    if missing := [video_id for video_id in video_ids if video_id not in known]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise HrproError(f"`videos` names {', '.join(missing[:3])}{more}, not in the given paths")
    return Sources(
        {video_id: sources.features[video_id] for video_id in video_ids if video_id in sources.features},
        {video_id: sources.videos[video_id] for video_id in video_ids if video_id in sources.videos},
        failures,
    )


def _features(
    model: TrainedModel, sources: Sources, options: ExtractOptions, on_frames: OnFrames
) -> Iterator[tuple[str, VideoFeatures | HrproError]]:
    """Features of each video, read or extracted, or what is wrong with it; one at a time."""
    for video_id, path in sources.features.items():
        try:
            yield video_id, read_features(path)
        except HrproError as error:
            yield video_id, error
    if sources.videos:
        extractor = extractor_for(model, options)
        jobs = (Job(video_id, str(path)) for video_id, path in sources.videos.items())
        yield from extract_videos(jobs, extractor, on_frames)
