"""What the report's scripts draw, as one object for JSON. No files; the key names are those of page/*.js."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.detections import Curves, VideoDetections
from hrpro_pipeline.data.points import Point
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.diagnosis import KINDS, RIGHT, Diagnosis
from hrpro_pipeline.infer.evaluation import Evaluation
from hrpro_pipeline.show.colors import class_colors
from hrpro_pipeline.show.thumbnails import FilmStrip

# Detections a video, on average, when the page opens (or two for each true segment): soft-NMS keeps hundreds of weak
# ones, which would hide the others.
_SHOWN_AT_FIRST = 10
_BINS = 24
# Points of a precision-recall curve.
_CURVE_POINTS = 200


@dataclass(frozen=True)
class Media:
    """A video file beside the page.

    Attributes:
        name: of the file.
        url: relative to the page, percent-encoded.
        film: frames of it, or None where it cannot be decoded.
        problem: why not.
    """

    name: str
    url: str
    film: FilmStrip | None
    problem: str = ""


def report_data(
    detections: Mapping[str, VideoDetections],
    *,
    truth: Mapping[str, VideoAnnotation],
    points: Sequence[Point],
    evaluation: Evaluation | None,
    diagnosis: Diagnosis | None,
    media: Mapping[str, Media] | None,
    min_score: float,
    top: int,
) -> dict[str, Any]:
    """Everything on the page: classes, videos with what is drawn of them, and the summary.

    Args:
        media: by video; None where no folder of videos was given.
        min_score, top: only detections with at least this score are shown, at most so many a video, the best ones.

    Raises:
        HrproError: a detection whose score or times are not finite numbers; names the video.
    """
    shown = {key: _best(video, diagnosis, min_score, top) for key, video in detections.items()}
    number = _numbers(shown, truth, points, evaluation, diagnosis)
    colors = class_colors((label for video, _ in shown.values() for label in video.classes), number)
    by_video: dict[str, list[Point]] = {key: [] for key in shown}
    for point in points:
        by_video.get(point.video_id, []).append(point)
    scores = [item.score for video, _ in shown.values() for item in video.detections]
    num_segments = sum(len(truth[key].segments) for key in shown if key in truth)
    return {
        "classes": [{"label": label, "color": colors[label]} for label in number],
        "kinds": KINDS,
        "scores": {
            "lowest": math.floor(min([0, *scores])),
            "highest": math.ceil(max([1, *scores])),
            "best": max((score for score in scores if score > 0), default=1.0),
            "initial": _initial_score(scores, max(_SHOWN_AT_FIRST * len(shown), 2 * num_segments)),
        },
        "hasMedia": media is not None,
        "videos": [
            _video(video, kinds, truth.get(key), by_video[key], number, (media or {}).get(key))
            for key, (video, kinds) in shown.items()
        ],
        "summary": {
            "evaluation": evaluation and _evaluation(evaluation, number),
            "diagnosis": diagnosis and _diagnosis(diagnosis, number),
            "histograms": _histograms(detections, diagnosis),
        },
    }


def _best(
    video: VideoDetections, diagnosis: Diagnosis | None, min_score: float, top: int
) -> tuple[VideoDetections, list[int | None]]:
    """The `top` best detections of a video that reach `min_score`, best first, and their kinds."""
    for item in video.detections:
        if not all(map(math.isfinite, (item.score, item.start_seconds, item.end_seconds))):
            raise HrproError(f"{video.video_id}: {item} is not finite; expected numbers for score, start and end")
    known = diagnosis.kinds.get(video.video_id) if diagnosis else None
    kinds: Sequence[int | None] = known or [None] * len(video.detections)
    enough = [pair for pair in zip(video.detections, kinds, strict=True) if pair[0].score >= min_score]
    best = sorted(enough, key=lambda pair: pair[0].score, reverse=True)[:top]
    return replace(video, detections=tuple(item for item, _ in best)), [kind for _, kind in best]


def _numbers(
    shown: Mapping[str, tuple[VideoDetections, Any]],
    truth: Mapping[str, VideoAnnotation],
    points: Sequence[Point],
    evaluation: Evaluation | None,
    diagnosis: Diagnosis | None,
) -> dict[str, int]:
    """A number for each class that the page names, in alphabetical order."""
    labels = {item.label for video, _ in shown.values() for item in video.detections}
    labels |= {label for video, _ in shown.values() if video.curves for label in video.curves.classes}
    labels |= {item.label for key in shown if key in truth for item in truth[key].segments}
    labels |= {point.label for point in points if point.video_id in shown}
    labels |= set(evaluation.classes if evaluation else ()) | set(diagnosis.classes if diagnosis else ())
    return {label: index for index, label in enumerate(sorted(labels))}


def _initial_score(scores: Sequence[float], count: int) -> float:
    """Where the slider starts: with the best `count` detections of all."""
    if len(scores) <= count:
        return math.floor(min([0, *scores]))
    return math.floor(100 * sorted(scores, reverse=True)[count - 1]) / 100


def _video(
    video: VideoDetections,
    kinds: Sequence[int | None],
    truth: VideoAnnotation | None,
    points: Sequence[Point],
    number: Mapping[str, int],
    media: Media | None,
) -> dict[str, Any]:
    """One video: classes by number, times in seconds."""
    known = truth.segments if truth else ()
    segments: list[list[Any]] = [[number[item.label], _ms(item.start_seconds), _ms(item.end_seconds)] for item in known]
    timed = [(number[point.label], _seconds(point, truth)) for point in points]
    marks: list[list[Any]] = [[index, _ms(seconds)] for index, seconds in timed if seconds is not None]
    duration = video.duration_seconds or (truth and truth.duration_seconds) or 0.0
    found: list[list[Any]] = [
        [number[item.label], *_inside(item.start_seconds, item.end_seconds, duration), round(item.score, 4), kind]
        for item, kind in zip(video.detections, kinds, strict=True)
    ]
    rows = [row[0] for row in (*sorted(segments), *sorted(marks), *found)]
    return {
        "id": video.video_id,
        "about": " · ".join(filter(None, (video.source, video.model))),
        "partial": video.partial_reason or "",
        "range": _range(
            _ms(duration), [row[1:3] for row in (*segments, *found)] + [[seconds, seconds] for _, seconds in marks]
        ),
        "rows": list(dict.fromkeys(rows)),
        "truth": segments,
        "points": marks,
        "detections": found,
        "curves": video.curves and _curves(video.curves, number),
        "media": media and _media(media),
    }


def _inside(start: float, end: float, duration: float) -> tuple[float, float]:
    """Bounds cut to the video, which refined ones reach a little past; what lies beyond it altogether stays."""
    if end > 0:
        start = max(start, 0.0)
    if start < duration:
        end = min(end, duration)
    return _ms(start), _ms(end)


def _range(duration: float, spans: Sequence[Sequence[Any]]) -> list[float]:
    """The seconds to show: the video, and whatever lies beyond its ends altogether (refined bounds reach over them)."""
    low = min([0.0, *(start for start, end in spans if end < 0)])
    high = max([duration, *(end for start, end in spans if start >= duration)])
    return [low, high if high > low else low + 1]


def _ms(seconds: float) -> float:
    return round(seconds, 3)


def _seconds(point: Point, truth: VideoAnnotation | None) -> float | None:
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


def _evaluation(evaluation: Evaluation, number: Mapping[str, int]) -> dict[str, Any]:
    return {
        "tiou": evaluation.tiou,
        "map": evaluation.mean_average_precision,
        "averages": evaluation.averages or {"all": evaluation.average},
        "classes": [{"class": number[label], "ap": values} for label, values in evaluation.classes.items()],
        "videos": evaluation.num_videos,
        "segments": evaluation.num_segments,
        "detections": evaluation.num_detections,
        "missing": evaluation.num_missing,
        "leftOut": evaluation.num_left_out,
    }


def _diagnosis(diagnosis: Diagnosis, number: Mapping[str, int]) -> dict[str, Any]:
    classes = [
        {
            "class": number[label],
            "segments": item.num_segments,
            "missed": item.num_missed,
            "recall": _thinned(item.recall),
            "precision": _thinned(item.precision),
        }
        for label, item in diagnosis.classes.items()
    ]
    return {
        "tiou": diagnosis.tiou,
        "profile": diagnosis.profile,
        "classes": classes,
        "confusion": diagnosis.confusion,
    }


def _thinned(values: Sequence[float]) -> list[float]:
    """Some 200 of the values, the first and the last among them."""
    if len(values) <= _CURVE_POINTS:
        return [round(value, 4) for value in values]
    places = np.linspace(0, len(values) - 1, _CURVE_POINTS).astype(int)
    return [round(values[place], 4) for place in places]


def _histograms(detections: Mapping[str, VideoDetections], diagnosis: Diagnosis | None) -> dict[str, Any]:
    """Lengths and scores; where there is a diagnosis, of what it compared, right detections apart from the others."""
    found = [
        (item, diagnosis.kinds[key][place] if diagnosis else None)
        for key, video in detections.items()
        for place, item in enumerate(video.detections)
    ]
    if diagnosis is None:
        every = [item for item, _ in found]
        lengths: dict[str, Sequence[float]] = {"detections": [item.end_seconds - item.start_seconds for item in every]}
        scores = {"detections": [item.score for item in every]}
    else:
        right = [item for item, kind in found if kind == RIGHT]
        wrong = [item for item, kind in found if kind is not None and kind > RIGHT]
        lengths = {
            "true segments": diagnosis.segment_seconds,
            "right detections": [item.end_seconds - item.start_seconds for item in right],
        }
        scores = {
            "right": [item.score for item in right],
            "wrong": [item.score for item in wrong],
        }
    return {"lengths": _histogram(lengths, logarithmic=True), "scores": _histogram(scores, logarithmic=False)}


def _histogram(values: Mapping[str, Iterable[float]], logarithmic: bool) -> dict[str, Any] | None:
    """Counts by name over common bins, or None without values; the logarithmic one counts those over zero."""
    kept = {
        name: np.array([value for value in listed if not logarithmic or value > 0]) for name, listed in values.items()
    }
    every = np.concatenate(list(kept.values()))
    if not len(every):
        return None
    low, high = float(every.min()), float(every.max())
    if logarithmic:
        # Bins of half an octave at least; the outermost reach past the values.
        low, high = low / 1.01, high * 1.01
        count = min(_BINS, max(1, math.ceil(2 * math.log2(high / low))))
        edges = np.geomspace(low, high, count + 1)
    else:
        edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts = {name: np.histogram(listed, edges)[0].tolist() for name, listed in kept.items()}
    return {"edges": [float(f"{edge:.4g}") for edge in edges], "counts": counts}
