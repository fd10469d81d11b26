"""Features and points joined into a checked training set."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline.base import launch
from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.annotations import Point, VideoAnnotation, class_names
from hrpro_pipeline.data.features import (
    STREAMS,
    FeatureHeader,
    StoredFeatures,
    check_uniform,
    list_features,
    read_features,
    read_header,
)
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError, ProblemsError

# Classes that are named one by one.
_MOST_LISTED = 20
# More points past the end than these, and a quarter of all, are one mistake.
_MANY_LATE = 2
_MIXED_UP = "; a column 'time' is in seconds, a column 'point' has frame indices at the video's own rate"


@dataclass(frozen=True)
class TrainingVideo:
    """One training video.

    Attributes:
        features: float32 [T, D], or their file where all videos together do not fit into memory.
        positions: points on the snippet axis, float64 [K], ascending.
        labels: class of each point, int64 [K].
        snippets: index of the snippet that each point lies in, int64 [K].
    """

    video_id: str
    features: np.ndarray | StoredFeatures
    positions: np.ndarray
    labels: np.ndarray
    snippets: np.ndarray


@dataclass(frozen=True)
class TrainingSet:
    """Training videos with what they share; `extraction` and `weights` are those of the feature files."""

    videos: tuple[TrainingVideo, ...]
    classes: tuple[str, ...]
    clock: SnippetClock
    widths: dict[str, int]
    extraction: dict[str, Any]
    weights: dict[str, str]

    def __str__(self) -> str:
        """Such as: 10 points of 2 classes in 4 videos: pour 5, stir 5."""
        labels = np.concatenate([video.labels for video in self.videos])
        counts = np.bincount(labels, minlength=len(self.classes))
        listed = [f"{label} {count}" for label, count in zip(self.classes, counts, strict=True)]
        rest = [f"and {len(listed) - _MOST_LISTED} more"] if len(listed) > _MOST_LISTED else []
        parts = ", ".join(listed[:_MOST_LISTED] + rest)
        return f"{len(labels)} points of {len(listed)} classes in {len(self.videos)} videos: {parts}"


def hold_out(data: TrainingSet, video_ids: Sequence[str]) -> tuple[TrainingSet, tuple[TrainingVideo, ...]]:
    """Take videos out of a training set, to validate on their points -> the smaller set, and these videos.

    Raises:
        HrproError: a video is not in the set, nothing is left, or a class loses its last training point.
    """
    held = tuple(video for video in data.videos if video.video_id in set(video_ids))
    kept = tuple(video for video in data.videos if video.video_id not in set(video_ids))
    if missing := sorted(set(video_ids) - {video.video_id for video in held}):
        raise HrproError(f"--validate-on names {missing[0]}, which is not a training video with points")
    left = {int(label) for video in kept for label in video.labels}
    if lost := sorted({int(label) for video in held for label in video.labels} - left):
        raise HrproError(
            f"--validate-on takes all training videos of class {data.classes[lost[0]]!r}; leave one to train on"
        )
    return replace(data, videos=kept), held


def draw_validation(data: TrainingSet, share: float, seed: int) -> list[str]:
    """Ids of a random share of the videos (at least one), so that every class keeps a video to train on.

    Raises:
        HrproError: no video can be spared.
    """
    wanted = max(1, round(share * len(data.videos)))
    count = Counter(int(label) for video in data.videos for label in set(video.labels.tolist()))
    drawn: list[str] = []
    for index in np.random.default_rng([seed, 5]).permutation(len(data.videos)):
        video = data.videos[index]
        own = set(video.labels.tolist())
        if len(drawn) < wanted and all(count[label] > 1 for label in own):
            drawn.append(video.video_id)
            count.subtract(own)
    if not drawn:
        raise HrproError("no video can be held out for validation: each is the only one of a class; label more videos")
    return drawn


def load_training_set(
    features: Path,
    points: Sequence[Point],
    annotations: dict[str, VideoAnnotation],
    video_ids: Sequence[str] | None = None,
    streams: Sequence[str] = STREAMS,
    points_name: str = "points",
    on_disk: bool | None = None,
) -> TrainingSet:
    """Join features and points, and check one against the other.

    Args:
        features: FEATURES folder.
        points: labeled points; the videos that have points are the training videos, unless `video_ids` names them.
        annotations: may be empty; gives the frame rate of points in frames, durations and the class list.
            Its segments are not used.
        streams: the streams to use, of those that the features have.
        points_name: the points file, for errors.
        on_disk: check the features, but leave them in their files; by default where they are larger than half of
            this process's share of the machine's memory.

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
    annotated = class_names(annotations.values())
    classes = annotated or sorted({point.label for point in used})

    problems = _class_problems(used, annotated) if annotated else _spelling_problems(used)
    headers: dict[str, FeatureHeader] = {}
    for video_id in chosen:
        if not by_video[video_id]:
            problems.append(f"{video_id}: no points; a training video needs at least one")
        if video_id not in paths:
            near = difflib.get_close_matches(video_id, paths, n=1)
            hint = f"did you mean {near[0]!r}? Else " if near else ""
            if (stem := Path(video_id).stem) in paths:
                hint = f"leave the suffix out: {stem!r}. Else "
            problems.append(
                f"{video_id}: no features ({video_id}.h5) in {features}; "
                f"{hint}extract it, or leave it out with --videos"
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
    if on_disk is None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / launch.num_local_processes()
        on_disk = sum(_joined_bytes(header, streams) for header in headers.values()) > memory / 2
    videos = []
    late: list[str] = []
    with progress("reading features", len(headers), "videos", minor=True) as task:
        for video_id, header in headers.items():
            task.advance()
            seconds = _point_seconds(by_video[video_id], header, annotations.get(video_id), problems, late)
            if not set(streams) & set(header.widths):
                continue
            try:
                array = read_features(paths[video_id]).joined(streams)
            except HrproError as error:
                problems.append(str(error))
                continue
            if not problems and not late and seconds:
                kept = StoredFeatures(paths[video_id], tuple(streams), len(array)) if on_disk else array
                videos.append(_training_video(header, kept, by_video[video_id], seconds, classes))
    if len(late) > _MANY_LATE and len(late) > len(used) / 4:
        problems.append(f"{len(late)} of {len(used)} points are past the end of their videos: {late[0]}{_MIXED_UP}")
    else:
        problems += [f"{each}{_MIXED_UP}" for each in late]
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


def _joined_bytes(header: FeatureHeader, streams: Sequence[str]) -> int:
    return 4 * header.num_snippets * sum(width for name, width in header.widths.items() if name in streams)


def _training_video(
    header: FeatureHeader,
    features: np.ndarray | StoredFeatures,
    points: list[Point],
    seconds: list[float],
    classes: list[str],
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


def _spelling_problems(points: list[Point]) -> list[str]:
    """Classes that differ in case, spaces, underscores or hyphens alone."""
    first: dict[str, Point] = {}
    problems = {}
    for point in points:
        # A hyphen before a digit may be a sign.
        same = first.setdefault(re.sub(r"[\s_-]+(?=[^\W\d_])", " ", point.label).casefold(), point)
        if point.label != same.label:
            problems[point.label] = (
                f"line {point.line}: class {point.label!r}, but line {same.line} has {same.label!r}; "
                "spell a class one way"
            )
    return list(problems.values())


def _point_seconds(
    points: list[Point],
    header: FeatureHeader,
    annotation: VideoAnnotation | None,
    problems: list[str],
    late: list[str],
) -> list[float]:
    """Time of each point; what is wrong is added to `problems`, points past the end to `late`."""
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
            given = "" if point.frame is None else f"frame {point.frame:g} at {fps:g} fps, "
            limit = f"the end of {point.video_id} ({end - 0.1:.2f} s)"
            late.append(f"line {point.line}: {given}{time:.2f} s is past {limit}")
        times.append(time)
    return times
