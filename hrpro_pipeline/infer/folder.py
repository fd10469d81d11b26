"""Detection over many videos or feature files, one result written as each is done."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from hrpro_pipeline.base.progress import about, progress
from hrpro_pipeline.data.annotations import read_ambiguous, read_ids
from hrpro_pipeline.data.detections import (
    ACTIVITYNET_NAME,
    Detection,
    VideoDetections,
    write_activitynet,
    write_detections,
)
from hrpro_pipeline.data.failures import Failure, update_failures
from hrpro_pipeline.data.features import VideoFeatures, list_features, read_features
from hrpro_pipeline.data.files import holds_videos, sha256
from hrpro_pipeline.data.leases import remove_leases_folder
from hrpro_pipeline.data.storage import Location
from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.extractor import Job, OnFrames
from hrpro_pipeline.extract.pipeline import extract_videos
from hrpro_pipeline.infer.detector import Detector
from hrpro_pipeline.infer.raw import extractor_for, has_random_weights
from hrpro_pipeline.models.checkpoint import FILE_NAME, TrainedModel
from hrpro_pipeline.show.colors import class_colors
from hrpro_pipeline.show.overlay import chosen
from hrpro_pipeline.show.render import Renderer, RenderJob

log = logging.getLogger(__name__)

# Clips of a video, where --top does not say how many.
_CLIPS = 10


def detect_folder(
    model: Path,
    paths: Sequence[Path],
    out: Path,
    *,
    videos: Path | None = None,
    ambiguous: Path | None = None,
    min_score: float | None = None,
    top: int | None = None,
    style: str = "hrpro",
    weights: str = "auto",
    decoder: str = "auto",
    device: str = "auto",
    keep_partial: bool = False,
    overlay: bool = False,
    clips: bool = False,
) -> tuple[list[str], dict[str, str]]:
    """Detect in videos, folders of videos, feature files or FEATURES folders, and write a JSON for each.

    Args:
        videos: file of the only ids to detect in.
        min_score, top: keep detections with at least this score; the best so many of a video.
        style: `hrpro`, one JSON a video; `activitynet`, one for all: `out` itself if it ends in .json, else
            `detections.json` in it.
        keep_partial: detect in what can be decoded of a damaged video, too; its result says so.
        overlay: write `overlay/<video id>.mp4` beside the results, too: the video with its detections drawn in.
        clips: cut the detections that are kept into `clips/<video id>/`; the best 10, where `top` is not given.

    `failures.jsonl` in a folder of results lists the videos that failed.

    Returns:
        Ids of the videos that were done, and why others failed. A video that was detected in, but could not be drawn
        or cut, is in both.

    Raises:
        HrproError: the model or a path is unusable, a wanted video is not there, or `overlay` or `clips` of features.
    """
    if out.is_file() and (style == "hrpro" or out.suffix != ".json"):
        raise HrproError(f"{out}: is a file; --out names a folder for the detections")
    detector = Detector.load(model, device)
    wanted = read_ids(videos) if videos is not None else None
    segments = read_ambiguous(ambiguous) if ambiguous is not None else {}
    name = _model_name(model, detector.model)
    results = _Results(out, style)
    stored, raw = _find(paths, wanted)
    if stored and (overlay or clips):
        first = next(iter(stored.values()))
        raise HrproError(f"{first}: features have no pictures; --overlay and --clips need the videos themselves")
    colors = class_colors(detector.model.classes)
    with progress("detecting", len(stored) + len(raw), "videos") as task, closing(Renderer()) as renderer:

        def on_frames(video_id: str, count: int, total: int) -> None:
            task.video(video_id, count, total, "frames")

        def on_drawn(video_id: str, count: int, total: int) -> None:
            task.video(video_id, count, total, "frames drawn")

        items = _features(detector, stored, raw, on_frames, weights, decoder, device, keep_partial)
        for video_id, features in items:
            task.end_video(video_id)
            try:
                if isinstance(features, HrproError):
                    raise features
                found, curves = detector.detect_with_curves(features, segments.get(video_id, ()))
            except (HrproError, RuntimeError) as error:  # RuntimeError: out of GPU memory, say
                reason = " ".join(str(error).split())[:300]
                results.fail(Failure(video_id, reason, str(stored.get(video_id) or raw[video_id])))
                task.advance(note=video_id)
                continue
            header = features.header
            kept = _cut(found, min_score, top)
            results.add(
                VideoDetections(
                    video_id,
                    tuple(kept),
                    header.duration_seconds,
                    str(header.source.get("name", f"{video_id}.h5")),
                    name,
                    curves,
                    detector.model.classes,
                    header.partial_reason,
                )
            )
            if overlay or clips:
                job = RenderJob(
                    overlay=results.folder / "overlay" / f"{video_id}.mp4" if overlay else None,
                    clips=results.folder / "clips" / video_id if clips else None,
                    shown=tuple(chosen(kept, min_score)),
                    cut=tuple(kept if top is not None else kept[:_CLIPS]),
                    colors=colors,
                    decoder=decoder,
                    keep_partial=keep_partial,
                )
                try:
                    renderer.render(raw[video_id], job, partial(on_drawn, video_id))
                except (HrproError, OSError) as error:
                    results.fail(Failure(video_id, f"detected, but not drawn: {error}", str(raw[video_id])))
                task.end_video(video_id)
            task.advance(note=video_id)
    results.finish()
    return results.done, results.failed


class _Results:
    """Where results go: a file a video in a folder, or one file for all; and what became of the videos."""

    def __init__(self, out: Path, style: str) -> None:
        is_one_file = style == "activitynet" and out.suffix == ".json"
        self.folder = out.parent if is_one_file else out
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self._file = (out if is_one_file else out / ACTIVITYNET_NAME) if style == "activitynet" else None
        self._together: list[VideoDetections] = []
        self._has_failures_file = not is_one_file  # its folder may be anybody's

    def add(self, video: VideoDetections) -> None:
        self.done.append(video.video_id)
        if video.partial_reason is not None:
            fields = about("video", video_id=video.video_id, status="in part", reason=video.partial_reason)
            log.warning("in part: %s: %s", video.video_id, video.partial_reason, extra=fields)
        if self._file is None:
            write_detections(self.folder, video)
        else:
            self._together.append(video)

    def fail(self, failure: Failure) -> None:
        self.failed[failure.video_id] = failure.reason
        if self._has_failures_file:
            update_failures(self.folder, {failure.video_id}, [failure])

    def finish(self) -> None:
        if self._file is not None:
            write_activitynet(self._file, self._together)
        if self._has_failures_file:
            update_failures(self.folder, set(self.done) - self.failed.keys(), [])
            remove_leases_folder(self.folder)


def _cut(detections: list[Detection], min_score: float | None, top: int | None) -> list[Detection]:
    kept = [item for item in detections if min_score is None or item.score >= min_score]
    return kept[:top]


def _model_name(path: Path, model: TrainedModel) -> str:
    """The run's name, a digest, and what to know of it: what a result says of its model, without a path."""
    file = path / FILE_NAME if path.is_dir() else path
    chosen = model.notes.get("checkpoint", "last")
    labels = [] if chosen == "last" else [f"checkpoint: {chosen}"]
    labels += ["random feature weights, NOT Kinetics"] if has_random_weights(model) else []
    name = f"{file.resolve().parent.name}/{file.name} sha256:{sha256(file)[:12]}"
    return name + "".join(f" ({each})" for each in labels)


def _find(paths: Sequence[Path], wanted: list[str] | None) -> tuple[dict[str, Path], dict[str, Location]]:
    """Feature files and videos by video id, of those that are wanted."""
    stored: dict[str, Path] = {}
    raw: list[Path] = []
    for path in paths:
        found = {path.stem: path} if path.suffix == ".h5" and path.is_file() else {}
        if path.is_dir() and any(path.glob("*.h5")):
            found = list_features(path)
            if holds_videos(path):
                raise HrproError(f"{path}: holds both features and videos; put them into folders of their own")
        if twice := sorted(stored.keys() & found.keys()):
            raise HrproError(f"{twice[0]}: features given twice, {stored[twice[0]]} and {found[twice[0]]}")
        stored |= found
        if not found:
            raw.append(path)
    videos = find_videos(raw) if raw else {}
    if both := sorted(stored.keys() & videos.keys()):
        raise HrproError(f"{both[0]}: given both as video and as features; give one of them")
    if wanted is not None:
        if missing := [video_id for video_id in wanted if video_id not in stored and video_id not in videos]:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise HrproError(f"--videos names {', '.join(missing[:3])}{more}, not in the given paths")
        stored = {video_id: stored[video_id] for video_id in wanted if video_id in stored}
        videos = {video_id: videos[video_id] for video_id in wanted if video_id in videos}
    return stored, videos


def _features(
    detector: Detector,
    stored: Mapping[str, Path],
    videos: Mapping[str, Location],
    on_frames: OnFrames,
    weights: str,
    decoder: str,
    device: str,
    keep_partial: bool,
) -> Iterator[tuple[str, VideoFeatures | HrproError]]:
    """Features of each, or what is wrong with them, one at a time."""
    for video_id, path in stored.items():
        try:
            yield video_id, read_features(path)
        except HrproError as error:
            yield video_id, error
    if videos:
        extractor = extractor_for(
            detector.model, weights=weights, decoder=decoder, device=device, keep_partial=keep_partial
        )
        jobs = (Job(video_id, str(path)) for video_id, path in videos.items())
        yield from extract_videos(jobs, extractor, on_frames)
