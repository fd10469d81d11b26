"""Pages of the report for tests: what is on them, and a parser that reads them again."""

import json
from collections.abc import Collection
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from make_videos import moving_square, write_video

from hrpro_pipeline import report_detections
from hrpro_pipeline.data.annotations import Segment, VideoAnnotation
from hrpro_pipeline.data.detections import Curves, Detection, VideoDetections, write_detections
from hrpro_pipeline.data.points import Point
from hrpro_pipeline.infer.diagnosis import diagnose
from hrpro_pipeline.infer.evaluation import evaluate
from hrpro_pipeline.show.report import write_report
from hrpro_pipeline.show.report_data import ReportContent

HOSTILE = "</script><img src=x onerror=alert(1)>"
ODD = "a & b\u2028c <b>$title"
FPS, SECONDS = 10, 12
CURVES = Curves(0.5, 1.0, ("Jump",), (tuple(np.linspace(0, 1, 60).tolist()),), tuple([0.25] * 60))


class Page(HTMLParser):
    """Elements with their attributes, and the text of each."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and data.strip():
            self.texts.append((self.elements[-1][0], data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    def data(self) -> Any:
        return json.loads(self.text("script")[0])


def fading_detections(video_id: str, count: int, labels: tuple[str, ...] = ("Dive", "Jump")) -> VideoDetections:
    """Detections of classes in turn, one every two seconds, with scores 0.9, 0.45, 0.3, ..."""
    items = tuple(Detection(labels[i % len(labels)], 0.9 / (1 + i), 2.0 * i, 2.0 * i + 1.1) for i in range(count))
    return VideoDetections(video_id, items, 60.0, source=f"{video_id}.mp4", model="hr <pro>")


def annotated(video_id: str, *segments: Segment) -> VideoAnnotation:
    return VideoAnnotation(video_id, "Test", 60.0, 30.0, segments)


def write_full_page(path: Path) -> Path:
    """Three videos: known truth, points and curves; hostile names; and nothing found."""
    truth = {
        "first": annotated("first", Segment("Dive", 0.2, 1.0), Segment("Jump", 30.0, 33.0)),
        "not-shown": annotated("not-shown", Segment("Elsewhere", 1.0, 2.0)),
    }
    first = fading_detections("first", 5)
    hostile = fading_detections("", 4, (HOSTILE, ODD))
    detections = {
        "first": VideoDetections("first", first.detections, 60.0, first.source, first.model, CURVES),
        HOSTILE: VideoDetections(HOSTILE, hostile.detections, None, HOSTILE, HOSTILE),
        "empty": VideoDetections("empty", ()),
    }
    points = [Point("first", "Dive", 0.5, None, 2), Point("first", "Jump", None, 930.0, 3)]
    points += [Point("empty", "Jump", None, 10.0, 4), Point("not-shown", "Elsewhere", 1.5, None, 5)]
    items = {video_id: video.detections for video_id, video in detections.items()}
    content = ReportContent(
        detections,
        truth,
        points,
        evaluation=evaluate(items, truth, (0.3, 0.5, 0.7)),
        diagnosis=diagnose(items, truth),
    )
    write_report(path, content, title=f"Title {HOSTILE}")
    return path


def answered(video_id: str, number: int, answers: Collection[int]) -> VideoDetections:
    """Detections with probabilities; those of the given ranks are the answer."""
    items = [
        replace(item, probability=1 / (2 * rank + 2), answer=rank in answers)
        for rank, item in enumerate(fading_detections(video_id, number).detections)
    ]
    return VideoDetections(video_id, tuple(items), 60.0)


def write_films(folder: Path) -> Path:
    """A folder of videos: one that browsers play, one that they do not, one that nobody reads."""
    frames = moving_square(FPS * SECONDS)
    write_video(folder / "plays & more?.webm", frames, FPS, codec="libvpx")
    write_video(folder / "refused.avi", frames, FPS, codec="mpeg4")
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def write_film_page(tmp_path: Path, films: Path) -> Path:
    """The page of these videos, made as `hrpro report` does, in a folder beside theirs; `other` has no file."""
    for name in ("plays _ more_", "refused", "broken", "other"):
        items = (Detection("Dive", 0.9, 2.0, 3.5), Detection("Jump", 0.8, 6.0, 9.0), Detection("Dive", 0.3, 8.0, 11.0))
        write_detections(tmp_path / "detections", VideoDetections(name, items, float(SECONDS), curves=CURVES))
    path = tmp_path / "pages" / "report.html"
    report_detections(tmp_path / "detections", path, videos=films)
    return path
