"""Detections as one HTML page that opens anywhere, without a network."""

import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from plotly.offline import get_plotlyjs

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.detections import VideoDetections
from hrpro_pipeline.data.failures import Failure
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.data.points import Point
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.diagnosis import Diagnosis
from hrpro_pipeline.infer.evaluation import Evaluation
from hrpro_pipeline.show.report_data import Media, report_data
from hrpro_pipeline.show.thumbnails import film_strip

# One after the other they are one script.
_SCRIPTS = ("base.js", "player.js", "timeline.js", "videos.js", "summary.js", "main.js")
# Thumbnails of a video; all together are bounded, so that the page of many videos stays some ten megabytes.
_MOST_THUMBNAILS, _LEAST_THUMBNAILS, _ALL_THUMBNAILS = 48, 12, 4800


def write_report(
    path: Path,
    detections: Mapping[str, VideoDetections],
    *,
    truth: Mapping[str, VideoAnnotation] | None = None,
    points: Sequence[Point] = (),
    failures: Sequence[Failure] = (),
    evaluation: Evaluation | None = None,
    diagnosis: Diagnosis | None = None,
    videos: Mapping[str, Path] | None = None,
    title: str = "Detected actions",
    min_score: float = 0.0,
    top: int = 500,
) -> None:
    """Write a page with a timeline for each video of `detections` and a summary, atomically.

    Args:
        path: the HTML file.
        detections: by video, shown in this order.
        truth: ground truth by video; videos without detections are not shown.
        points: labeled points; those given as frames are shown where `truth` knows the video's frame rate.
        failures: videos that could not be detected in, or not be drawn, to be named.
        evaluation, diagnosis: scores and errors for the summary.
        videos: files by video. The page holds small frames of them, and plays them where they lie, by a path relative
            to its own. One that cannot be read costs only its frames.
        min_score: detections below it are left out of the file.
        top: at most this many detections a video are in the file, the best ones.

    Raises:
        HrproError: a detection whose score or times are not finite numbers; names the video.
    """
    data = report_data(
        detections,
        truth=truth or {},
        points=points,
        evaluation=evaluation,
        diagnosis=diagnosis,
        media=None if videos is None else _media(path, {key: videos[key] for key in detections if key in videos}),
        min_score=min_score,
        top=top,
    )
    total = sum(len(video.detections) for video in detections.values())
    shown = sum(len(video["detections"]) for video in data["videos"])
    note = f"On this page are {shown:,} of them: the best {top:,} of each video with scores from {min_score:g}."
    page = Template(_file("page.html")).substitute(
        title=escape(title),
        counts=f"{_count(len(detections), 'video')}, {_count(total, 'detection')}",
        note=note if shown < total else "",
        failures=_failed(failures),
        style=_file("page.css"),
        data=_script_json(data),
        plotly=get_plotlyjs(),
        script="\n".join(map(_file, _SCRIPTS)),
    )
    # File names that are not UTF-8 come as lone surrogates, which cannot be written.
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))


def _media(page: Path, videos: Mapping[str, Path]) -> dict[str, Media]:
    """Where each video lies from the page, and frames of it."""
    count = min(_MOST_THUMBNAILS, max(_LEAST_THUMBNAILS, _ALL_THUMBNAILS // max(1, len(videos))))
    found = {}
    with progress("thumbnails", len(videos), "videos") as task:
        for video_id, file in task.each(videos.items()):
            url = _relative_url(file, page.parent)
            try:
                found[video_id] = Media(file.name, url, film_strip(file, count))
            except HrproError as error:
                found[video_id] = Media(file.name, url, None, str(error))
    return found


def _failed(failures: Sequence[Failure]) -> str:
    """A list of the videos that failed; nothing if there are none."""
    if not failures:
        return ""
    lines = "".join(f"<li>{escape(each.video_id)}: {escape(each.reason)}</li>" for each in failures)
    return f'<details id="failed"><summary>{_count(len(failures), "video")} failed</summary><ul>{lines}</ul></details>'


def _relative_url(file: Path, folder: Path) -> str:
    """Percent-encoded path from a folder to a file; an address of the whole path where they share no drive."""
    try:
        relative = Path(os.path.relpath(file.resolve(), folder.resolve()))
    except ValueError:
        return file.resolve().as_uri()
    # A colon is encoded as well, so that no name is taken for a scheme.
    return quote(os.fsencode(relative.as_posix()))


def _file(name: str) -> str:
    return (resources.files("hrpro_pipeline.show") / "page" / name).read_text(encoding="utf-8")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in; ASCII only, so U+2028 is escaped as well."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
