"""Many videos into a FEATURES folder: what is complete stays, what fails costs only itself."""

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import VideoFeatures, feature_path, read_header, write_features
from hrpro_pipeline.data.files import sha256
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.backbones import Backbone, load_backbones
from hrpro_pipeline.extract.decoders import DECODERS
from hrpro_pipeline.extract.extractor import extract_video, stored_settings
from hrpro_pipeline.extract.flow import resolve_backend
from hrpro_pipeline.extract.video import find_videos
from hrpro_pipeline.models.device import resolve_device
from hrpro_pipeline.progress import progress_bar

# Snippets that go through a network together.
_BATCH = {"cpu": 2, "cuda": 16}


@dataclass(frozen=True)
class Failure:
    """A video that could not be extracted, and why in one line."""

    video_id: str
    reason: str


@dataclass(frozen=True)
class ExtractionSummary:
    """Ids of the videos extracted now and of those that were complete already; the failed ones with the reason."""

    done: list[str]
    skipped: list[str]
    failed: list[Failure]


@dataclass(frozen=True)
class _Plan:
    """What all videos of a job have in common."""

    settings: ExtractSettings
    backbones: dict[str, Backbone]
    flow_backend: str
    decoder: str
    device: torch.device


def extract_folder(
    paths: Sequence[Path],
    out: Path,
    settings: ExtractSettings,
    *,
    weights: str = "kinetics",
    flow: str = "auto",
    decoder: str = "auto",
    device: str = "auto",
    overwrite: bool = False,
    on_video: Callable[[str, str], None] | None = None,
) -> ExtractionSummary:
    """Extract videos, and the videos in folders, into `out`, one file each.

    A video is skipped if its file was made from the same video with the same settings and weights.

    Args:
        weights: "kinetics", "random" or a folder of weight files.
        flow: "auto", "torch" or "opencv".
        overwrite: extract all of them again.
        on_video: called with each video id and "done", "skipped" or "failed".

    Raises:
        HrproError: what concerns all videos: paths, weights, device. A failing video is in the summary instead.
    """
    videos = find_videos(paths)
    plan = _plan(settings, weights, flow, decoder, device)
    summary = ExtractionSummary([], [], [])
    with progress_bar() as bar:
        task = bar.add_task("videos", total=len(videos), note="")
        frames = bar.add_task("frames", total=None, note="")

        def on_frame(count: int, total: int) -> None:
            bar.update(frames, completed=count, total=total)

        for video_id, path in videos.items():
            bar.update(task, note=video_id)
            target = feature_path(out, video_id)
            status = "done"
            try:
                if not overwrite and _is_complete(target, path, plan):
                    status = "skipped"
                    summary.skipped.append(video_id)
                else:
                    _write(target, _extract(video_id, path, plan, on_frame))
                    summary.done.append(video_id)
            except (HrproError, OSError) as error:
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise  # no other video would fare better
                status = "failed"
                summary.failed.append(Failure(video_id, str(error)))
            bar.update(task, advance=1)
            if on_video is not None:
                on_video(video_id, status)
    return summary


def extract_each(
    videos: Mapping[str, Path],
    settings: ExtractSettings,
    *,
    weights: str = "kinetics",
    flow: str = "auto",
    decoder: str = "auto",
    device: str = "auto",
) -> Iterator[tuple[str, VideoFeatures | HrproError]]:
    """Features of videos one at a time, or what is wrong with each; nothing is written.

    Raises:
        HrproError: what concerns all videos, before the first one.
    """
    plan = _plan(settings, weights, flow, decoder, device)
    return ((video_id, _features_or_error(video_id, path, plan)) for video_id, path in videos.items())


def _plan(settings: ExtractSettings, weights: str, flow: str, decoder: str, device: str) -> _Plan:
    where = resolve_device(device)
    flow_backend = resolve_backend(flow)
    if decoder not in DECODERS:
        raise HrproError(f"decoder {decoder!r}; expected one of {', '.join(DECODERS)}")
    return _Plan(settings, load_backbones(settings, weights, where), flow_backend, decoder, where)


def _features_or_error(video_id: str, path: Path, plan: _Plan) -> VideoFeatures | HrproError:
    try:
        return _extract(video_id, path, plan)
    except HrproError as error:
        return error


def _extract(
    video_id: str, path: Path, plan: _Plan, on_frame: Callable[[int, int], None] | None = None
) -> VideoFeatures:
    try:
        return extract_video(
            path,
            plan.settings,
            plan.backbones,
            flow_backend=plan.flow_backend,
            device=plan.device,
            decoder=plan.decoder,
            video_id=video_id,
            batch=_BATCH.get(plan.device.type, 2),
            on_frame=on_frame,
        )
    except (ValueError, RuntimeError, OSError, MemoryError, cv2.error) as error:
        # A video of an unforeseen kind, or one too large for the device: the others go on.
        raise HrproError(f"{path.name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def _write(target: Path, features: VideoFeatures) -> None:
    header = features.header
    write_features(
        target,
        features.streams,
        clock=header.clock,
        video_id=header.video_id,
        duration_seconds=header.duration_seconds,
        num_frames=header.num_frames,
        source=header.source,
        settings=header.settings,
        weights=header.weights,
        record=header.record,
    )


def _is_complete(target: Path, video: Path, plan: _Plan) -> bool:
    """Whether a file holds this video's features, made with the same settings and weights."""
    if not target.is_file():
        return False
    try:
        header = read_header(target)
    except HrproError:
        return False  # damaged, or of another version: made again
    return (
        header.settings == stored_settings(plan.settings, plan.flow_backend)
        and header.weights == {stream: plan.backbones[stream].digest for stream in plan.settings.streams}
        and header.source.get("size") == video.stat().st_size
        and header.source.get("sha256") == sha256(video)
    )
