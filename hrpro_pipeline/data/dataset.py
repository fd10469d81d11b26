"""Features and points joined into a checked training set."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline.data.annotations import Point, VideoAnnotation, class_names
from hrpro_pipeline.data.features import (
    STREAMS,
    FeatureHeader,
    check_uniform,
    list_features,
    read_features,
    read_header,
)
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError, ProblemsError


@dataclass(frozen=True)
class TrainingVideo:
    """One training video.

    Attributes:
        features: float32 [T, D].
        positions: points on the snippet axis, float64 [K], ascending.
        labels: class of each point, int64 [K].
        snippets: index of the snippet that each point lies in, int64 [K].
    """

    video_id: str
    features: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    snippets: np.ndarray

    def point_label(self, num_classes: int) -> np.ndarray:
        """float32 [T, C], 1 where a snippet holds a point of the class."""
        target = np.zeros((len(self.features), num_classes), np.float32)
        target[self.snippets, self.labels] = 1
        return target


@dataclass(frozen=True)
class TrainingSet:
    """Training videos with what they share; `extraction` and `weights` are those of the feature files."""

    videos: tuple[TrainingVideo, ...]
    classes: tuple[str, ...]
    clock: SnippetClock
    widths: dict[str, int]
    extraction: dict[str, Any]
    weights: dict[str, str]


def load_training_set(
    features: Path,
    points: Sequence[Point],
    annotations: dict[str, VideoAnnotation],
    video_ids: Sequence[str] | None = None,
    streams: Sequence[str] = STREAMS,
    points_name: str = "points",
) -> TrainingSet:
    """Join features and points, and check one against the other.

    Args:
        features: FEATURES folder.
        points: labelled points; the videos that have points are the training videos, unless `video_ids` names them.
        annotations: may be empty; gives the frame rate of points in frames, durations and the class list.
            Its segments are not used.
        streams: the streams to use, of those that the features have.
        points_name: the points file, for errors.

    Raises:
        ProblemsError: all of: unknown classes, points past the end of their video, points in frames whose frame rate
            is unknown, videos without features or points, features that are unusable or of different settings.
    """
    paths = list_features(features)
    chosen = list(video_ids) if video_ids is not None else sorted({point.video_id for point in points})
    by_video: dict[str, list[Point]] = {video_id: [] for video_id in chosen}
    for point in points:
        if point.video_id in by_video:
            by_video[point.video_id].append(point)
    used = [point for listed in by_video.values() for point in listed]
    classes = class_names(annotations.values()) or sorted({point.label for point in used})

    problems = _class_problems(used, classes)
    headers: dict[str, FeatureHeader] = {}
    for video_id in chosen:
        if not by_video[video_id]:
            problems.append(f"{video_id}: no points; a training video needs at least one")
        if video_id not in paths:
            problems.append(
                f"{video_id}: no features ({video_id}.h5) in {features}; extract it, or leave it out with --videos"
            )
            continue
        try:
            headers[video_id] = read_header(paths[video_id])
        except HrproError as error:
            problems.append(str(error))
    if headers:
        if not set(streams) & {name for header in headers.values() for name in header.widths}:
            problems.append(f"the features have no stream {' or '.join(streams)} (setting extract.streams)")
        try:
            check_uniform(((paths[video_id], header) for video_id, header in headers.items()), streams)
        except ProblemsError as error:
            problems += [f"{problem}; extract all the same way" for problem in error.problems]
    videos = []
    for video_id, header in headers.items():
        seconds = _point_seconds(by_video[video_id], header, annotations.get(video_id), problems)
        if not set(streams) & set(header.widths):
            continue
        try:
            array = read_features(paths[video_id]).joined(streams)
        except HrproError as error:
            problems.append(str(error))
            continue
        if not problems and seconds:
            videos.append(_training_video(header, array, by_video[video_id], seconds, classes))
    if problems:
        raise ProblemsError(points_name, problems)
    if not videos:
        raise HrproError(f"{points_name}: no training videos")
    first = headers[videos[0].video_id]
    return TrainingSet(
        videos=tuple(videos),
        classes=tuple(classes),
        clock=first.clock,
        widths={name: width for name, width in first.widths.items() if name in streams},
        extraction=first.settings,
        weights={name: digest for name, digest in first.weights.items() if name in streams},
    )


def _training_video(
    header: FeatureHeader, features: np.ndarray, points: list[Point], seconds: list[float], classes: list[str]
) -> TrainingVideo:
    labels = np.array([classes.index(point.label) for point in points], np.int64)
    # Stable, so that points of the same time keep the order of the file.
    order = np.argsort(seconds, kind="stable")
    times = np.asarray(seconds, np.float64)[order]
    return TrainingVideo(
        video_id=header.video_id,
        features=features,
        positions=header.clock.to_positions(times),
        labels=labels[order],
        snippets=header.clock.index_at(times, len(features)),
    )


def _class_problems(points: list[Point], classes: list[str]) -> list[str]:
    known = set(classes)
    problems = []
    for point in points:
        if point.label not in known:
            near = difflib.get_close_matches(point.label, classes, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the annotations have {', '.join(classes)}"
            problems.append(f"line {point.line}: unknown class {point.label!r}; {hint}")
    return problems


def _point_seconds(
    points: list[Point], header: FeatureHeader, annotation: VideoAnnotation | None, problems: list[str]
) -> list[float]:
    """Time of each point; what is wrong is added to `problems`."""
    fps = (annotation and annotation.fps) or header.source.get("fps")
    # A point may lie in the tail that the snippets drop, and a stated duration may be rounded.
    end = max((annotation and annotation.duration_seconds) or 0.0, header.duration_seconds) + 0.1
    times = []
    for point in points:
        if point.seconds is not None:
            time = point.seconds
        elif fps:
            assert point.frame is not None
            time = point.frame / fps
        else:
            problems.append(
                f"line {point.line}: point is a frame of {point.video_id}, whose frame rate is unknown; "
                "give 'fps' in the annotations or a column 'time' in seconds"
            )
            continue
        if time > end:
            problems.append(f"line {point.line}: {time:.2f} s is past the end of {point.video_id} ({end - 0.1:.2f} s)")
        times.append(time)
    return times
