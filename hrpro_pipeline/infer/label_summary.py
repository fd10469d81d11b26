"""Labels in numbers: counts, durations, rates, shares of time, latencies and transitions, by class and video."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from hrpro_pipeline.data.formats.label import Label
from hrpro_pipeline.data.labels import by_video


@dataclass(frozen=True)
class ClassSummary:
    """A class in one video, or in all of them.

    Attributes:
        video_id: the video; None for all.
        count: labels, points and segments.
        num_points: of them, those without a length.
        total_seconds: sum of the segments' lengths.
        mean_seconds: mean length of a segment; None without segments.
        per_minute: labels a minute; None where the video has no length.
        share: part of the time that segments of the class cover, from 0 to 1; overlaps count once.
        latency_seconds: from the start of the video to its first label; the mean of the videos that have one.
    """

    video_id: str | None
    label: str
    count: int
    num_points: int
    total_seconds: float
    mean_seconds: float | None
    per_minute: float | None
    share: float | None
    latency_seconds: float


@dataclass(frozen=True)
class LabelSummary:
    """All classes of some labels.

    Attributes:
        video_seconds: the length of each video: as its file says, or else up to its last label.
        num_stated: videos whose file says their length.
        classes: each class in all videos, then in each.
        transitions: how often a label of the second class is the next one after one of the first, by video.
    """

    video_seconds: dict[str, float]
    num_stated: int
    classes: tuple[ClassSummary, ...]
    transitions: dict[tuple[str, str, str], int]


def summarize(labels: Sequence[Label], durations: Mapping[str, float]) -> LabelSummary:
    """Numbers of labels, given the lengths in seconds of the videos whose length is known.

    Examples:
        >>> from hrpro_pipeline.data.formats.label import Label
        >>> labels = [Label("a", "pour", 1.0, 3.0), Label("a", "pour", 2.0, 4.0), Label("a", "stir", 5.0, None)]
        >>> summary = summarize(labels, {"a": 12.0})
        >>> pour = summary.classes[0]
        >>> pour.count, pour.total_seconds, pour.per_minute, pour.share, pour.latency_seconds
        (2, 4.0, 10.0, 0.25, 1.0)
        >>> summary.transitions
        {('a', 'pour', 'pour'): 1, ('a', 'pour', 'stir'): 1}
    """
    videos = by_video(sorted(labels, key=lambda label: (label.video_id, label.start_seconds, label.last_seconds)))
    video_seconds = {
        video_id: max(durations.get(video_id, 0.0), max(label.last_seconds for label in items))
        for video_id, items in videos.items()
    }
    transitions: Counter[tuple[str, str, str]] = Counter()
    for video_id, items in videos.items():
        for first, second in zip(items, items[1:], strict=False):
            transitions[video_id, first.label, second.label] += 1
    classes = [
        _summary(None, name, [label for label in labels if label.label == name], video_seconds)
        for name in sorted({label.label for label in labels})
    ]
    for video_id, items in videos.items():
        of_class: dict[str, list[Label]] = {}
        for label in items:
            of_class.setdefault(label.label, []).append(label)
        length = {video_id: video_seconds[video_id]}
        classes += [_summary(video_id, name, of_class[name], length) for name in sorted(of_class)]
    num_stated = len(videos.keys() & durations.keys())
    return LabelSummary(video_seconds, num_stated, tuple(classes), dict(transitions))


def _summary(video_id: str | None, name: str, labels: Sequence[Label], lengths: Mapping[str, float]) -> ClassSummary:
    segments = [label.last_seconds - label.start_seconds for label in labels if not label.is_point]
    of_videos = by_video(labels).values()
    seconds = sum(lengths.values())
    return ClassSummary(
        video_id,
        name,
        len(labels),
        len(labels) - len(segments),
        sum(segments),
        fmean(segments) if segments else None,
        60 * len(labels) / seconds if seconds else None,
        sum(map(covered_seconds, of_videos)) / seconds if seconds else None,
        fmean(min(label.start_seconds for label in items) for items in of_videos),
    )


def covered_seconds(labels: Iterable[Label]) -> float:
    """The time that segments of one video cover together."""
    total, reached = 0.0, 0.0
    for start, end in sorted((label.start_seconds, label.last_seconds) for label in labels):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total
