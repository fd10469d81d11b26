"""Data of the report's page as one object for JSON. No files; the key names are those of page/*.js."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.detections import Curves, VideoDetections
from hrpro_pipeline.data.failures import Failure
from hrpro_pipeline.data.points import Point
from hrpro_pipeline.data.suggestions import Suggestion
from hrpro_pipeline.infer.diagnosis import KINDS, Diagnosis
from hrpro_pipeline.infer.evaluation import Evaluation
from hrpro_pipeline.show.colors import class_colors
from hrpro_pipeline.show.report_summary import summary
from hrpro_pipeline.show.thumbnails import FilmStrip

# Detections a video, on average, when the page opens (or two for each true segment): soft-NMS keeps hundreds of weak
# ones, which would hide the others.
_INITIAL_DETECTIONS = 10


@dataclass(frozen=True)
class ReportContent:
    """The inputs of a report.

    Attributes:
        detections: by video, in the order of the page.
        truth: ground truth by video; videos without detections do not appear.
        points: labeled points; those given as frames appear where `truth` knows the video's frame rate.
        doubts: labels worth a second look, best first.
        failures: videos that could not be detected in, or not be drawn.
        evaluation, diagnosis: scores and errors for the summary.
        videos: video files by video id; None without a folder of videos.
    """

    detections: Mapping[str, VideoDetections]
    truth: Mapping[str, VideoAnnotation] = field(default_factory=dict)
    points: Sequence[Point] = ()
    doubts: Sequence[Suggestion] = ()
    failures: Sequence[Failure] = ()
    evaluation: Evaluation | None = None
    diagnosis: Diagnosis | None = None
    videos: Mapping[str, Path] | None = None


@dataclass(frozen=True)
class Media:
    """A video file beside the page.

    Attributes:
        name: of the file.
        url: relative to the page, percent-encoded.
        film: frames of it, or None if it cannot be decoded.
        problem: why not.
    """

    name: str
    url: str
    film: FilmStrip | None
    problem: str = ""


@dataclass(frozen=True)
class _PageVideo:
    """A video with its best detections alone, and the kind of each of these, best first."""

    video: VideoDetections
    kinds: tuple[int | None, ...]


def report_data(
    content: ReportContent, media: Mapping[str, Media] | None, min_score: float, top: int
) -> dict[str, Any]:
    """Everything on the page: classes, videos with all that is drawn of them, and the summary.

    Args:
        media: by video; None without a folder of videos.
        min_score, top: only detections with at least this score are on the page, at most so many a video, the best.
    """
    page_videos = {
        video_id: _page_video(video, content.diagnosis, min_score, top)
        for video_id, video in content.detections.items()
    }
    number = _class_numbers(page_videos, content)
    colors = class_colors((label for page in page_videos.values() for label in page.video.classes), number)
    points: dict[str, list[Point]] = {video_id: [] for video_id in page_videos}
    for point in content.points:
        points.get(point.video_id, []).append(point)
    num_segments = sum(len(content.truth[video_id].segments) for video_id in page_videos if video_id in content.truth)
    return {
        "classes": [{"label": label, "color": colors[label]} for label in number],
        "kinds": KINDS,
        "scores": _scores(page_videos, max(_INITIAL_DETECTIONS * len(page_videos), 2 * num_segments)),
        "hasMedia": media is not None,
        "videos": [
            _video(page, content.truth.get(video_id), points[video_id], number, (media or {}).get(video_id))
            for video_id, page in page_videos.items()
        ],
        "summary": summary(content.detections, content.evaluation, content.diagnosis, number),
    }


def _page_video(video: VideoDetections, diagnosis: Diagnosis | None, min_score: float, top: int) -> _PageVideo:
    """The `top` best detections of a video that reach `min_score`, and their kinds."""
    known_kinds = diagnosis.kinds.get(video.video_id) if diagnosis else None
    kinds: Sequence[int | None] = known_kinds or [None] * len(video.detections)
    pairs = [pair for pair in zip(video.detections, kinds, strict=True) if pair[0].score >= min_score]
    best = sorted(pairs, key=lambda pair: pair[0].score, reverse=True)[:top]
    return _PageVideo(replace(video, detections=tuple(item for item, _ in best)), tuple(kind for _, kind in best))


def _class_numbers(page_videos: Mapping[str, _PageVideo], content: ReportContent) -> dict[str, int]:
    """A number for each class that the page names, in alphabetical order."""
    labels = {point.label for point in content.points if point.video_id in page_videos}
    for video_id, page in page_videos.items():
        labels |= {item.label for item in page.video.detections}
        labels |= set(page.video.curves.classes) if page.video.curves else set()
        labels |= {item.label for item in content.truth[video_id].segments} if video_id in content.truth else set()
    for compared in (content.evaluation, content.diagnosis):
        labels |= set(compared.classes) if compared else set()
    return {label: index for index, label in enumerate(sorted(labels))}


def _scores(page_videos: Mapping[str, _PageVideo], num_initial: int) -> dict[str, float]:
    """Ends of the score slider, the best score, and where the slider starts: with so many detections of all videos."""
    scores = [item.score for page in page_videos.values() for item in page.video.detections]
    lowest = math.floor(min([0, *scores]))
    initial: float = lowest
    if len(scores) > num_initial:
        initial = math.floor(100 * sorted(scores, reverse=True)[num_initial - 1]) / 100
    return {
        "lowest": lowest,
        "highest": math.ceil(max([1, *scores])),
        "best": max((score for score in scores if score > 0), default=1.0),
        "initial": initial,
    }


def _video(
    page: _PageVideo,
    truth: VideoAnnotation | None,
    points: Sequence[Point],
    number: Mapping[str, int],
    media: Media | None,
) -> dict[str, Any]:
    """One video: classes by number, times in seconds."""
    video = page.video
    duration = video.duration_seconds or (truth and truth.duration_seconds) or 0.0
    segments: list[list[Any]] = [
        [number[segment.label], _rounded(segment.start_seconds), _rounded(segment.end_seconds)]
        for segment in (truth.segments if truth else ())
    ]
    marks = _point_marks(points, truth, number)
    detections: list[list[Any]] = [
        [number[item.label], *_inside(item.start_seconds, item.end_seconds, duration), round(item.score, 4), kind]
        for item, kind in zip(video.detections, page.kinds, strict=True)
    ]
    labels = [item[0] for item in (*sorted(segments), *sorted(marks), *detections)]
    spans = [*(item[1:3] for item in (*segments, *detections)), *([seconds, seconds] for _, seconds in marks)]
    return {
        "id": video.video_id,
        "about": " · ".join(filter(None, (video.source, video.model))),
        "partial": video.partial_reason or "",
        "range": _range(_rounded(duration), spans),
        "rows": list(dict.fromkeys(labels)),
        "truth": segments,
        "points": marks,
        "detections": detections,
        "curves": video.curves and _curves(video.curves, number),
        "media": media and _media(media),
    }


def _point_marks(points: Sequence[Point], truth: VideoAnnotation | None, number: Mapping[str, int]) -> list[list[Any]]:
    """Class and seconds of each point; without frames of a video whose rate is not known."""
    times = [(number[point.label], _point_seconds(point, truth)) for point in points]
    return [[label, _rounded(seconds)] for label, seconds in times if seconds is not None]


def _inside(start: float, end: float, duration: float) -> tuple[float, float]:
    """Bounds cut to the video, because refined ones reach a little past it; a span beyond the video stays."""
    if end > 0:
        start = max(start, 0.0)
    if start < duration:
        end = min(end, duration)
    return _rounded(start), _rounded(end)


def _range(duration: float, spans: Sequence[Sequence[Any]]) -> list[float]:
    """The seconds to show: the video and all spans beyond its ends."""
    low = min([0.0, *(start for start, end in spans if end < 0)])
    high = max([duration, *(end for start, end in spans if start >= duration)])
    return [low, high if high > low else low + 1]


def _rounded(seconds: float) -> float:
    """To milliseconds."""
    return round(seconds, 3)


def _point_seconds(point: Point, truth: VideoAnnotation | None) -> float | None:
    """Time of a point, or None for a frame of a video whose rate is not known."""
    if point.frame is None:
        return point.seconds
    return point.frame / truth.fps if truth and truth.fps else None


def _curves(curves: Curves, number: Mapping[str, int]) -> dict[str, Any]:
    return {
        "start": curves.start_seconds,
        "step": curves.seconds_per_point,
        "classes": [number[label] for label in curves.classes],
        "scores": curves.scores,
        "attention": curves.attention,
    }


def _media(media: Media) -> dict[str, Any]:
    film = media.film
    strip = film and {
        "times": film.seconds,
        "width": film.width,
        "height": film.height,
        "columns": film.columns,
        "jpeg": base64.b64encode(film.jpeg).decode("ascii"),
    }
    return {
        "name": media.name,
        "url": media.url,
        "codec": film.codec if film else "",
        "film": strip,
        "problem": media.problem,
    }
