"""The labeling page in a real browser: what is pressed is what is saved, whatever the video and whatever dies."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
import pytest
from label_pages import Labeling, LabelTab, write_numbered
from make_videos import X264_B, X265

from hrpro_pipeline.data.detections import Detection, VideoDetections, write_detections
from hrpro_pipeline.data.points import BACKGROUND
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe

UNEVEN = [40 * k + 23 * (k % 3 == 1) + 160 * (k > 40) for k in range(100)]
EARLY = [40 * k - 280 for k in range(107)]
# File -> arguments of `write_video`; whether a browser needs a copy.
VIDEOS: dict[str, tuple[dict[str, Any], bool]] = {
    "constant.mp4": (X264_B | {"audio": "aac", "count": 400}, False),
    "uneven.mp4": (X264_B | {"milliseconds": UNEVEN, "count": 100}, False),
    "late.mp4": (X264_B | {"milliseconds": [1234 + 40 * k for k in range(100)], "count": 100}, False),
    "edited.mp4": (X264_B | {"milliseconds": EARLY, "count": 107}, True),
    "old.avi": ({"codec": "mpeg4", "options": {"bf": "2", "g": "12", "q": "2"}}, True),
    "hevc.mp4": (X265, True),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbered")
    for name, (options, _) in VIDEOS.items():
        write_numbered(folder / name, **options)
    return folder


CLASSES = ["--class", "pour", "--class", "stir", "--class", "wipe"]
BY_KEY = {"1": "pour", "2": "stir", "3": "wipe"}


@pytest.fixture(scope="module")
def labeling(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labeling]:
    """A server of all these videos."""
    with Labeling(tmp_path_factory.mktemp("labeling"), videos, *CLASSES) as server:
        yield server


@pytest.fixture(scope="module")
def tab(labeling: Labeling, browser: Any) -> Iterator[LabelTab]:
    page = LabelTab(browser, labeling.address)
    yield page
    page.close()


@pytest.mark.parametrize("name", VIDEOS)
def test_key_presses_are_points_at_the_frames_on_screen(
    name: str, videos: Path, labeling: Labeling, tab: LabelTab
) -> None:
    info = probe(videos / name)
    first = 7 if name == "edited.mp4" else 0  # that many numbered frames are cut off
    count = 30 if name == "constant.mp4" else 12
    place = sorted(VIDEOS).index(name)
    tab.open(Path(name).stem)
    assert bool(labeling.get(f"video/{place}/facts")["copy_reason"]) == VIDEOS[name][1]
    pressed = tab.label_while_playing(count)
    rows = [row for row in labeling.rows() if row[0] == Path(name).stem]
    assert [len(pressed), len(rows)] == [count, count]
    # Time goes on while it plays: the order of presses is the order of times.
    for (key, before, after), (_, label, seconds) in zip(pressed, rows, strict=True):
        assert BY_KEY[key] == label
        low, high = info.timestamps[before - first], info.timestamps[after - first]
        half_frame = float(np.diff([*info.timestamps, info.duration_seconds])[before - first]) / 2
        assert low - 1e-6 <= seconds <= high + 1e-6, f"{seconds}: not between the frames at {low} and {high}"
        assert high - low < 0.5 or seconds - low <= half_frame
    assert np.isin([seconds for *_, seconds in rows], np.round(info.timestamps, 6)).all()
    assert sum(before == after for _, before, after in pressed) >= count / 3  # else nothing is said
    assert tab.logged == []


@pytest.mark.parametrize("name", VIDEOS)
def test_steps_show_the_frame_that_is_named(name: str, videos: Path, tab: LabelTab) -> None:
    first = 7 if name == "edited.mp4" else 0
    tab.open(Path(name).stem)
    tab.press("Home")
    shown = []
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowRight", "ArrowLeft", "End", "ArrowLeft", "Home"):
        tab.press(key)
        tab.ready()
        tab.wait(f"window.readFrame() - {first} === hrpro.player.index")
        shown.append(tab.get("hrpro.player.index"))
    count = len(probe(videos / name).timestamps)
    assert shown[:2] == [1, 2]
    assert shown[4:] == [count - 1, count - 2, 0]


def test_undo_and_redo_go_through_everything(videos: Path, browser: Any, tmp_path: Path) -> None:
    with Labeling(tmp_path, videos / "constant.mp4", *CLASSES) as labeling:
        tab = LabelTab(browser, labeling.address)
        tab.label_while_playing(6)
        tab.press(">", "d", "Delete", "[", "n")
        tab.page.keyboard.type("half hidden")
        tab.press("Enter")
        tab.saved()
        content = labeling.points.read_text()
        assert "half hidden" in content
        assert tab.get("hrpro.model.canUndo") is True
        while tab.get("hrpro.model.canUndo"):
            tab.press("Control+z")
            tab.page.wait_for_timeout(60)
            tab.saved()
        assert labeling.rows() == []
        assert labeling.points.with_name("points.csv.done").read_text() == ""
        while tab.get("hrpro.model.canRedo"):
            tab.press("Control+Shift+z")
            tab.page.wait_for_timeout(60)
            tab.saved()
        assert labeling.points.read_text() == content
        tab.close()


@pytest.mark.parametrize("victim", ["server", "browser"])
def test_a_kill_loses_at_most_the_last_key(victim: str, videos: Path, launch: Any, tmp_path: Path) -> None:
    mark = f"--hrpro-{uuid4().hex}"  # an option that it ignores, by which its process is known
    browser = launch(mark)
    labeling = Labeling(tmp_path, videos / "constant.mp4", *CLASSES)
    tab = LabelTab(browser, labeling.address)
    tab.ready()
    tab.press("Home", "Space")
    for number in range(9):
        tab.press("123"[number % 3])
        tab.page.wait_for_timeout(70)
    tab.saved()
    tab.press("1")
    if victim == "server":
        labeling.process.kill()
        tab.press("2")
        tab.wait("document.getElementById('status').className === 'lost'")
        browser.close()
    else:  # as the system does when memory is short
        os.kill(_pid_of_browser(mark), signal.SIGKILL)
    labeling.end(signal.SIGKILL)
    rows = labeling.rows()
    assert 9 <= len(rows) <= 10
    with Labeling(tmp_path, videos / "constant.mp4") as again:
        assert again.get("state")["undo"] == len(again.rows())
        assert again.rows()[:9] == rows[:9]


def _pid_of_browser(mark: str) -> int:
    """The browser's own process; those that it started have a type."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if mark.encode() in words and not any(word.startswith(b"--type=") for word in words):
                found.append(int(entry.name))
    (pid,) = found
    return pid


def test_two_pages_do_not_overwrite_each_other(videos: Path, browser: Any, tmp_path: Path) -> None:
    with Labeling(tmp_path, videos / "constant.mp4", *CLASSES) as labeling:
        one, other = LabelTab(browser, labeling.address), LabelTab(browser, labeling.address)
        for tab in (one, other):
            tab.ready()
        one.press("1", "ArrowRight", "1", "ArrowRight")
        other.press("Shift+ArrowRight", "2")
        for tab in (one, other):
            tab.wait("Object.keys(hrpro.model.tables.points).length === 3")
        # The same point: the other page does not yet know that it is gone.
        one.press("Home", "]", "[")
        key = one.get("document.querySelector('#points [data-key]').dataset.key")
        refused = labeling.post(
            "change",
            {
                "groups": [
                    [
                        {
                            "table": "points",
                            "key": key,
                            "before": one.get(f"hrpro.model.tables.points['{key}']"),
                            "after": None,
                        }
                    ]
                ]
            },
        )
        assert refused["sequence"] > 0
        one.wait("Object.keys(hrpro.model.tables.points).length === 2")
        # By hand, in another program.
        text = labeling.points.read_text()
        labeling.points.write_text(text + "constant,wipe,3.0\n")
        for tab in (one, other):
            tab.wait("Object.keys(hrpro.model.tables.points).length === 3")
        one.press("End", "3")
        one.saved()
        assert sorted(label for _, label, _ in labeling.rows()) == ["pour", "stir", "wipe", "wipe"]
        # A file that cannot be read is not overwritten.
        broken = labeling.points.read_text() + "constant,wipe,soon\n"
        labeling.points.write_text(broken)
        one.wait("document.getElementById('status').className === 'broken'")
        one.press("Home", "3")
        one.wait("document.getElementById('toast').textContent.includes('soon')")
        assert labeling.points.read_text() == broken
        one.close()
        other.close()


def test_an_answer_that_comes_late_changes_nothing(videos: Path, browser: Any, tmp_path: Path) -> None:
    with Labeling(tmp_path, videos / "constant.mp4", *CLASSES) as labeling:
        tab = LabelTab(browser, labeling.address)
        tab.ready()
        tab.press("1")
        tab.saved()
        late: list[Any] = []
        tab.page.route("**/changes?*", lambda route: late.append((route, route.fetch())))
        other = {"video_id": "constant", "class": "stir", "time": 2.0, "note": ""}
        labeling.post("change", {"groups": [[{"table": "points", "key": "other", "before": None, "after": other}]]})
        while not (late and late[-1][1].json()["entries"]):  # it knows of the other page's point
            for route, answer in late:
                route.fulfill(response=answer)
            late.clear()
            tab.page.wait_for_timeout(50)
        tab.press("Control+z")  # this point: it is the last change
        tab.wait("document.getElementById('toast').textContent.startsWith('Undone: stir')")
        (route, answer), late[:] = late[0], []
        route.fulfill(response=answer)
        tab.page.wait_for_timeout(300)
        tab.page.unroute("**/changes?*")
        assert [label for _, label, _ in labeling.rows()] == ["pour"]
        assert tab.get("Object.values(hrpro.model.tables.points).map((point) => point.class)") == ["pour"]
        assert tab.get("[hrpro.model.canUndo, hrpro.model.canRedo]") == [True, True]
        tab.close()


def test_ten_thousand_videos(browser: Any, tmp_path: Path, videos: Path, record_property: Any) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(10_000):
        (folder / f"clip_{number:05}.mp4").touch()
    shutil.copy(videos / "constant.mp4", folder / "clip_00000.mp4")
    with Labeling(tmp_path, folder) as labeling:
        tab = LabelTab(browser, labeling.address)
        tab.ready()
        assert tab.get("hrpro.list.shown.length") == 10_000
        assert tab.get("document.querySelectorAll('.row').length") < 60
        slowest = tab.get(
            """async () => {
              const box = document.getElementById("list"); let last = performance.now(), slowest = 0;
              for (let step = 0; step < 60; step += 1) {
                box.scrollTop += 7000;
                await new Promise(requestAnimationFrame);
                const now = performance.now(); slowest = Math.max(slowest, now - last); last = now;
              }
              return slowest; }"""
        )
        searched = tab.get(
            """async () => {
              const input = document.getElementById("search"); const start = performance.now();
              input.value = "clip 09870"; input.dispatchEvent(new Event("input"));
              await new Promise(requestAnimationFrame);
              return performance.now() - start; }"""
        )
        assert tab.get("hrpro.list.shown.length") == 1
        record_property("slowest frame of scrolling, ms", slowest)
        record_property("search, ms", searched)
        assert slowest < 250
        assert searched < 250
        assert tab.logged == []
        tab.close()


def test_keyboard_alone(videos: Path, browser: Any, tmp_path: Path) -> None:
    with Labeling(tmp_path, videos) as labeling:
        tab = LabelTab(browser, labeling.address)
        tab.ready()
        tab.press("/")
        tab.page.keyboard.type("uneven")
        tab.press("Enter")
        tab.wait("document.getElementById('title').textContent === 'uneven'")
        tab.ready()
        tab.press("Shift+ArrowRight", "1")
        tab.wait("document.getElementById('toast').textContent.startsWith('No class has the key 1')")
        tab.press("a")
        tab.page.keyboard.type("open the door")
        tab.press("Enter", "ArrowRight", "ArrowRight", "1", "<", "c")
        tab.page.keyboard.type("close")
        tab.press("Enter", "d", "?", "Escape", "/", "Escape", "PageUp")
        tab.wait("document.getElementById('title').textContent !== 'uneven'")
        tab.saved()
        times = np.round(probe(videos / "uneven.mp4").timestamps, 6).tolist()
        index = next(index for index in range(len(times)) if times[index + 1] > 1.0)
        assert labeling.rows() == [("uneven", "open the door", times[index]), ("uneven", "close", times[index + 1])]
        assert labeling.points.with_name("points.csv.done").read_text() == "uneven\n"
        # Tab reaches everything, and what has the focus shows it and says what it is.
        names = []
        for _ in range(60):
            tab.press("Tab")
            names.append(
                tab.get(
                    """() => { const e = document.activeElement;
                    return e === document.body ? null : [e.id || e.dataset.do || e.className,
                      (e.ariaLabel || e.textContent).trim(), getComputedStyle(e).outlineStyle]; }"""
                )
            )
        seen = [name for name in names if name]
        assert {"search", "list", "play", "points", "new-class", "done"} <= {name for name, _, _ in seen}
        assert all(text for _, text, _ in seen)
        assert all(outline != "none" for _, _, outline in seen)
        tab.close()


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1024, 768), (820, 1180)])
def test_nothing_is_out_of_sight(width: int, height: int, videos: Path, browser: Any, tmp_path: Path) -> None:
    with Labeling(tmp_path, videos, *CLASSES) as labeling:
        tab = LabelTab(browser, labeling.address, width, height, has_touch=width < 1200)
        tab.ready()
        outside = tab.get(
            """() => [...document.querySelectorAll("header *, main *, aside *")].filter((e) => {
              const box = e.getBoundingClientRect();
              return e.checkVisibility() && box.width && (box.right > innerWidth + 1 || box.left < -1);
            }).map((e) => e.id || e.className)"""
        )
        assert outside == []
        sides = tab.get(
            """() => [...document.querySelectorAll("#controls button, aside button")]
              .filter((e) => e.checkVisibility()).map((e) => Math.min(e.offsetWidth, e.offsetHeight))"""
        )
        assert min(sides) >= (40 if width < 1200 else 30)
        if width < 1200:
            tab.page.tap("#show-list")
            tab.wait("document.getElementById('list').checkVisibility()")
            tab.page.tap(".row:nth-child(2)")
            tab.ready()
            tab.page.tap("#classes .class")
            tab.saved()
            assert len(labeling.rows()) == 1
        tab.close()


def test_suggestions_are_answered_by_keys(videos: Path, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("video_id,class,time\nconstant,pour,1.000\nconstant,stir,2.000\n")
    (tmp_path / "look.csv").write_text(
        "video_id,time,class,kind,score,suggested_class,suggested_time\n"
        "constant,3.0,wipe,forgotten,0.9,,\nconstant,1.0,pour,misplaced,0.8,stir,1.4\n"
        "constant,2.0,stir,misplaced,0.7,,\nuneven,1.0,pour,new,0.6,,\nuneven,2.0,pour,new,0.5,,\n"
    )
    with Labeling(tmp_path, videos, "--suggest", tmp_path / "look.csv", *CLASSES) as labeling:
        tab = LabelTab(browser, labeling.address)
        for question, key in [("wipe", "y"), ("pour · 0:01.00 · rather stir", "Enter"), ("stir · 0:02.00", "x")]:
            tab.wait(f"document.getElementById('review-what').textContent.startsWith({question!r})")
            tab.ready()
            tab.press(key)
        tab.wait("document.getElementById('title').textContent === 'uneven'")
        tab.ready()
        tab.press("ArrowRight", "m")  # yes, but a frame later
        tab.wait("document.getElementById('review-what').textContent.includes('0:02.00')")
        tab.ready()
        tab.press("c")
        tab.page.keyboard.type("wipe")
        tab.press("Enter")
        tab.saved()
        later = np.round(probe(videos / "uneven.mp4").timestamps, 6)
        index = int(np.abs(later - 1.0).argmin())
        expected = [("constant", "stir", 1.4), ("constant", BACKGROUND, 2.0), ("constant", "wipe", 3.0)]
        expected += [("uneven", "pour", float(later[index + 1]))]
        assert labeling.rows()[:4] == expected
        assert labeling.rows()[4][1] == "wipe"
        assert tab.get("document.getElementById('review-count').textContent") == "0 of 5 suggestions to answer"
        while tab.get("hrpro.model.canUndo"):
            tab.press("Control+z")
            tab.page.wait_for_timeout(60)
            tab.saved()
        assert labeling.rows() == [("constant", "pour", 1.0), ("constant", "stir", 2.0)]
        assert tab.get("document.getElementById('review-count').textContent") == "5 of 5 suggestions to answer"
        assert tab.logged == []
        tab.close()


def test_detections_are_confirmed_and_corrected(videos: Path, browser: Any, tmp_path: Path) -> None:
    items = (Detection("pour", 0.9, 0.5, 1.5), Detection("stir", 0.8, 2.0, 3.0), Detection("wipe", 0.7, 3.5, 4.5))
    write_detections(tmp_path / "found", VideoDetections("constant", items, 16.0))
    with Labeling(tmp_path, videos / "constant.mp4", "--detections", tmp_path / "found") as labeling:
        tab = LabelTab(browser, labeling.address)
        tab.ready()
        for question, key in [("pour", "y"), ("stir", "x"), ("wipe", "c")]:
            if question == "pour":
                tab.press(".")
            tab.wait(f"document.getElementById('review-what').textContent.startsWith({question!r})")
            tab.press(key)
        tab.page.keyboard.type("dry")
        tab.press("Enter")
        tab.saved()
        assert labeling.rows() == [("constant", "pour", 1.0), ("constant", BACKGROUND, 2.48), ("constant", "dry", 4.0)]
        assert tab.logged == []
        tab.close()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["arm_wrestling.mp4", "flipping_a_pancake.mkv", "mm_test.avi"])
def test_real_videos_show_the_decoders_frames(name: str, shared: Path, browser: Any, tmp_path: Path) -> None:
    """The picture that the player shows is the decoder's at the time that the point gets, not its neighbor's."""
    decoded = [
        (seconds, cv2.resize(image, (48, 36)).mean(axis=2)) for seconds, image in decode(shared / "videos" / name)
    ]
    motion = [float(np.abs(image - before[1]).mean()) for before, (_, image) in pairwise(decoded)]
    clearest = sorted(range(2, len(decoded) - 3), key=lambda k: -min(motion[k - 1], motion[k]))[:4]
    with Labeling(tmp_path, shared / "videos" / name, *CLASSES) as labeling:
        tab = LabelTab(browser, labeling.address)
        tab.ready()
        for index in clearest:
            tab.get(f"hrpro.player.seek({index})")
            tab.page.wait_for_timeout(150)
            tab.ready()
            tab.press("1")
            tab.saved()
            shown = np.array(
                tab.get(
                    """() => { const canvas = new OffscreenCanvas(48, 36), context = canvas.getContext("2d");
                    context.imageSmoothingQuality = "high";
                    context.drawImage(document.getElementById("video"), 0, 0, 48, 36);
                    return [...context.getImageData(0, 0, 48, 36).data]; }"""
                )
            ).reshape(36, 48, 4)[:, :, :3]
            apart = [float(np.abs(shown.mean(axis=2) - decoded[k][1]).mean()) for k in range(index - 2, index + 3)]
            # Some recordings show a picture twice; never the next or the one before where these differ.
            assert apart[2] < 1.05 * min(apart), f"frame {index}: {apart}"
            assert apart[2] < 0.9 * max(apart), f"frame {index}: {apart}"
        times = sorted(round(decoded[index][0], 6) for index in clearest)
        assert [seconds for *_, seconds in labeling.rows()] == times
        tab.close()
