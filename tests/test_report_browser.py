"""The report in a real browser: what it draws, plays, lists and how it answers to mouse, keys and fingers."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_tab import BrowserTab
from report_pages import (
    HOSTILE,
    ODD,
    SECONDS,
    annotated,
    answered,
    fading_detections,
    write_film_page,
    write_films,
    write_full_page,
)

from hrpro_pipeline.data.annotations import Segment
from hrpro_pipeline.data.detections import Curves, Detection, VideoDetections
from hrpro_pipeline.show.report import write_report
from hrpro_pipeline.show.report_data import ReportContent

BARS = "#timeline g.point > path"


@pytest.fixture
def full_page(tmp_path: Path) -> Path:
    return write_full_page(tmp_path / "report.html")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_films(tmp_path_factory.mktemp("my videos #1"))


class Tab(BrowserTab):
    """A page of the report."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, height: int = 900, **options: Any) -> None:
        super().__init__(browser, path.as_uri(), width, height, **options)

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_text_contents()

    def boxes(self, selector: str) -> list[dict[str, float]]:
        found = "(nodes) => nodes.map((node) => node.getBoundingClientRect().toJSON())"
        return self.page.locator(selector).evaluate_all(found)

    def spans(self) -> list[tuple[float, float]]:
        """Bars of the timeline in seconds, worked out from where the axis labels are."""
        labels = [text.split(":") for text in self.texts("#timeline .xtick text")]
        seconds = [60 * int(minutes) + float(rest) for minutes, rest in labels]
        middles = [box["left"] + box["width"] / 2 for box in self.boxes("#timeline .xtick text")]
        slope, origin = np.polyfit(middles, seconds, 1)
        return [(origin + slope * box["left"], origin + slope * box["right"]) for box in self.boxes(BARS)]

    def click_bar(self, start: float) -> None:
        """Click into the middle of the bar that starts at so many seconds."""
        starts = [span[0] for span in self.spans()]
        box = self.boxes(BARS)[int(np.abs(np.array(starts) - start).argmin())]
        self.page.mouse.click(box["left"] + box["width"] / 2, box["top"] + box["height"] / 2)

    def close(self) -> None:
        """Raises where the page complained."""
        self.context.close()
        assert self.logged == []


def slide(tab: Tab, value: float) -> None:
    tab.page.locator("#score").fill(str(value))


def test_browser_draws_the_page(full_page: Path, browser: Any) -> None:
    tab = Tab(browser, full_page)
    assert tab.page.locator(BARS).count() == 7  # 2 true segments, 5 detections
    assert {"Dive", "Jump", "00:00"} <= set(tab.texts("#timeline text"))
    assert tab.page.locator("#timeline .scatterlayer path.js-line").count() == 2  # attention, score
    assert tab.page.locator("#timeline .scatterlayer path.point").count() == 2  # labeled points
    assert tab.texts("#list li") == ["first5 shown · 2 true", f"{HOSTILE}4 shown", "empty0 shown"]
    assert tab.texts("#detections tbody td.kind") == ["right"] + ["background"] * 4
    assert "1 of 2 true segments found" in tab.texts("#facts")[0]
    tab.page.locator("#list li").nth(1).click()
    tab.wait("document.getElementById('name').textContent.includes('onerror')")
    assert tab.page.locator(BARS).count() == 4
    assert {HOSTILE[:20] + "…", ODD} <= {text.replace("\u00a0", " ") for text in tab.texts("#timeline text")}
    assert tab.get("document.querySelectorAll('img, image, iframe, #timeline a').length") == 0
    tab.page.locator("#list li").nth(2).click()
    tab.page.get_by_text("No detection is shown").wait_for()
    tab.close()


def test_browser_draws_bars_where_they_are(tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "report.html"
    found = (Detection("Dive", 0.9, 2.0, 5.0), Detection("Jump", 0.8, 40.0, 44.5), Detection("Dive", 0.7, 3.0, 6.0))
    truth = {"a": annotated("a", Segment("Dive", 8.5, 12.0))}
    write_report(path, ReportContent({"a": VideoDetections("a", found, 60.0)}, truth))
    tab = Tab(browser, path)
    places = sorted([(2.0, 5.0), (3.0, 6.0), (8.5, 12.0), (40.0, 44.5)])
    assert np.array(sorted(tab.spans())) == pytest.approx(np.array(places), abs=0.15)
    rows = {tuple(np.round(span)): box for span, box in zip(tab.spans(), tab.boxes(BARS), strict=True)}
    first, second = rows[(2, 5)], rows[(3, 6)]
    assert first["bottom"] <= second["top"] + 1, "detections that overlap are beside each other"
    tab.page.locator("#zoom-in").click()  # about the cursor, which is at the start
    assert np.array(sorted(tab.spans())[:3]) == pytest.approx(np.array(places[:3]), abs=0.15)
    tab.page.locator("#zoom-all").click()
    assert np.array(sorted(tab.spans())) == pytest.approx(np.array(places), abs=0.15)
    box = tab.boxes("#timeline .nsewdrag")[0]
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 20, steps=5)
    tab.page.mouse.up()
    tab.wait("Math.abs(state.view[0] - 30) < 1 && Math.abs(state.view[1] - 54) < 1")
    assert max(tab.spans()) == pytest.approx((40.0, 44.5), abs=0.1)
    tab.close()


def test_browser_filters(full_page: Path, browser: Any) -> None:
    tab = Tab(browser, full_page)
    slide(tab, 0.4)  # scores are 0.9, 0.45, 0.3, ...
    tab.wait(f"document.querySelectorAll('{BARS}').length == 4")
    assert tab.texts("#lowest") == ["0.40"]
    assert tab.texts("#list li span") == ["2 shown · 2 true", "2 shown", "0 shown"]
    assert tab.page.locator("#detections tbody tr").count() == 2
    tab.page.get_by_text("Classes", exact=False).first.click()
    tab.page.get_by_role("checkbox", name="Dive").uncheck()
    tab.wait(f"document.querySelectorAll('{BARS}').length == 2")
    assert "Dive" not in tab.texts("#timeline .ytick text")
    assert tab.texts("#num-classes") == ["4 of 5"]
    tab.page.get_by_role("button", name="None").click()
    tab.wait(f"document.querySelectorAll('{BARS}').length == 0")
    tab.page.get_by_role("button", name="All").click()
    tab.wait(f"document.querySelectorAll('{BARS}').length == 4")
    tab.close()


def test_browser_shows_the_answer_first(tmp_path: Path, browser: Any) -> None:
    write_report(tmp_path / "report.html", ReportContent({"v": answered("v", 20, {5, 12})}))
    tab = Tab(browser, tmp_path / "report.html")
    tab.wait(f"document.querySelectorAll('{BARS}').length == 2")
    assert tab.texts("#list li") == ["v2 shown"]
    assert tab.texts("#detections td.answer") == ["8.3%", "3.8%"]
    assert tab.page.locator("#score").is_disabled()
    tab.page.get_by_role("checkbox", name="Answer only").uncheck()
    tab.wait(f"document.querySelectorAll('{BARS}').length == 10")
    assert tab.page.locator("#score").is_enabled()
    tab.page.get_by_role("checkbox", name="Answer only").check()
    tab.wait(f"document.querySelectorAll('{BARS}').length == 2")
    tab.close()


def test_browser_plays_detections(tmp_path: Path, films: Path, browser: Any) -> None:
    tab = Tab(browser, write_film_page(tmp_path, films))
    tab.page.locator("#list li", has_text="plays").click()
    tab.wait("player.readyState >= 2")
    assert tab.get("[player.videoWidth, player.duration]") == pytest.approx([64, SECONDS], abs=0.2)
    tab.click_bar(2.0)  # in its middle, but it plays from its start
    tab.wait("!player.paused && player.currentTime >= 2 && player.currentTime < 3.5")
    tab.wait("Math.abs(state.time - player.currentTime) < 0.5 && state.time > 2.1")  # the cursor follows
    tab.wait("player.paused")
    assert 3.5 <= tab.get("player.currentTime") < 4.2
    assert tab.texts("#detections tr[aria-selected=true] td:nth-child(3)") == ["00:02.00"]
    cursor, axis = tab.boxes("#cursor")[0], tab.boxes("#timeline .nsewdrag")[0]
    shown = (cursor["x"] + 1 - axis["x"]) / axis["width"] * SECONDS
    assert shown == pytest.approx(tab.get("player.currentTime"), abs=0.15)

    tab.page.mouse.click(axis["x"] + axis["width"] * 0.4, axis["y"] + 5)  # beside all bars: seeks, does not play
    tab.wait("Math.abs(player.currentTime - 4.8) < 0.2")
    assert tab.get("player.paused")
    tab.page.get_by_role("button", name="Play Jump at 00:06.0").click()
    tab.wait("!player.paused && player.currentTime >= 6")
    tab.page.keyboard.press("Escape")
    tab.page.locator("#timeline").focus()
    tab.page.keyboard.press(" ")
    tab.wait("player.paused")
    tab.close()


def test_browser_shows_frames_on_hover(tmp_path: Path, films: Path, browser: Any) -> None:
    tab = Tab(browser, write_film_page(tmp_path, films))
    tab.page.locator("#list li", has_text="plays").click()
    axis = tab.boxes("#timeline .nsewdrag")[0]
    assert tab.page.locator("#film div").count() >= 8
    times = np.array(tab.get("videos[state.video].media.film.times"))
    for share in (0.26, 0.76):
        tab.page.mouse.move(axis["x"] + axis["width"] * share, axis["y"] + 10)
        tab.wait(f"document.getElementById('hover-clock').textContent == '00:{SECONDS * share:04.1f}'")
        assert tab.page.locator("#frame").is_visible()
        assert "blob:" in tab.get("document.getElementById('frame').style.backgroundImage")
        size, left, top = (
            [float(part) for part in re.findall(r"-?[\d.]+", tab.get(f"document.getElementById('frame').style.{name}"))]
            for name in ("width", "backgroundPositionX", "backgroundPositionY")
        )
        shown = round(-left[0] / size[0]) + 8 * round(-top[0] / (80 / 107 * size[0]))
        assert shown == np.abs(times - SECONDS * share).argmin()
    tab.page.mouse.move(5, 5)
    assert not tab.page.locator("#hover").is_visible()
    tab.close()


def test_browser_lists_detections_where_there_is_no_video(full_page: Path, browser: Any) -> None:
    for width in (1280, 390):
        tab = Tab(browser, full_page, width=width)
        (listing,) = tab.boxes("#listing")
        rows = [box for box in tab.boxes("#detections tbody tr") if box["bottom"] <= listing["bottom"]]
        assert len(rows) >= 4
        tab.page.locator("#detections tbody tr").nth(3).click()
        tab.wait("state.detection >= 0")
        tab.close()


def test_browser_goes_on_without_a_video(tmp_path: Path, films: Path, browser: Any) -> None:
    """Codecs that the browser lacks, files that nobody reads, files that are not there: one line each, no more."""
    tab = Tab(browser, write_film_page(tmp_path, films))
    for name, note in {
        "refused": "cannot play refused.avi (mpeg4)",
        "broken": "No thumbnails: broken.mp4: not a video",
        "other": "There is no file of other",
    }.items():
        tab.page.locator("#list li", has_text=name).click()
        tab.page.locator("#player-note", has_text=note).wait_for()
        assert tab.page.locator(BARS).count() == 3
        tab.click_bar(2.0)
        tab.wait("state.time == 2")
        assert tab.page.locator("#cursor").is_visible() and tab.page.locator("#selection").is_visible()
    tab.page.locator("#list li", has_text="refused").click()
    tab.page.locator("#still").wait_for()  # its frames stand in for it
    tab.close()


def test_browser_listens_to_keys(tmp_path: Path, films: Path, browser: Any) -> None:
    tab = Tab(browser, write_film_page(tmp_path, films))
    press = tab.page.keyboard.press

    def name() -> str:
        return tab.texts("#name")[0]

    names = ["broken", "other", "plays _ more_", "refused"]
    assert name() == names[0]
    press("j")
    press("ArrowDown")
    assert name() == names[2]
    tab.wait("player.readyState >= 2")
    for key, start in (("ArrowRight", 2), ("ArrowRight", 6), ("ArrowRight", 8), ("ArrowLeft", 6)):
        press(key)
        assert tab.get("[state.time, requested]") == [start, start]
    press("Enter")
    tab.wait("!player.paused && stopAt == 9")
    press(" ")
    tab.wait("player.paused")
    press("+")
    assert tab.get("state.view[1] - state.view[0]") == pytest.approx(SECONDS / 2)
    press("0")
    assert tab.get("state.view") == [0, SECONDS]
    press("k")
    assert name() == names[1]
    press("/")
    assert tab.get("document.activeElement.id") == "search"
    tab.page.keyboard.type("jkRef")  # letters are letters there
    assert name() == names[1] and tab.page.locator("#none-found").is_visible()
    tab.page.locator("#search").fill("REF")
    press("Enter")
    assert name() == names[3] and tab.texts("#list li:visible") == ["refused3 shown"]
    tab.page.locator("#search").fill("")
    press("Escape")
    tab.page.locator("#score").focus()
    press("ArrowRight")  # moves the slider, not the detection
    assert tab.get("[state.detection, state.lowest]") == [-1, 0.01]
    press("k")
    tab.page.locator("#top a").first.focus()
    reached = set()
    for _ in range(30):
        press("Tab")
        reached.add(tab.get("document.activeElement.id || document.activeElement.ariaLabel"))
    assert {"search", "list", "next", "score", "player", "timeline", "Play Dive at 00:02.0"} <= reached
    tab.close()


def test_browser_opens_the_named_video(full_page: Path, browser: Any) -> None:
    tab = Tab(browser, full_page)
    tab.page.keyboard.press("j")
    address = tab.page.url
    tab.page.goto("about:blank")
    tab.page.goto(address)
    assert tab.texts("#name") == [HOSTILE]
    tab.close()


def test_browser_shows_the_summary(full_page: Path, browser: Any) -> None:
    tab = Tab(browser, full_page)
    tab.page.get_by_role("link", name="Summary").click()
    assert tab.texts(".tile b") == ["33.3", "33.3", "1 of 3"]
    assert tab.texts(".card h3") == [
        "mAP by tIoU",
        "Precision and recall",
        "AP by class",
        "Errors by kind",
        "Confusion",
        "Lengths",
        "Scores",
    ]
    assert tab.page.locator(".chart .main-svg").count() >= 6
    tables = [[row.locator("th, td").all_text_contents() for row in node.locator("tbody tr").all()]
              for node in tab.page.locator(".card table").all()]  # fmt: skip
    by_tiou, by_class, by_kind, most = tables
    assert by_tiou == [["0.3", "33.3"], ["0.5", "33.3"], ["0.7", "33.3"], ["mean all", "33.3"]]
    assert by_class[0][:6] == ["Dive", "1", "0", "100.0", "100.0", "100.0"]
    assert [row[:4] for row in by_class[1:]] == [["Elsewhere", "1", "1", "0.0"], ["Jump", "1", "1", "0.0"]]
    assert by_kind[0] == ["right", "1", "1"] and by_kind[5] == ["background", "1", "4"]
    assert by_kind[6] == ["missed segments", "2 of 3", "2 of 3"]
    assert ["Jump", "not found", "1"] in most and ["background", "Dive", "1"] in most
    tab.page.get_by_role("link", name="Videos").click()
    assert tab.page.locator(BARS).count() == 7
    tab.close()


def test_browser_without_truth(tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "report.html"
    write_report(path, ReportContent({"v": fading_detections("v", 3)}))
    tab = Tab(browser, path)
    assert not tab.page.locator("#detections .kind").first.is_visible()
    assert not tab.page.locator("#has-truth").is_visible()
    tab.page.goto(path.as_uri() + "#summary")
    assert tab.texts(".card h3") == ["Lengths", "Scores"]
    tab.page.get_by_text("Scores and errors need ground truth").wait_for()
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_browser_fits_desktops_and_phones(full_page: Path, browser: Any, width: int, scheme: str) -> None:
    tab = Tab(browser, full_page, width, 844, has_touch=width < 500, is_mobile=width < 500, color_scheme=scheme)
    for address in ("#video=first", "#summary"):
        tab.page.goto(full_page.as_uri() + address)
        assert tab.get("document.documentElement.scrollWidth <= innerWidth") and tab.get("innerWidth") == width
    tab.page.goto(full_page.as_uri() + "#video=first")
    ground, color = tab.get("[document.body, document.getElementById('name')].map((node) => getComputedStyle(node))"
                            ".map((style, index) => index ? style.color : style.backgroundColor)")  # fmt: skip
    light, dark = sorted((sum(map(int, re.findall(r"\d+", text)[:3])) for text in (ground, color)), reverse=True)
    assert light > 650 and dark < 120
    assert tab.page.locator(BARS).count() == 7
    if width < 500:
        tab.page.locator("#detections tbody button").nth(1).tap()
        tab.wait("state.time == 2")
        tab.page.locator("#timeline").scroll_into_view_if_needed()
        box = next(box for box in tab.boxes(BARS)[::-1])  # the best is drawn last
        tab.page.touchscreen.tap(box["left"] + 1, box["top"] + box["height"] / 2)
        tab.wait("state.time == 0 && state.detection == 0")
        tab.page.locator("#chooser summary").tap()
        tab.page.locator("#list li").nth(1).tap()
        tab.wait("document.getElementById('name').textContent.includes('onerror')")
        assert not tab.page.locator("#list").is_visible()
    tab.close()


def test_browser_is_quick_with_200_videos(tmp_path: Path, browser: Any) -> None:
    """Switching and sliding take 50 ms here; a busy machine is given six times that."""
    random = np.random.default_rng(0)
    detections, truth = {}, {}
    for index in range(200):
        starts = random.uniform(0, 300, 500)
        found = [
            Detection(f"class {random.integers(20)}", float(score), float(start), float(start + 6))
            for start, score in zip(starts, np.sort(random.uniform(0, 1, 500))[::-1], strict=True)
        ]
        scores = tuple(tuple(np.round(random.uniform(0, 1, 1000), 3).tolist()) for _ in range(2))
        curves = Curves(0.1, 0.3, ("class 0", "class 1"), scores[:2], scores[0])
        detections[f"v{index}"] = VideoDetections(f"v{index}", tuple(found), 310.0, curves=curves)
        truth[f"v{index}"] = annotated(f"v{index}", *(Segment("class 0", 20.0 * k, 20.0 * k + 5) for k in range(10)))
    path = tmp_path / "report.html"
    write_report(path, ReportContent(detections, truth))
    tab = Tab(browser, path)
    assert tab.page.locator("#list li").count() == 200
    measure = """async () => {
      const times = [];
      for (let step = 0; step < 9; step++) {
        const start = performance.now();
        ACT;
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        times.push(performance.now() - start);
      }
      return times.sort((a, b) => a - b)[4];
    }"""
    everything = "state.lowest = 0;"
    for act in ("stepVideo(1)", f"{everything} stepVideo(1)", "state.lowest = step / 20; applyFilters()"):
        # Tens of ms on a quiet machine; tests run beside each other on few cores.
        assert tab.get(measure.replace("ACT", act)) < 1000, act
    assert tab.get("performance.getEntriesByType('navigation')[0].domComplete") < 15_000
    tab.close()


def test_browser_check_sees_errors(full_page: Path, tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "wrong.html"
    wrong = "<img src='http://127.0.0.1:9/x.png'><script>throw new Error('on purpose')</script>"
    path.write_text(full_page.read_text(encoding="utf-8") + wrong, encoding="utf-8")
    tab = Tab(browser, path)
    assert any("on purpose" in line for line in tab.logged)
    assert any("Content Security Policy" in line for line in tab.logged)
    with pytest.raises(AssertionError):
        tab.close()
