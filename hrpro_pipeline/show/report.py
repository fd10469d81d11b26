"""Detections as one HTML page that opens anywhere, without a network."""

import json
import os
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from plotly.offline import get_plotlyjs

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.failures import Failure
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.show.doubts_table import doubts_table
from hrpro_pipeline.show.report_data import Media, ReportContent, report_data
from hrpro_pipeline.show.thumbnails import film_strip

# In this order they make one script.
_SCRIPTS = ("base.js", "player.js", "timeline.js", "videos.js", "summary.js", "main.js")
# Thumbnails of a video, and of all videos: the page of many videos stays at some ten megabytes.
_MOST_THUMBNAILS, _LEAST_THUMBNAILS, _ALL_THUMBNAILS = 48, 12, 4800
# Detections of a video that are always on the page, and those of all videos: a browser reads a page of these at once.
_LEAST_DETECTIONS, _ALL_DETECTIONS = 20, 120_000


def write_report(
    path: Path, content: ReportContent, *, title: str = "Detected actions", min_score: float = 0.0, top: int = 500
) -> None:
    """Write a page with a timeline for each video and a summary, atomically.

    The page holds small frames of `content.videos`, and plays them where they lie, by a path relative to its own. A
    video that cannot be read costs only its frames.

    Args:
        path: the HTML file.
        min_score: detections below it are left out of the file.
        top: at most this many detections a video are in the file, the best ones; fewer where there are many videos.
    """
    top = min(top, max(_LEAST_DETECTIONS, _ALL_DETECTIONS // max(1, len(content.detections))))
    data = report_data(content, _media(path, content), min_score, top)
    total = sum(len(video.detections) for video in content.detections.values())
    num_on_page = sum(len(video["detections"]) for video in data["videos"])
    note = f"On this page are {num_on_page:,} of them: the best {top:,} of each video with scores from {min_score:g}."
    page = Template(_page_file("page.html")).substitute(
        title=escape(title),
        counts=f"{_count(len(content.detections), 'video')}, {_count(total, 'detection')}",
        note=note if num_on_page < total else "",
        failures=_failure_list(content.failures),
        doubts=doubts_table(content.doubts),
        style=_page_file("page.css"),
        data=_script_json(data),
        plotly=get_plotlyjs(),
        script="\n".join(map(_page_file, _SCRIPTS)),
    )
    # File names that are not UTF-8 come as lone surrogates, which cannot be written.
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))


def _media(page: Path, content: ReportContent) -> dict[str, Media] | None:
    """Address of each video relative to the page, and frames of it; None without a folder of videos."""
    if content.videos is None:
        return None
    files = {video_id: content.videos[video_id] for video_id in content.detections if video_id in content.videos}
    count = min(_MOST_THUMBNAILS, max(_LEAST_THUMBNAILS, _ALL_THUMBNAILS // max(1, len(files))))
    media = {}
    with progress("thumbnails", len(files), "videos") as task:
        for video_id, file in task.each(files.items()):
            url = _relative_url(file, page.parent)
            try:
                media[video_id] = Media(file.name, url, film_strip(file, count))
            except HrproError as error:
                media[video_id] = Media(file.name, url, None, str(error))
    return media


def _failure_list(failures: Sequence[Failure]) -> str:
    """The videos that failed, in HTML; nothing if there are none."""
    if not failures:
        return ""
    lines = "".join(f"<li>{escape(failure.video_id)}: {escape(failure.reason)}</li>" for failure in failures)
    return f'<details id="failed"><summary>{_count(len(failures), "video")} failed</summary><ul>{lines}</ul></details>'


def _relative_url(file: Path, folder: Path) -> str:
    """Percent-encoded path from a folder to a file; an address of the whole path where they share no drive."""
    try:
        relative = Path(os.path.relpath(file.resolve(), folder.resolve()))
    except ValueError:
        return file.resolve().as_uri()
    # A colon is encoded as well, so that no name is taken for a scheme.
    return quote(os.fsencode(relative.as_posix()))


def _page_file(name: str) -> str:
    return (resources.files("hrpro_pipeline.show") / "page" / name).read_text(encoding="utf-8")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element around it; ASCII only, so U+2028 is escaped as well."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
