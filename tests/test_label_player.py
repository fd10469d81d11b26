"""The player of the labeling page: speeds, J K L, the wave form of the sound, and clicks while the page draws."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_pages import Labeling, LabelTab, write_numbered
from make_videos import X264_B

SECONDS = 16
LOUD = (2.0, 3.0)  # seconds of a tone; it is silent before and after


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    times = np.arange(4 * 48000) / 48000
    tone = 0.5 * np.sin(2 * np.pi * 440 * times) * ((times >= LOUD[0]) & (times < LOUD[1]))
    path = tmp_path_factory.mktemp("sound") / "tone.mp4"
    samples = np.round(32767 * tone).astype(np.int16)
    return write_numbered(path, count=25 * SECONDS, audio="aac", samples=samples, **X264_B)


@pytest.fixture
def tab(video: Path, browser: Any, tmp_path: Path) -> Iterator[LabelTab]:
    """The page of the video, without classes and points."""
    with Labeling(tmp_path, video) as labeling:
        page = LabelTab(browser, labeling.address)
        page.ready()
        yield page
        page.close()


def _rate(tab: LabelTab, milliseconds: int) -> float:
    """Seconds of the video that pass in a second, by the page's own clock."""
    now = "[hrpro.player.video.currentTime, performance.now() / 1000]"
    before, started = tab.get(now)
    tab.page.wait_for_timeout(milliseconds)
    after, ended = tab.get(now)
    return float((after - before) / (ended - started))


def test_it_plays_at_every_speed(tab: LabelTab) -> None:
    for steps, speed in ((-4, 0.1), (-2, 0.5), (0, 1.0), (2, 2.0), (4, 4.0), (6, 8.0)):
        tab.press("k", "Home", "\\", *["-" if steps < 0 else "+"] * abs(steps))
        tab.wait("hrpro.player.index === 0 && !hrpro.player.video.seeking")
        tab.press("Space")
        tab.wait("hrpro.player.isPlaying && hrpro.player.video.currentTime > 0.02")
        assert tab.get("hrpro.player.video.playbackRate") == speed
        assert not tab.get("hrpro.player.video.muted")
        assert _rate(tab, 1000 if speed <= 4 else 600) == pytest.approx(speed, rel=0.35)
        tab.press("k")
        tab.wait("!hrpro.player.isPlaying && !hrpro.player.video.seeking")
        tab.wait("window.readFrame() === hrpro.player.index")
    assert tab.logged == []


def test_j_k_l(tab: LabelTab) -> None:
    tab.press("l")
    tab.wait("hrpro.player.isPlaying && hrpro.player.video.currentTime > 0.1")
    assert tab.get("hrpro.player.speed") == 1
    tab.press("l", "l", "l", "l")  # no faster than 8 times
    assert tab.get("hrpro.player.video.playbackRate") == 8
    tab.wait("hrpro.player.video.currentTime > 6")
    tab.press("k")
    tab.wait("!hrpro.player.isPlaying && !hrpro.player.video.seeking")
    stopped = tab.get("hrpro.player.index")
    tab.wait(f"window.readFrame() === {stopped}")
    tab.press("\\", "j", "j")
    assert tab.get("hrpro.player.speed") == 2
    tab.wait(f"hrpro.player.index < {stopped} - 50")
    tab.press("k")
    tab.wait("!hrpro.player.isPlaying && !hrpro.player.video.seeking")
    back = tab.get("hrpro.player.index")
    assert 0 <= back < stopped - 50
    tab.wait(f"window.readFrame() === {back}")
    tab.press("j")
    tab.wait("hrpro.player.index === 0 && !hrpro.player.isPlaying")  # it stops at the beginning
    assert tab.logged == []


def test_the_wave_form_is_that_of_the_sound(tab: LabelTab) -> None:
    height = """((seconds) => {
        const { timeline } = hrpro;
        const x = Math.round(timeline.x(seconds) * timeline.canvas.width / timeline.width);
        const { data } = timeline.canvas.getContext("2d").getImageData(x, 0, 1, timeline.canvas.height);
        let found = 0;
        for (let at = 0; at < data.length; at += 4) found += data[at] === 0x5c && data[at + 1] === 0x86;
        return found;
    })"""
    tab.wait("hrpro.timeline.peaks !== null")
    for _ in range(3):
        tab.press("Home", *["ArrowRight"] * 62)
        tab.wait(f"[1.9, 2.1, 2.9, 3.1].every((at) => ({height}(at) > 20) === (at > {LOUD[0]} && at < {LOUD[1]}))")
        tab.press("z")


def test_a_click_counts_though_the_page_draws_meanwhile(video: Path, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("video_id,class,time\ntone,pour,1.000\ntone,stir,3.000\n")
    with Labeling(tmp_path, video, "--class", "pour", "--class", "stir") as labeling:
        tab = LabelTab(browser, labeling.address)
        tab.ready()
        mouse = tab.page.mouse
        for pressed, chosen in (("#points .point >> nth=1", "0:03.00"), ("#points .point >> nth=0", "0:01.00")):
            tab.page.hover(pressed)
            mouse.down()
            tab.press("1")  # counts, classes and points are drawn anew
            tab.saved()
            tab.press("Control+z")
            tab.wait("document.querySelectorAll('#points .point').length === 2")
            tab.saved()
            mouse.up()
            tab.wait(f"document.querySelector('#points [aria-selected=true] time')?.textContent === '{chosen}'")
        tab.press("ArrowRight")
        tab.page.hover("#classes button.class >> nth=1")
        mouse.down()
        tab.press("1")
        tab.saved()
        mouse.up()
        tab.wait("document.querySelectorAll('#points .point').length === 4")
        tab.saved()
        assert sorted((label, seconds) for _, label, seconds in labeling.rows()) == [
            ("pour", 1.0), ("pour", 1.04), ("stir", 1.04), ("stir", 3.0)
        ]  # fmt: skip
        # What is drawn in place is what is there: the same as a page that is opened now.
        shown = "['classes', 'points'].map((id) => document.getElementById(id).innerText)"
        other = LabelTab(browser, labeling.address)
        other.ready()
        assert other.get(shown) == tab.get(shown)
        assert tab.logged == []
        tab.close()
