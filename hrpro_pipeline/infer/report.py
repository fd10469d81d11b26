"""Detections as one HTML file that opens anywhere, without a network."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from hrpro_pipeline.data.annotations import Point, VideoAnnotation
from hrpro_pipeline.data.detections import VideoDetections
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.evaluation import Evaluation
from hrpro_pipeline.infer.palette import class_colors

# Detections a video, on average, when the page opens.
_SHOWN_AT_FIRST = 10


def write_report(
    path: Path,
    detections: Mapping[str, VideoDetections],
    *,
    truth: Mapping[str, VideoAnnotation] | None = None,
    points: Sequence[Point] = (),
    evaluation: Evaluation | None = None,
    title: str = "Detected actions",
    min_score: float = 0.0,
    top: int = 200,
) -> None:
    """Write a page with a timeline for each video of `detections`, atomically.

    Args:
        path: the HTML file.
        detections: by video, shown in this order.
        truth: ground truth by video; videos without detections are not shown.
        points: labelled points; those given as frames are shown where `truth` knows the video's frame rate.
        evaluation: scores for the summary.
        min_score: detections below it are left out of the file.
        top: at most this many detections a video are in the file, the best ones.

    Raises:
        HrproError: a detection whose score or times are not finite numbers; names the video.
    """
    truth = truth or {}
    shown = {key: _best(video, min_score, top) for key, video in detections.items()}
    labels = {item.label for video in shown.values() for item in video.detections}
    labels |= {item.label for key in shown if key in truth for item in truth[key].segments}
    labels |= {point.label for point in points if point.video_id in shown}
    labels |= set(evaluation.classes if evaluation else ())
    number = {label: index for index, label in enumerate(sorted(labels))}
    colors = class_colors(labels)  # they repeat, but each class has a row of its own, so that no two are confused
    by_video: dict[str, list[Point]] = {key: [] for key in shown}
    for point in points:
        by_video.get(point.video_id, []).append(point)
    videos = [_timeline(video, truth.get(key), by_video[key], number) for key, video in shown.items()]
    classes = [{"label": label, "color": color} for label, color in colors.items()]

    scores = [item.score for video in shown.values() for item in video.detections]
    total = sum(len(video.detections) for video in detections.values())
    note = f"On this page are {len(scores):,} of them: the best {top:,} of each video with scores from {min_score:g}."
    files = resources.files("hrpro_pipeline.infer")
    page = Template((files / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        summary=f"{_count(len(shown), 'video')}, {_count(total, 'detection')}",
        note=note if len(scores) < total else "",
        scores=_scores(evaluation, colors) if evaluation else "",
        lowest=math.floor(min([0, *scores])),
        highest=math.ceil(max([1, *scores])),
        initial=_initial_score(scores, len(shown)),
        filters="".join(
            f'<label><input type="checkbox" checked> <span class="swatch" style="--class: {color}"></span> '
            f"{escape(label)}</label>"
            for label, color in colors.items()
        ),
        videos="\n".join(
            _section(index, video, content)
            for index, (video, content) in enumerate(zip(shown.values(), videos, strict=True))
        ),
        data=_script_json({"classes": classes, "videos": videos}),
        plotly=get_plotlyjs(),
        script=(files / "report.js").read_text(encoding="utf-8"),
    )
    # File names that are not UTF-8 come as lone surrogates, which cannot be written.
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))


def _best(video: VideoDetections, min_score: float, top: int) -> VideoDetections:
    """The `top` best detections of a video that reach `min_score`, best first."""
    for item in video.detections:
        if not all(map(math.isfinite, (item.score, item.start, item.end))):
            raise HrproError(f"{video.video_id}: {item} is not finite; expected numbers for score, start and end")
    enough = (item for item in video.detections if item.score >= min_score)
    best = sorted(enough, key=lambda item: item.score, reverse=True)[:top]
    return replace(video, detections=tuple(best))


def _initial_score(scores: Sequence[float], num_videos: int) -> float:
    """Where the slider starts: soft-NMS keeps hundreds of weak detections, which would cover each other."""
    count = _SHOWN_AT_FIRST * num_videos
    if len(scores) <= count:
        return math.floor(min([0, *scores]))
    return math.floor(100 * sorted(scores, reverse=True)[count - 1]) / 100


def _timeline(
    video: VideoDetections, truth: VideoAnnotation | None, points: Sequence[Point], number: Mapping[str, int]
) -> dict[str, Any]:
    """What report.js draws: classes by number, times in seconds; `rows` has those of the ground truth first."""
    known = truth.segments if truth else ()
    segments = [(number[item.label], item.start_seconds, item.end_seconds) for item in known]
    timed = [(number[point.label], _seconds(point, truth)) for point in points]
    marks = [(index, seconds) for index, seconds in timed if seconds is not None]
    found = [(number[item.label], item.start, item.end, item.score) for item in video.detections]
    times = [time for item in (*segments, *found) for time in item[1:3]] + [time for _, time in marks]
    duration = video.duration_seconds or (truth and truth.duration_seconds) or 0.0
    return {
        "rows": list(dict.fromkeys(item[0] for item in (*sorted(segments), *sorted(marks), *found))),
        "range": [min([0.0, *times]), max([duration, *times]) or 1.0],
        "truth": segments,
        "points": marks,
        "detections": found,
    }


def _seconds(point: Point, truth: VideoAnnotation | None) -> float | None:
    """Time of a point, or None for a frame of a video whose rate is not known."""
    if point.frame is None:
        return point.seconds
    return point.frame / truth.fps if truth and truth.fps else None


def _section(index: int, video: VideoDetections, content: Mapping[str, Any]) -> str:
    facts = [_count(len(content["detections"]), "detection")]
    facts += [_count(len(content["truth"]), "true segment")] if content["truth"] else []
    facts += [f"{content['range'][1]:.1f} s", *filter(None, (video.source, video.model))]
    name, about = escape(video.video_id), escape(" · ".join(facts))
    return (
        f'<section class="video" aria-labelledby="video-{index}"><h3 id="video-{index}">{name}</h3>'
        f'<p class="dim">{about}</p>'
        f'<div class="timeline" data-index="{index}" role="img" aria-label="Timeline of {name}"></div></section>'
    )


def _scores(evaluation: Evaluation, colors: Mapping[str, str]) -> str:
    """mAP by tIoU and AP by class, as tables."""
    means = evaluation.averages or {"all": evaluation.average}
    rows = [
        (f"{tiou:.2g}", value) for tiou, value in zip(evaluation.tiou, evaluation.mean_average_precision, strict=True)
    ]
    rows += [(f"mean {name}", value) for name, value in means.items()]
    by_tiou = "".join(f'<tr><th scope="row">{name}</th><td>{value:.1%}</td></tr>' for name, value in rows)
    place = min(range(len(evaluation.tiou)), key=lambda index: abs(evaluation.tiou[index] - 0.5))
    by_class = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td>{ap[place]:.1%}</td>'
        f'<td><span class="bar" style="--class: {colors[label]}; width: {ap[place]:.1%}"></span></td></tr>'
        for label, ap in sorted(evaluation.classes.items(), key=lambda item: -item[1][place])
    )
    compared = (
        f"{_count(evaluation.num_detections, 'detection')} compared with "
        f"{_count(evaluation.num_segments, 'true segment')} in {_count(evaluation.num_videos, 'video')}."
    )
    if evaluation.num_left_out:
        compared += f" Left out, of other videos or classes: {_count(evaluation.num_left_out, 'detection')}."
    return (
        f'<h2>Scores</h2><p class="dim">{compared}</p><div class="scores">'
        f"<table><caption>mAP by tIoU</caption><tbody>{by_tiou}</tbody></table>"
        f'<table class="classes"><caption>AP by class at tIoU {evaluation.tiou[place]:.2g}</caption>'
        f"<tbody>{by_class}</tbody></table></div>"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in; ASCII only, so U+2028 is escaped as well."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
