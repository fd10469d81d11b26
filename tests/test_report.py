"""The report: one HTML file with the numbers that it was given, safe with any text, and drawn by a real browser."""

import json
import math
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import skip_or_fail
from plotly.offline import get_plotlyjs

from hrpro_pipeline.data.annotations import Point, Segment, VideoAnnotation
from hrpro_pipeline.data.detections import Detection, VideoDetections
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.evaluation import evaluate
from hrpro_pipeline.infer.report import write_report

HOSTILE = "</script><img src=x onerror=alert(1)>"
ODD = "a & b\u2028c <b>$title"


class Page(HTMLParser):
    """Elements with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
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


def made(video_id: str, count: int, labels: tuple[str, ...] = ("Dive", "Jump")) -> VideoDetections:
    found = tuple(Detection(labels[i % len(labels)], 0.9 / (1 + i), 2.0 * i, 2.0 * i + 1.1) for i in range(count))
    return VideoDetections(video_id, found, 60.0, source=f"{video_id}.mp4", model="hr <pro>")


def annotated(video_id: str, *segments: Segment) -> VideoAnnotation:
    return VideoAnnotation(video_id, "Test", 60.0, 30.0, segments)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Three videos: known truth and points, hostile names, and nothing found."""
    truth = {
        "first": annotated("first", Segment("Dive", 0.2, 1.0), Segment("Jump", 30.0, 33.0)),
        "not-shown": annotated("not-shown", Segment("Elsewhere", 1.0, 2.0)),
    }
    detections = {
        "first": made("first", 5),
        HOSTILE: VideoDetections(HOSTILE, made("", 4, (HOSTILE, ODD)).detections, None, HOSTILE, HOSTILE),
        "empty": VideoDetections("empty", ()),
    }
    points = [Point("first", "Dive", 0.5, None, 2), Point("first", "Jump", None, 930.0, 3)]
    points += [Point("empty", "Jump", None, 10.0, 4), Point("not-shown", "Elsewhere", 1.5, None, 5)]
    scores = evaluate({key: video.detections for key, video in detections.items()}, truth, (0.3, 0.5, 0.7))
    path = tmp_path / "report.html"
    write_report(path, detections, truth=truth, points=points, evaluation=scores, title=f"Title {HOSTILE}")
    return path


def test_page_has_the_numbers_that_were_given(full: Path) -> None:
    page = Page(full.read_text(encoding="utf-8"))
    data = page.data()
    labels = [entry["label"] for entry in data["classes"]]
    assert labels == sorted({"Dive", "Elsewhere", "Jump", HOSTILE, ODD})
    first, hostile, empty = data["videos"]
    given = [[labels.index(d.label), d.start, d.end, d.score] for d in made("first", 5).detections]
    assert first["detections"] == given
    assert first["truth"] == [[labels.index("Dive"), 0.2, 1.0], [labels.index("Jump"), 30.0, 33.0]]
    assert first["points"] == [[labels.index("Dive"), 0.5], [labels.index("Jump"), 31.0]]  # frame 930 at 30 fps
    assert first["range"] == [0, 60]
    assert hostile["range"] == [0, made("", 4).detections[-1].end]  # no duration: up to the last detection
    assert empty["detections"] == empty["points"] == empty["truth"] == []  # its point is a frame without a rate
    assert empty["range"] == [0, 1]

    assert page.text("h3") == ["first", HOSTILE, "empty"]
    assert [node["data-index"] for node in page.all("div") if node.get("class") == "timeline"] == ["0", "1", "2"]
    assert page.text("p")[0] == "3 videos, 9 detections"


def test_scores_are_shown(full: Path) -> None:
    page = Page(full.read_text(encoding="utf-8"))
    # First of three detections of Dive is right at tIoU 0.7 (0.8 of 1.1 s); nothing else is.
    assert page.text("caption") == ["mAP by tIoU", "AP by class at tIoU 0.5"]
    assert page.text("td") == ["33.3%"] * 3 + ["33.3%", "100.0%", "0.0%", "0.0%"]
    assert page.text("th") == ["0.3", "0.5", "0.7", "mean all", "Dive", "Jump", "Elsewhere"]


def test_page_is_one_file_without_network(full: Path) -> None:
    text = full.read_text(encoding="utf-8")
    page = Page(text)
    assert text.count(get_plotlyjs()) == 1
    assert len(page.all("script")) == 3
    assert not [tag for tag, attributes in page.elements if {"src", "href", "srcset"} & attributes.keys()]
    policy = next(node["content"] for node in page.all("meta") if "http-equiv" in node)
    assert policy is not None and policy.startswith("default-src 'none';")
    assert page.all("html")[0]["lang"] == "en"
    assert [path.name for path in full.parent.iterdir()] == [full.name]


def test_hostile_text_stays_text(full: Path) -> None:
    text = full.read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    page = Page(text)
    assert not page.all("img")
    assert "<img" not in text and "\u2028" not in text.split('id="data">')[1]
    assert not re.search("[<>&\u2028\u2029]", page.text("script")[0])
    assert page.text("title") == [f"Title {HOSTILE}"] == page.text("h1")
    assert sum(HOSTILE in shown for _, shown in page.texts) >= 4  # title, heading, source and model, filter


def test_only_the_best_are_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    shuffled = VideoDetections("v", made("v", 20).detections[::-1])
    write_report(path, {"v": shuffled}, min_score=0.2, top=100)
    page = Page(path.read_text(encoding="utf-8"))
    assert [item[3] for item in page.data()["videos"][0]["detections"]] == [0.9, 0.45, 0.3, 0.225]
    assert page.text("p")[:2] == [
        "1 video, 20 detections",
        "On this page are 4 of them: the best 100 of each video with scores from 0.2.",
    ]
    write_report(path, {"v": shuffled}, top=2)
    assert len(Page(path.read_text(encoding="utf-8")).data()["videos"][0]["detections"]) == 2


def test_nothing_to_show(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, {})
    page = Page(path.read_text(encoding="utf-8"))
    assert page.data() == {"classes": [], "videos": []}
    assert page.text("p")[0] == "0 videos, 0 detections"


def test_only_the_strongest_are_shown_at_first(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, {"a": made("a", 60), "b": made("b", 5)})
    slider = next(tag for tag in Page(path.read_text()).all("input") if tag.get("id") == "score")
    shown = sum(0.9 / (1 + i) >= float(str(slider["value"])) for i in range(60)) + 5
    assert 20 <= shown <= 25


def test_colors_follow_the_class(full: Path) -> None:
    page = Page(full.read_text(encoding="utf-8"))
    given = {entry["label"]: f"--class: {entry['color']}" for entry in page.data()["classes"]}
    bars = [node["style"] for node in page.all("span") if node.get("class") == "bar"]
    assert [(style or "").split(";")[0] for style in bars] == [given[label] for label in ("Dive", "Jump", "Elsewhere")]
    assert len(set(given.values())) == 5


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, {"v": VideoDetections("v", (), source="caf\udce9.mp4")})
    assert "caf?.mp4" in path.read_text(encoding="utf-8")


def test_number_that_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(HrproError, match="^bad: .*nan.* not finite"):
        write_report(path, {"bad": VideoDetections("bad", (Detection("Dive", math.nan, 0.0, 1.0),))})
    assert not path.exists()


class Chromium:
    """A headless browser, spoken to over its debugging pipe.

    Not `--dump-dom --virtual-time-budget`: on a busy machine that ends before the first frame, and the timelines wait
    for a frame.
    """

    def __init__(self, program: str, profile: Path) -> None:
        (read, self.write), (self.read, write) = os.pipe(), os.pipe()
        quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *quiet]
        # Chromium reads commands from descriptor 3 and answers on 4.
        launch = f'exec "$@" 3</dev/fd/{read} 4>/dev/fd/{write}'
        command = ["sh", "-c", launch, "sh", program, *options, "--remote-debugging-pipe"]
        self.process = subprocess.Popen(command, pass_fds=(read, write), stderr=subprocess.DEVNULL)
        os.close(read)
        os.close(write)
        self.pending = b""
        self.number = 0
        self.session: dict[str, str] = {}
        self.logged: list[str] = []

    def close(self) -> None:
        self.send("Browser.close")
        self.process.wait(60)
        os.close(self.read)
        os.close(self.write)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters, **self.session}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        answer = self.receive(lambda received: received.get("id") == self.number)
        assert "error" not in answer, answer
        return answer["result"]

    def receive(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            while b"\0" not in self.pending:
                assert select.select([self.read], [], [], 120)[0], "chromium does not answer"
                block = os.read(self.read, 1 << 20)
                assert block, "chromium has ended"
                self.pending += block
            line, self.pending = self.pending.split(b"\0", 1)
            message = json.loads(line)
            if message.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                self.logged.append(json.dumps(message["params"]))
            if wanted(message):
                return message

    def open(self, page: Path, width: int = 1000) -> None:
        """Load a page in a new tab."""
        self.session = {}
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Runtime", "Log", "Page"):
            self.send(f"{domain}.enable")
        self.logged = []
        size = {"width": width, "height": 3000, "deviceScaleFactor": 1, "mobile": width < 500}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Page.navigate", url=page.as_uri())
        self.wait("document.readyState", "complete")

    def evaluate(self, expression: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str, expected: Any) -> None:
        """Until the expression has the value; fails with the one it has after half a minute."""
        end = time.monotonic() + 30
        while (value := self.evaluate(expression)) != expected and time.monotonic() < end:
            time.sleep(0.05)
        assert value == expected


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        skip_or_fail("there is no chromium to open the report with")
    assert program is not None
    chromium = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


BARS = "[...document.querySelectorAll('.timeline')].map((node) => node.querySelectorAll('g.point > path').length)"
TEXTS = "[...document.querySelectorAll('.timeline text')].map((node) => node.textContent.replaceAll('\\u00a0', ' '))"
SLIDE = "slider.value = 0.4; slider.dispatchEvent(new Event('input', {bubbles: true}))"
HIDE = (
    "[...document.querySelectorAll('fieldset label')].find((node) => node.textContent.trim() == 'Dive').control.click()"
)


def test_browser_draws_the_timelines(full: Path, browser: Chromium) -> None:
    browser.open(full)
    browser.wait(BARS, [7, 4, 0])
    assert {"Dive", "Jump", HOSTILE[:21] + "…", ODD, "00:00"} <= set(browser.evaluate(TEXTS))
    assert browser.evaluate("document.querySelectorAll('img, image, .timeline a').length") == 0
    assert browser.logged == []


SPANS = """[...document.querySelectorAll('.timeline g.point > path')].map((node) => {
  const box = node.getBoundingClientRect();
  const axis = node.closest('.timeline')._fullLayout.xaxis;
  const left = node.closest('.timeline').getBoundingClientRect().left + axis._offset;
  const seconds = (x) => (axis.p2d ? Date.parse(axis.p2d(x - left) + 'Z') : 0) / 1000 - Date.UTC(2000, 0, 1) / 1000;
  return [Math.round(seconds(box.left) * 2) / 2, Math.round(seconds(box.right) * 2) / 2];
})"""


def test_browser_draws_bars_where_they_are(tmp_path: Path, browser: Chromium) -> None:
    """At 2 s and at 8.5 s as well as at 40 s: plotly takes numbers of four digits for years."""
    path = tmp_path / "report.html"
    found = (Detection("Dive", 0.9, 2.0, 5.0), Detection("Dive", 0.8, 40.0, 44.5))
    truth = {"a": annotated("a", Segment("Dive", 8.5, 12.0))}
    write_report(path, {"a": VideoDetections("a", found, 60.0)}, truth=truth)
    browser.open(path)
    browser.wait(BARS, [3])
    assert sorted(map(tuple, browser.evaluate(SPANS))) == [(2.0, 5.0), (8.5, 12.0), (40.0, 44.5)]


def test_browser_filters_the_timelines(full: Path, browser: Chromium) -> None:
    browser.open(full)
    browser.evaluate(SLIDE)  # scores are 0.9, 0.45, 0.3, ...: two of each video are left
    browser.wait(BARS, [4, 2, 0])
    assert browser.evaluate("document.querySelector('output').value") == "0.40"
    browser.evaluate(HIDE)
    browser.wait(BARS, [2, 2, 0])
    assert not {"Dive"} & set(browser.evaluate(TEXTS))
    browser.evaluate("document.querySelector('[data-all=\"\"]').click()")
    browser.wait(BARS, [0, 0, 0])
    browser.evaluate("document.querySelector('[data-all=\"1\"]').click()")
    browser.wait(BARS, [4, 2, 0])
    assert browser.logged == []


def test_browser_draws_only_what_is_near(tmp_path: Path, browser: Chromium) -> None:
    path = tmp_path / "report.html"
    write_report(path, {f"v{index}": made(f"v{index}", 10) for index in range(100)})
    browser.open(path)
    browser.wait(f"{BARS}.slice(0, 10)", [10] * 10)
    assert browser.evaluate(f"{BARS}.slice(50)") == [0] * 50
    browser.evaluate("scrollTo(0, document.body.scrollHeight)")
    browser.wait(f"{BARS}.slice(90)", [10] * 10)
    browser.wait(f"{BARS}.slice(0, 50)", [0] * 50)
    assert browser.logged == []


def test_browser_fits_a_phone(full: Path, browser: Chromium) -> None:
    browser.open(full, width=390)
    browser.wait(BARS, [7, 4, 0])
    assert browser.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [390, 390]


def test_browser_check_sees_errors(full: Path, tmp_path: Path, browser: Chromium) -> None:
    path = tmp_path / "wrong.html"
    wrong = "<img src='http://127.0.0.1:9/x.png'><script>throw new Error('on purpose')</script>"
    path.write_text(full.read_text(encoding="utf-8") + wrong, encoding="utf-8")
    browser.open(path)
    assert any("on purpose" in line for line in browser.logged)
    assert any("Content Security Policy" in line for line in browser.logged)
