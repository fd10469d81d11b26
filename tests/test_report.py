"""The report: one HTML file with the numbers that it was given, safe with any text."""

import base64
import json
import re
import struct
from itertools import combinations
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from make_videos import moving_square, write_video
from plotly.offline import get_plotlyjs
from report_pages import (
    HOSTILE,
    ODD,
    Page,
    annotated,
    answered,
    fading_detections,
    write_film_page,
    write_films,
    write_full_page,
)

from hrpro_pipeline import report_detections
from hrpro_pipeline.data.annotations import Segment
from hrpro_pipeline.data.detections import Detection, VideoDetections, write_detections
from hrpro_pipeline.data.failures import Failure, update_failures
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.diagnosis import BACKGROUND, DOUBLE, LEFT_OUT, TRUE_POSITIVE, diagnose
from hrpro_pipeline.show.colors import PALETTE, class_color
from hrpro_pipeline.show.report import write_report
from hrpro_pipeline.show.report_data import ReportContent


@pytest.fixture
def full_page(tmp_path: Path) -> Path:
    return write_full_page(tmp_path / "report.html")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_films(tmp_path_factory.mktemp("my videos #1"))


def test_page_has_the_numbers_that_were_given(full_page: Path) -> None:
    data = Page(full_page).data()
    labels = [entry["label"] for entry in data["classes"]]
    assert labels == sorted({"Dive", "Elsewhere", "Jump", HOSTILE, ODD})
    first, hostile, empty = data["videos"]
    assert [video["id"] for video in data["videos"]] == ["first", HOSTILE, "empty"]
    kinds = [TRUE_POSITIVE, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND]
    given = [
        [labels.index(d.label), d.start, round(d.end, 3), round(d.score, 4), kind, None, False]
        for d, kind in zip(fading_detections("first", 5).detections, kinds, strict=True)
    ]
    assert first["detections"] == given
    assert not data["hasAnswer"]
    assert first["truth"] == [[labels.index("Dive"), 0.2, 1.0], [labels.index("Jump"), 30.0, 33.0]]
    assert first["points"] == [[labels.index("Dive"), 0.5], [labels.index("Jump"), 31.0]]  # frame 930 at 30 fps
    assert first["curves"]["classes"] == [labels.index("Jump")]
    assert first["curves"]["attention"] == [0.25] * 60 and len(first["curves"]["scores"][0]) == 60
    assert first["range"] == [0, 60]
    assert {item[4] for item in hostile["detections"]} == {LEFT_OUT}
    assert hostile["range"] == [0, 7.1] and hostile["curves"] is None  # no duration: up to the last detection
    assert empty["detections"] == empty["points"] == empty["truth"] == []  # its point is a frame without a rate
    assert empty["range"] == [0, 1]
    assert "3 videos, 9 detections." in Page(full_page).text("p")[0]
    assert data["hasMedia"] is False


def test_summary_has_scores_errors_and_histograms(full_page: Path) -> None:
    data = Page(full_page).data()
    summary = data["summary"]
    # The first detection of Dive is right up to tIoU 0.7 (0.8 of 1.1 s); nothing else is.
    assert summary["evaluation"]["map"] == pytest.approx([1 / 3] * 3)
    by_class = {data["classes"][item["class"]]["label"]: item for item in summary["diagnosis"]["classes"]}
    assert {label: (item["segments"], item["missed"]) for label, item in by_class.items()} == {
        "Dive": (1, 0),
        "Elsewhere": (1, 1),
        "Jump": (1, 1),
    }
    assert by_class["Dive"]["recall"] == by_class["Dive"]["precision"] == [1]
    assert summary["diagnosis"]["profile"][0] == [1, 0, 0, 0, 0, 1]
    # Classes and background; the best three detections of the two classes: Dive, Jump, Dive.
    assert summary["diagnosis"]["confusion"] == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 1, 0]]
    counts = summary["histograms"]["scores"]["counts"]
    assert (sum(counts["right"]), sum(counts["wrong"])) == (1, 4)
    lengths = summary["histograms"]["lengths"]
    assert sum(lengths["counts"]["true segments"]) == 3
    assert lengths["edges"][0] < 0.8 and lengths["edges"][-1] > 3.0


def test_page_is_one_file_without_network(full_page: Path) -> None:
    text = full_page.read_text(encoding="utf-8")
    page = Page(full_page)
    assert text.count(get_plotlyjs()) == 1
    assert len(page.all("script")) == 3
    links = [attributes["href"] for _, attributes in page.elements if "href" in attributes]
    assert not [attributes for _, attributes in page.elements if {"src", "srcset"} & attributes.keys()]
    assert links and all(link is not None and link.startswith("#") for link in links)
    policy = next(node["content"] for node in page.all("meta") if "http-equiv" in node)
    assert policy is not None and policy.startswith("default-src 'none';")
    assert not re.search(r"https?:|\*|unsafe-eval", policy)
    assert page.all("html")[0]["lang"] == "en"
    assert [path.name for path in full_page.parent.iterdir()] == [full_page.name]


def test_hostile_text_stays_text(full_page: Path) -> None:
    text = full_page.read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    page = Page(full_page)
    assert not page.all("img")
    assert "<img" not in text and "\u2028" not in text.split('id="data">')[1]
    assert not re.search("[<>&\u2028\u2029]", page.text("script")[0])
    assert page.text("title") == [f"Title {HOSTILE}"] == page.text("h1")


def test_what_failed_is_named(tmp_path: Path) -> None:
    write_detections(tmp_path / "found", fading_detections("first", 3))
    failures = [Failure("late", f"late.mp4: {HOSTILE}"), Failure("first", "detected, but not drawn")]
    update_failures(tmp_path / "found", [], failures)
    report_detections(tmp_path / "found", tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert "2 videos failed" in page.text("summary")
    assert page.text("li") == ["first: detected, but not drawn", f"late: late.mp4: {HOSTILE}"]
    with (tmp_path / "found" / "failures.jsonl").open("a") as file:
        file.write('{"video_id": "a", "reason": 5}\n["b"]\n')
    report_detections(tmp_path / "found", tmp_path / "report.html")
    assert Page(tmp_path / "report.html").text("summary")[0] == "2 videos failed", "lines that are none are left out"
    update_failures(tmp_path / "found", ["late", "first"], [])
    report_detections(tmp_path / "found", tmp_path / "report.html")
    assert Page(tmp_path / "report.html").text("summary")[0] == "All videos"


def test_a_class_has_the_color_of_its_model_and_bounds_end_with_the_video(tmp_path: Path) -> None:
    found = tuple(Detection("Jump", 0.5, start, end) for start, end in ((-0.2, 3.0), (58.0, 60.3), (61.0, 62.0)))
    truth = {"a": annotated("a", Segment("Ambiguous", 1.0, 2.0))}
    video = VideoDetections("a", found, 60.0, classes=("Dive", "Hop", "Jump"), partial_reason="cut short")
    write_report(tmp_path / "report.html", ReportContent({"a": video}, truth))
    data = Page(tmp_path / "report.html").data()
    colors = {entry["label"]: entry["color"] for entry in data["classes"]}
    assert colors == {"Ambiguous": class_color(3), "Jump": class_color(2)}, "as in overlays and figures"
    (shown,) = data["videos"]
    assert [item[1:3] for item in shown["detections"]] == [[0, 3], [58, 60], [61, 62]]
    assert shown["partial"] == "cut short"


def test_only_the_best_are_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    shuffled = VideoDetections("v", fading_detections("v", 20).detections[::-1])
    write_report(path, ReportContent({"v": shuffled}), min_score=0.2, top=100)
    page = Page(path)
    assert [item[3] for item in page.data()["videos"][0]["detections"]] == [0.9, 0.45, 0.3, 0.225]
    assert page.text("p")[0] == (
        "1 video, 20 detections. On this page are 4 of them: the best 100 of each video with scores from 0.2."
    )
    write_report(path, ReportContent({"v": shuffled}), top=2)
    assert len(Page(path).data()["videos"][0]["detections"]) == 2


def test_a_page_of_many_videos_has_fewer_of_each(tmp_path: Path) -> None:
    """So that a browser opens it at once; and says so."""
    path = tmp_path / "report.html"
    video = fading_detections("v", 301)
    write_report(path, ReportContent({f"v{number}": video for number in range(400)}))
    page = Page(path)
    assert {len(shown["detections"]) for shown in page.data()["videos"]} == {300}
    assert "On this page are 120,000 of them: the best 300 of each video" in page.text("p")[0]
    write_report(path, ReportContent({"a": video, "b": video}))
    assert [len(shown["detections"]) for shown in Page(path).data()["videos"]] == [301, 301]


def test_the_answer_is_always_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, ReportContent({"v": answered("v", 20, {5, 12})}), top=3)
    data = Page(path).data()
    rows = data["videos"][0]["detections"]
    assert data["hasAnswer"]
    assert [row[5:] for row in rows] == [[0.5, False], [pytest.approx(1 / 12), True], [pytest.approx(1 / 26), True]]


def test_kinds_follow_their_detections(tmp_path: Path) -> None:
    """The file may list them in any order; the page has the best first."""
    path = tmp_path / "report.html"
    found = (Detection("Dive", 0.1, 50, 51), Detection("Dive", 0.5, 0, 9), Detection("Dive", 0.9, 0, 10))
    truth = {"v": annotated("v", Segment("Dive", 0, 10))}
    content = ReportContent({"v": VideoDetections("v", found)}, truth, diagnosis=diagnose({"v": found}, truth))
    write_report(path, content)
    assert [item[4] for item in Page(path).data()["videos"][0]["detections"]] == [TRUE_POSITIVE, DOUBLE, BACKGROUND]


def test_nothing_to_show(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, ReportContent({}))
    page = Page(path)
    assert page.data()["classes"] == page.data()["videos"] == []
    assert page.text("p")[0].startswith("0 videos, 0 detections")


def test_only_the_strongest_are_shown_at_first(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, ReportContent({"a": fading_detections("a", 60), "b": fading_detections("b", 5)}))
    lowest = Page(path).data()["scores"]["initial"]
    assert 20 <= sum(0.9 / (1 + i) >= lowest for i in range(60)) + 5 <= 25


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    content = ReportContent({"v": VideoDetections("v", (), source="caf\udce9.mp4")})
    write_report(path, content, title="caf\udce9")
    assert Page(path).text("h1") == ["caf?"]


def luminance(color: str) -> float:
    linear = [((value / 255 + 0.055) / 1.055) ** 2.4 for value in bytes.fromhex(color[1:])]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def oklab(color: str) -> np.ndarray:
    linear = np.array([((value / 255 + 0.055) / 1.055) ** 2.4 for value in bytes.fromhex(color[1:])])
    cones = [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
    opponent = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return np.array(opponent) @ np.cbrt(np.array(cones) @ linear)


def test_colors_stand_out_and_apart() -> None:
    assert len(PALETTE) == 24
    for color in PALETTE:
        assert 1.05 / (luminance(color) + 0.05) > 2.4, f"{color} on white"
        assert (luminance(color) + 0.05) / (luminance("#1c2026") + 0.05) > 2.4, f"{color} on the dark ground"
    assert min(float(np.linalg.norm(oklab(a) - oklab(b))) for a, b in combinations(PALETTE, 2)) > 0.095
    assert len({class_color(index) for index in range(200)}) == 200
    assert all(re.fullmatch("#[0-9A-F]{6}", class_color(index)) for index in range(500))


def test_page_holds_frames_of_videos_and_where_they_are(tmp_path: Path, films: Path) -> None:
    path = write_film_page(tmp_path, films)
    videos = {video["id"]: video["media"] for video in Page(path).data()["videos"]}
    assert videos["other"] is None
    media = videos["plays _ more_"]
    assert (path.parent / unquote(media["url"])).resolve() == (films / "plays & more?.webm").resolve()
    assert not re.search(r"[?#&: ]", media["url"]) and media["codec"] == "vp8"
    film = media["film"]
    assert len(film["times"]) == 48 and (film["width"], film["height"]) == (107, 80)  # 64 x 48 in a box of 112 x 80
    assert film["times"] == pytest.approx(np.arange(0.125, 12, 0.25), abs=0.1)
    jpeg = base64.b64decode(film["jpeg"])
    size = jpeg.index(b"\xff\xc0") + 5
    assert struct.unpack(">HH", jpeg[size : size + 4]) == (6 * 80, 8 * 107)
    assert videos["refused"]["codec"] == "mpeg4" and videos["refused"]["film"]
    assert videos["broken"]["film"] is None and "broken.mp4: not a video" in videos["broken"]["problem"]


def test_folder_without_the_videos(tmp_path: Path, films: Path) -> None:
    write_detections(tmp_path / "detections", fading_detections("a", 2))
    with pytest.raises(HrproError, match="holds none of the detections' videos; expected files named a$"):
        report_detections(tmp_path / "detections", tmp_path / "report.html", videos=films)


def test_points_in_frames_lie_at_the_frames_own_times(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not at an annotated rate that contradicts the video's, which a line names."""
    videos = tmp_path / "videos"
    videos.mkdir()
    write_video(videos / "a.mp4", moving_square(50), fps=25)
    steps = [40 * k for k in range(25)] + [1000 + 500 * k for k in range(10)]
    write_video(videos / "b.mkv", moving_square(35), milliseconds=steps)
    entry = {"fps": 30, "duration": 6, "annotations": []}
    (tmp_path / "gt.json").write_text(json.dumps({"database": dict.fromkeys("abc", entry)}))
    (tmp_path / "points.csv").write_text("video_id,class,point\na,run,30\nb,run,27\nc,run,30\na,run,50\n")
    for name in "abc":
        write_detections(tmp_path / "found", VideoDetections(name, (), 6.0))
    inputs = {"annotations": tmp_path / "gt.json", "points": tmp_path / "points.csv"}
    report_detections(tmp_path / "found", tmp_path / "page.html", videos=videos, **inputs)
    assert "points.csv: points in frames are taken at the video's own rate" in caplog.text
    assert "2 videos (a: 30 annotated, 25 its own; ...)" in caplog.text
    marks = {video["id"]: video["points"] for video in Page(tmp_path / "page.html").data()["videos"]}
    assert marks == {"a": [[0, 1.2], [0, 2.0]], "b": [[0, 2.0]], "c": [[0, 1.0]]}
