"""Features and points joined into a checked training set."""

import difflib
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline.base import launch
from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.annotations import VideoAnnotation, class_names
from hrpro_pipeline.data.features import (
    FeatureHeader,
    StoredFeatures,
    list_features,
    ordered_streams,
    read_features,
    read_header,
)
from hrpro_pipeline.data.frame_times import contradict, seconds_at, warn_of_rates
from hrpro_pipeline.data.points import BACKGROUND, Point, action_points
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.data.uniform import check_uniform
from hrpro_pipeline.errors import HrproError, ProblemsError

log = logging.getLogger(__name__)

# Classes that are named one by one.
_MOST_LISTED = 20
# More points past the end than these, and a quarter of all, are one mistake.
_MANY_LATE = 2
# A point may lie in the tail that the snippets drop, and a stated duration may be rounded.
_END_TOLERANCE_SECONDS = 0.1
_MIXED_UP = "; a column 'time' is in seconds, a column 'point' has frame indices at the video's own rate, from 0"


@dataclass(frozen=True)
class TrainingVideo:
    """One training video.

    Attributes:
        features: float32 [T, D], or their file where all videos together do not fit into memory.
        positions: points on the snippet axis, float64 [K], ascending.
        labels: class of each point, int64 [K].
        snippets: index of the snippet that each point lies in, int64 [K].
        clock: of its features.
        background: moments without an action on the snippet axis, float64 [B], ascending.
    """

    video_id: str
    features: np.ndarray | StoredFeatures
    positions: np.ndarray
    labels: np.ndarray
    snippets: np.ndarray
    clock: SnippetClock = SnippetClock()
    background: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class TrainingSet:
    """Training videos with what they share; `extraction` and `weights` are those of the feature files.

    Attributes:
        clock: of all videos, or of the first one where `own_clocks`: each video has its own.
    """

    videos: tuple[TrainingVideo, ...]
    classes: tuple[str, ...]
    clock: SnippetClock
    widths: dict[str, int]
    extraction: dict[str, Any]
    weights: dict[str, str]
    own_clocks: bool = False

    @property
    def num_points(self) -> int:
        """Labeled actions of all videos."""
        return sum(len(video.labels) for video in self.videos)

    def __str__(self) -> str:
        """Such as: 10 points of 2 classes in 4 videos: pour 5, stir 5."""
        labels = np.concatenate([video.labels for video in self.videos])
        counts = np.bincount(labels, minlength=len(self.classes))
        parts = [f"{label} {count}" for label, count in zip(self.classes, counts[:_MOST_LISTED], strict=False)]
        if len(self.classes) > _MOST_LISTED:
            parts.append(f"and {len(self.classes) - _MOST_LISTED} more")
        return f"{len(labels)} points of {len(self.classes)} classes in {len(self.videos)} videos: {', '.join(parts)}"


def hold_out(data: TrainingSet, video_ids: Sequence[str]) -> tuple[TrainingSet, tuple[TrainingVideo, ...]]:
    """Take videos out of a training set, to validate on their points -> the smaller set, and these videos.

    Raises:
        HrproError: a video is not in the set, or a class loses its last training point.
    """
    selected_ids = set(video_ids)
    validation = tuple(video for video in data.videos if video.video_id in selected_ids)
    remaining = tuple(video for video in data.videos if video.video_id not in selected_ids)
    if missing := sorted(selected_ids - {video.video_id for video in validation}):
        raise HrproError(f"`validate_on` names {missing[0]}, which is not a training video with points")
    if lost := sorted(_labels(validation) - _labels(remaining)):
        raise HrproError(
            f"`validate_on` takes all training videos of class {data.classes[lost[0]]!r}; leave one to train on"
        )
    return replace(data, videos=remaining), validation


def _labels(videos: Iterable[TrainingVideo]) -> set[int]:
    return {int(label) for video in videos for label in video.labels}


def draw_validation(data: TrainingSet, share: float, seed: int) -> list[str]:
    """Ids of a random share of the videos (at least one), so that every class keeps a video to train on.

    Raises:
        HrproError: no video can be spared.
    """
    num_videos = max(1, round(share * len(data.videos)))
    remaining = Counter(label for video in data.videos for label in _labels([video]))
    drawn: list[str] = []
    for index in np.random.default_rng([seed, 5]).permutation(len(data.videos)):
        video = data.videos[index]
        labels = _labels([video])
        if labels and len(drawn) < num_videos and all(remaining[label] > 1 for label in labels):
            drawn.append(video.video_id)
            remaining.subtract(labels)
    if not drawn:
        raise HrproError("no video can be held out for validation: each is the only one of a class; label more videos")
    return drawn


def load_training_set(
    features: Path,
    points: Sequence[Point],
    annotations: dict[str, VideoAnnotation],
    video_ids: Sequence[str] | None = None,
    streams: Sequence[str] | None = None,
    points_name: str = "points",
    on_disk: bool | None = None,
) -> TrainingSet:
    """Join features and points, and check one against the other.

    Args:
        features: FEATURES folder.
        points: labeled points; the videos that have points are the training videos, unless `video_ids` names them.
            Points of class `(background)` say where no action is; a video needs another point beside them.
        annotations: may be empty; gives the frame rate of points in frames, durations and the class list.
            Its segments are not used.
        streams: the streams to use, of those that the features have; by default all.
        points_name: the points file, for errors.
        on_disk: check the features, but leave them in their files; by default where they are larger than half of
            this process's share of the machine's memory.

    Raises:
        ProblemsError: all of: unknown classes, points past the end of their video, points in frames whose frame rate
            is unknown, videos without features or points, features that are unusable or of different settings.
    """
    points_by_video = _points_by_video(points, video_ids)
    training_points = action_points(chain.from_iterable(points_by_video.values()))
    annotated_classes = class_names(annotations.values())

    sources, source_problems = _find_sources(features, points_by_video, annotations)
    if on_disk is None:
        on_disk = _exceed_memory(sources, streams)
    _warn_of_rates(sources, annotations, points_name)
    arrays, array_problems = _read_arrays(sources, streams, on_disk)

    problems = [
        *_class_problems(training_points, annotated_classes),
        *source_problems,
        *_stream_problems(sources, streams),
        *array_problems,
        *_late_problems(sources, len(training_points)),
    ]
    if problems:
        raise ProblemsError(points_name, problems)
    if not sources:
        raise HrproError(f"{points_name}: no training videos")

    classes = annotated_classes or sorted({point.label for point in training_points})
    first = sources[0].header
    return TrainingSet(
        videos=tuple(_training_video(source, array, classes) for source, array in zip(sources, arrays, strict=True)),
        classes=tuple(classes),
        clock=first.clock,
        widths={name: width for name, width in first.widths.items() if streams is None or name in streams},
        extraction=first.settings,
        weights={name: digest for name, digest in first.weights.items() if streams is None or name in streams},
        own_clocks=any(source.header.has_own_clock or source.header.clock != first.clock for source in sources),
    )


@dataclass(frozen=True)
class _PointTimes:
    """Times of a video's points, and what is wrong with them, a line each.

    Attributes:
        seconds: of the points whose frame rate is known, in order.
        problems: the points whose frame rate is unknown.
        late: the points past the end of the video.
    """

    seconds: list[float]
    problems: list[str]
    late: list[str]


@dataclass(frozen=True)
class _Source:
    """A training video before its features are read: their file and its header, the points and their times."""

    path: Path
    header: FeatureHeader
    points: list[Point]
    times: _PointTimes


def _points_by_video(points: Sequence[Point], video_ids: Sequence[str] | None) -> dict[str, list[Point]]:
    """Points of the training videos: of `video_ids`, or of all videos that have points, in order of id."""
    if video_ids is None:
        video_ids = sorted({point.video_id for point in action_points(points)})
    points_by_video: dict[str, list[Point]] = {video_id: [] for video_id in video_ids}
    for point in points:
        if point.video_id in points_by_video:
            points_by_video[point.video_id].append(point)
    return points_by_video


def _class_problems(points: Sequence[Point], annotated_classes: Sequence[str]) -> list[str]:
    """Classes that are not annotated; without annotations, those that are spelled in two ways."""
    if not annotated_classes:
        return _spelling_problems(points)
    known = set(annotated_classes)
    problems = []
    for point in points:
        if point.label not in known:
            near = difflib.get_close_matches(point.label, annotated_classes, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the annotations have {', '.join(annotated_classes)}"
            problems.append(f"line {point.line}: unknown class {point.label!r}; {hint}")
    return problems


def _spelling_problems(points: Sequence[Point]) -> list[str]:
    """Classes that differ only in case, spaces, underscores or hyphens."""
    first_by_spelling: dict[str, Point] = {}
    problem_by_label: dict[str, str] = {}
    for point in points:
        # A hyphen before a digit may be a sign.
        spelling = re.sub(r"[\s_-]+(?=[^\W\d_])", " ", point.label).casefold()
        first = first_by_spelling.setdefault(spelling, point)
        if point.label != first.label:
            problem_by_label[point.label] = (
                f"line {point.line}: class {point.label!r}, but line {first.line} has {first.label!r}; "
                "spell a class one way"
            )
    return list(problem_by_label.values())


def _find_sources(
    features: Path, points_by_video: Mapping[str, list[Point]], annotations: Mapping[str, VideoAnnotation]
) -> tuple[list[_Source], list[str]]:
    """The training videos with features; problems of videos without points or usable features."""
    paths = list_features(features)
    sources: list[_Source] = []
    problems = []
    for video_id, points in points_by_video.items():
        if not action_points(points):
            problems.append(f"{video_id}: no points; a training video needs at least one")
        if video_id not in paths:
            hint = _hint_for_missing(video_id, paths)
            problems.append(
                f"{video_id}: no features ({video_id}.h5) in {features}; "
                f"{hint}extract it, or leave it out with `videos`"
            )
            continue
        try:
            header = read_header(paths[video_id])
        except HrproError as error:
            problems.append(str(error))
            continue
        times = _point_times(points, header, annotations.get(video_id))
        sources.append(_Source(paths[video_id], header, points, times))
    return sources, problems


def _hint_for_missing(video_id: str, paths: Mapping[str, Path]) -> str:
    """A likely id for a video without features; empty for none."""
    near = difflib.get_close_matches(video_id, paths, n=1)
    return f"did you mean {near[0]!r}? Else " if near else ""


def _point_times(points: Sequence[Point], header: FeatureHeader, annotation: VideoAnnotation | None) -> _PointTimes:
    fps = _frame_rate(header, annotation)
    first_frame = float(header.source.get("first_frame", 0))
    duration = max((annotation and annotation.duration_seconds) or 0.0, header.duration_seconds)
    times, problems, late = [], [], []
    for point in points:
        if point.seconds is not None:
            seconds, given = point.seconds, ""
        elif steps := header.source.get("frame_steps"):  # no constant rate: neither the average nor another tells
            assert point.frame is not None
            seconds, given = first_frame + seconds_at(steps, point.frame), f"frame {point.frame:g} at a variable rate, "
        elif fps:
            assert point.frame is not None
            seconds, given = first_frame + point.frame / fps, f"frame {point.frame:g} at {fps:g} fps, "
        else:
            problems.append(
                f"line {point.line}: point is a frame of {point.video_id}, whose frame rate is unknown; "
                "give 'fps' in the annotations or a column 'time' in seconds"
            )
            continue
        times.append(seconds)
        if seconds > duration + _END_TOLERANCE_SECONDS:
            limit = f"the end of {point.video_id} ({duration:.2f} s)"
            late.append(f"line {point.line}: {given}{seconds:.2f} s is past {limit}")
        elif point.frame is not None and point.frame >= header.record.get("frames_in_container", math.inf):
            count = header.record["frames_in_container"]
            limit = f"the frames 0 to {count - 1} of {point.video_id}"
            late.append(f"line {point.line}: frame {point.frame:g} is none of {limit}")
    return _PointTimes(times, problems, late)


def _frame_rate(header: FeatureHeader, annotation: VideoAnnotation | None) -> float | None:
    """Frames a second that points in frames count: as annotated, unless the video itself has another rate."""
    annotated, own = annotation and annotation.fps, header.source.get("fps")
    return own if own and annotated and contradict(annotated, own) else annotated or own


def _warn_of_rates(sources: Sequence[_Source], annotations: Mapping[str, VideoAnnotation], name: str) -> None:
    """One line on the videos whose points are in frames, and whose annotated rate is not their own."""
    wrong: dict[str, tuple[float, float]] = {}
    for source in sources:
        video_id, own = source.header.video_id, source.header.source.get("fps")
        annotated = annotations[video_id].fps if video_id in annotations else None
        in_frames = any(point.frame is not None for point in source.points)
        if in_frames and own and annotated and contradict(annotated, own):
            wrong[video_id] = (annotated, own)
    warn_of_rates(name, wrong)


def _exceed_memory(sources: Sequence[_Source], streams: Sequence[str] | None) -> bool:
    """Whether joined features take more than half of this process's share of the machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / launch.num_local_processes()
    return sum(_joined_bytes(source.header, streams) for source in sources) > memory / 2


def _joined_bytes(header: FeatureHeader, streams: Sequence[str] | None) -> int:
    used = header.widths.keys() if streams is None else header.widths.keys() & streams
    return 4 * header.num_snippets * sum(header.widths[name] for name in used)


def _read_arrays(
    sources: Sequence[_Source], streams: Sequence[str] | None, on_disk: bool
) -> tuple[list[np.ndarray | StoredFeatures], list[str]]:
    """Joined features [T, D] of each video, checked, or references to their files for `on_disk`.

    The problems are those of a video's points and features, video by video; where there are some, arrays are missing.
    """
    arrays: list[np.ndarray | StoredFeatures] = []
    problems = []
    with progress("reading features", len(sources), "videos", minor=True) as task:
        for source in sources:
            task.advance()
            problems += source.times.problems
            used = tuple(name for name in source.header.widths if streams is None or name in streams)
            if not used:
                continue
            try:
                array = read_features(source.path).joined(used)
            except HrproError as error:
                problems.append(str(error))
            else:
                arrays.append(StoredFeatures(source.path, used, len(array)) if on_disk else array)
    return arrays, problems


def _stream_problems(sources: Sequence[_Source], streams: Sequence[str] | None) -> list[str]:
    """Streams that no file has, and files that were not made alike."""
    problems = []
    there = {name for source in sources for name in source.header.widths}
    if sources and streams is not None and not there & set(streams):
        names = ", ".join(ordered_streams(there))
        problems.append(f"the features have no stream {' or '.join(streams)} (setting extract.streams), but {names}")
    try:
        check_uniform(((source.path, source.header) for source in sources), streams)
    except ProblemsError as error:
        problems += [f"{problem}; extract all the same way" for problem in error.problems]
    return problems


def _late_problems(sources: Sequence[_Source], num_points: int) -> list[str]:
    """Points past the end of their videos: one by one, or as one mistake where they are many."""
    late = [problem for source in sources for problem in source.times.late]
    if len(late) > _MANY_LATE and len(late) > num_points / 4:
        return [f"{len(late)} of {num_points} points are past the end of their videos: {late[0]}{_MIXED_UP}"]
    return [f"{problem}{_MIXED_UP}" for problem in late]


def _training_video(source: _Source, features: np.ndarray | StoredFeatures, classes: Sequence[str]) -> TrainingVideo:
    clock = source.header.clock
    all_seconds = np.asarray(source.times.seconds, np.float64)
    is_action = np.array([point.label != BACKGROUND for point in source.points])
    labels = np.array([classes.index(point.label) for point in action_points(source.points)], np.int64)
    # Stable, so that points of the same time keep the order of the file.
    order = np.argsort(all_seconds[is_action], kind="stable")
    seconds = all_seconds[is_action][order]
    return TrainingVideo(
        video_id=source.header.video_id,
        features=features,
        positions=clock.to_positions(seconds),
        labels=labels[order],
        snippets=clock.index_at(seconds, len(features)),
        clock=clock,
        background=clock.to_positions(np.sort(all_seconds[~is_action])),
    )
