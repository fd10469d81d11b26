"""The labeling page in a browser where something is unusual: names, files that go, and copies that take long."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from label_pages import Labeling, LabelTab, write_numbered
from make_videos import X264_B


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbered")
    write_numbered(folder / "constant.mp4", **X264_B)
    return folder


def test_a_class_is_spelled_one_way(videos: Path, browser: Any, tmp_path: Path) -> None:
    with Labeling(tmp_path, videos / "constant.mp4", "--class", "pour water", "--class", "pour") as labeling:
        tab = LabelTab(browser, labeling.address)
        tab.ready()
        for typed in ("pour", "Pour_Water", "POUR", "pour wat", "pour 2"):
            tab.press("ArrowRight", "a")
            tab.page.keyboard.type(typed)
            tab.press("Enter")
        tab.saved()
        labels = [label for _, label, _ in labeling.rows()]
        assert labels == ["pour", "pour water", "pour", "pour water", "pour 2"]
        tab.page.click("#classes .edit >> nth=1")
        tab.page.fill("#class-name", "pour-Water")
        tab.press("Enter")
        assert tab.get("document.getElementById('class-problem').textContent").endswith("name: pour water")
        tab.press("Escape")
        assert [label for _, label, _ in labeling.rows()] == labels
        tab.close()


NAMES = ["<img src=x onerror=alert(1)>", "__proto__", "constructor", "# %41 ? & 'q'"]


def test_no_name_is_more_than_text(videos: Path, browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(videos / "constant.mp4", folder / f"{name}.mp4")
    words = [word for name in NAMES for word in ("--class", name)]
    with Labeling(tmp_path, folder, *words) as labeling:
        tab = LabelTab(browser, labeling.address)
        asked: list[str] = []
        tab.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        tab.ready()
        ids = [item["id"] for item in labeling.get("state")["videos"]]
        assert {"__proto__", "constructor"} < set(ids)
        for video_id in ids:
            tab.wait(f"document.getElementById('title').textContent === {json.dumps(video_id)}")
            tab.ready()
            assert tab.get("document.getElementById('done').ariaPressed") == "false"
            tab.press("1", "ArrowRight", "2", "ArrowRight", "3", "ArrowRight", "4", "n")
            tab.page.keyboard.type("<script>alert(2)</script>")
            tab.press("Enter", "d", "PageDown")
        tab.saved()
        assert [(video_id, label) for video_id, label, _ in labeling.rows()] == [(i, n) for i in ids for n in NAMES]
        assert labeling.points.with_name("points.csv.done").read_text().split("\n")[:-1] == sorted(ids)
        tab.page.reload()
        tab.wait("window.hrpro !== undefined")
        assert tab.get("[...document.querySelectorAll('.row .name')].map((e) => e.textContent)") == ids
        assert tab.get("[...document.querySelectorAll('#classes .name')].map((e) => e.textContent)") == NAMES
        assert tab.get("document.querySelectorAll('.done-mark').length") == len(ids)
        assert tab.get("document.querySelectorAll('img').length") == 0
        assert [asked, tab.logged] == [[], []]
        tab.close()


def test_a_video_that_goes_and_comes_back(videos: Path, browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("first", "second"):
        shutil.copy(videos / "constant.mp4", folder / f"{name}.mp4")
    with Labeling(tmp_path, folder, "--class", "pour") as labeling:
        tab = LabelTab(browser, labeling.address)
        tab.ready()
        tab.press("Shift+ArrowRight", "1")
        (folder / "first.mp4").rename(tmp_path / "away.mp4")
        tab.press("PageDown")
        tab.wait("document.getElementById('title').textContent === 'second'")
        tab.ready()
        tab.press("1", "PageUp")
        tab.wait("document.getElementById('message-text').textContent.startsWith('first.mp4: is gone')")
        tab.press("ArrowRight", "Space", "]", "1")
        tab.wait("document.getElementById('toast').textContent === 'The video is not open yet'")
        tab.press("Delete")  # what is known of it can still be changed
        tab.saved()
        assert labeling.rows() == [("second", "pour", 0.0)]
        (tmp_path / "away.mp4").rename(folder / "first.mp4")
        tab.press("PageDown")
        tab.ready()
        tab.press("PageUp")
        tab.wait("document.getElementById('title').textContent === 'first'")
        tab.ready()
        tab.press("1")
        tab.saved()
        assert sorted(video_id for video_id, *_ in labeling.rows()) == ["first", "second"]
        tab.close()


def test_nothing_is_answered_before_it_is_seen(videos: Path, browser: Any, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copy(videos / "constant.mp4", tmp_path / f"{name}.mp4")
    header = "video_id,time,class,kind,score,suggested_class,suggested_time\n"
    (tmp_path / "look.csv").write_text(f"{header}first,0.99,pour,new,0.9,,\nsecond,1.03,pour,new,0.8,,\n")
    (tmp_path / "points.csv").write_text("video_id,class,time\nsecond,stir,3.000\n")
    with Labeling(tmp_path, tmp_path / "first.mp4", tmp_path / "second.mp4", "--suggest", "look.csv") as labeling:
        tab = LabelTab(browser, labeling.address)
        tab.ready()
        tab.page.route("**/video/1/facts", lambda route: None)  # neither answered nor refused
        tab.press("y")
        tab.wait("document.getElementById('title').textContent === 'second'")
        tab.saved()
        before = labeling.rows()
        for keys in (["y"], ["x"], ["m"], ["p"], ["c"]):
            tab.press(*keys)
            tab.wait("document.getElementById('toast').textContent === 'The video is not open yet'")
            tab.get("document.getElementById('toast').textContent = ''")
        # Nor is a point moved to a frame that is not known yet.
        tab.page.click("#points [data-key]")
        tab.wait("document.querySelector('#points [aria-selected=true]')")
        for key in ("<", ">"):
            tab.press(key)
            tab.wait("document.getElementById('toast').textContent === 'The video is not open yet'")
            tab.get("document.getElementById('toast').textContent = ''")
        tab.saved()
        assert [labeling.rows(), tab.logged] == [before, []]
        tab.page.unroute("**/video/1/facts")
        tab.press(".")  # asks for the facts again
        tab.ready()
        tab.wait("window.readFrame() === hrpro.player.index")
        shown = tab.get("hrpro.player.times[hrpro.player.index]")
        tab.press("y")
        tab.saved()
        assert shown == pytest.approx(1.04)
        assert sorted(labeling.rows()) == [("first", "pour", 1.0), ("second", "pour", 1.04), ("second", "stir", 3.0)]
        tab.close()
