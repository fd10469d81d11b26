"""The timeline of the labeling page by a mouse and by fingers: what is dragged is what is saved."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_pages import Labeling, LabelTab, write_numbered
from make_videos import X264_B

from hrpro_pipeline.extract.video.probe import probe

UNEVEN = [40 * k + 23 * (k % 3 == 1) + 160 * (k > 40) for k in range(100)]
POINTS, FRAMES = 37, 80  # pixels from the top of the timeline to the middle of its points, and of its frames


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("numbered") / "uneven.mp4"
    return write_numbered(path, milliseconds=UNEVEN, count=100, **X264_B)


@pytest.fixture
def labeling(video: Path, tmp_path: Path) -> Iterator[Labeling]:
    (tmp_path / "points.csv").write_text("video_id,class,time\nuneven,pour,1.000\nuneven,stir,3.000\n")
    with Labeling(tmp_path, video) as server:
        yield server


class Mouse:
    """The left button."""

    def __init__(self, tab: LabelTab) -> None:
        self._mouse = tab.page.mouse

    def down(self, x: float, y: float) -> None:
        self._mouse.move(x, y)
        self._mouse.down()

    def move(self, x: float, y: float) -> None:
        self._mouse.move(x, y)

    def up(self) -> None:
        self._mouse.up()


class Finger:
    """One finger, or several at once."""

    def __init__(self, tab: LabelTab) -> None:
        self._session = tab.context.new_cdp_session(tab.page)

    def down(self, *places: float) -> None:
        self._touch("touchStart", places)

    def move(self, *places: float) -> None:
        self._touch("touchMove", places)

    def up(self) -> None:
        self._touch("touchEnd", ())

    def cancel(self) -> None:
        """As when the system takes the finger for a gesture of its own."""
        self._touch("touchCancel", ())

    def _touch(self, kind: str, places: tuple[float, ...]) -> None:
        pairs = zip(places[::2], places[1::2], strict=True)
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(pairs)]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def _place(tab: LabelTab, seconds: float, height: float) -> tuple[float, float]:
    """Where a time is on the page."""
    box = tab.get("(({left, top}) => [left, top])(document.getElementById('timeline').getBoundingClientRect())")
    return box[0] + 1 + tab.get(f"hrpro.timeline.x({seconds})"), box[1] + 1 + height


def _times(labeling: Labeling) -> list[float]:
    return [seconds for *_, seconds in labeling.rows()]


def _undo_and_redo(tab: LabelTab, labeling: Labeling, before: str, after: str) -> None:
    for keys, content in (("Control+z", before), ("Control+Shift+z", after), ("Control+z", before)):
        tab.press(keys)
        tab.wait("document.getElementById('toast').textContent.includes('done: pour')")
        tab.get("document.getElementById('toast').textContent = ''")
        tab.saved()
        assert labeling.points.read_text() == content


@pytest.mark.parametrize("pointer", [Mouse, Finger])
def test_a_point_is_dragged_to_a_frame(
    pointer: Callable[[LabelTab], Any], video: Path, labeling: Labeling, browser: Any
) -> None:
    times = np.round(probe(video).timestamps, 6).tolist()
    tab = LabelTab(browser, labeling.address, 820, 1180, has_touch=pointer is Finger)
    tab.ready()
    hand = pointer(tab)
    before = labeling.points.read_text()
    # A touch selects and moves nothing, also if it trembles.
    x, y = _place(tab, 1.0, POINTS)
    hand.down(x, y)
    hand.move(x + 2, y)
    hand.up()
    tab.wait("document.querySelector('#points [aria-selected=true] time').textContent === '0:01.00'")
    tab.saved()
    assert labeling.points.read_text() == before
    # In the whole video a pixel is a few milliseconds: near the place; zoomed in, to the very frame.
    for zooms, index in ((0, 60), (6, 63)):
        start = _times(labeling)[0]
        for _ in range(zooms):
            tab.press("z")
        content = labeling.points.read_text()
        hand.down(*_place(tab, start, POINTS))
        x, y = _place(tab, times[index] + 0.004, POINTS)
        for step in (-30, -10, 0):
            hand.move(x + step, y + step)  # no finger stays in its row
            tab.page.wait_for_timeout(30)
        tab.wait(f"Math.abs(hrpro.player.index - {index}) <= {0 if zooms else 1}")
        tab.ready()
        tab.wait("window.readFrame() === hrpro.player.index")  # the frame that it is over is seen
        tab.saved()
        assert labeling.points.read_text() == content  # not before it is let go
        hand.up()
        tab.wait("document.getElementById('toast').textContent.startsWith('Moved')")
        tab.saved()
        moved, other = _times(labeling)
        assert moved in times
        assert other == 3.0
        assert abs(times.index(moved) - index) <= (0 if zooms else 1)
    _undo_and_redo(tab, labeling, content, labeling.points.read_text())
    assert tab.logged == []
    tab.close()


def test_a_drag_that_is_taken_away_moves_nothing(video: Path, labeling: Labeling, browser: Any) -> None:
    tab = LabelTab(browser, labeling.address, 820, 1180, has_touch=True)
    tab.ready()
    finger, before = Finger(tab), labeling.points.read_text()
    x, y = _place(tab, 1.0, POINTS)
    finger.down(x, y)
    finger.move(x + 60, y)
    finger.cancel()
    # A second finger makes it a zoom: the place between them stays, and what is between them grows.
    span = tab.get("hrpro.timeline.span")
    about = tab.get("hrpro.timeline.secondsAt(hrpro.timeline.x(1.0) + 60)")
    finger.down(x, y)
    finger.move(x + 10, y)
    finger.down(x + 10, y, x + 110, y)
    finger.move(x - 40, y, x + 160, y)
    finger.up()
    assert tab.get("hrpro.timeline.span") == pytest.approx(span / 2, rel=0.02)
    assert tab.get(f"hrpro.timeline.x({about})") + tab.get("document.getElementById('timeline').offsetLeft") > 0
    tab.page.wait_for_timeout(200)
    tab.saved()
    assert labeling.points.read_text() == before
    assert tab.get("hrpro.model.canUndo") is False
    tab.close()


def test_a_point_that_is_taken_while_it_plays_stops_it(video: Path, labeling: Labeling, browser: Any) -> None:
    times = np.round(probe(video).timestamps, 6).tolist()
    tab = LabelTab(browser, labeling.address)
    tab.ready()
    tab.press("Home", *["-"] * 4, "Space")  # so slowly that it does not come to its end by itself
    tab.wait("hrpro.player.isPlaying && hrpro.player.video.currentTime > 0.02")
    mouse = Mouse(tab)
    mouse.down(*_place(tab, 3.0, POINTS))
    mouse.move(*_place(tab, 2.5, POINTS))
    tab.wait("!hrpro.player.isPlaying", 3)
    mouse.move(*_place(tab, times[50], POINTS))
    mouse.up()
    tab.wait("document.getElementById('toast').textContent.startsWith('Moved')")
    tab.saved()
    assert [label for _, label, _ in labeling.rows()] == ["pour", "stir"]
    assert abs(times.index(_times(labeling)[1]) - 50) <= 1
    # The strip, the sound and the overview lead to a place, and move nothing.
    before = labeling.points.read_text()
    for height in (FRAMES, FRAMES + 50):
        tab.press("Home")
        x, y = _place(tab, times[70] + 0.02, height)
        tab.page.mouse.click(x, y)
        tab.wait("Math.abs(hrpro.player.index - 70) <= 1")
    tab.press("z", "z", "z")
    box = tab.get("(({left, width, bottom}) => [left, width, bottom])(hrpro.timeline.canvas.getBoundingClientRect())")
    tab.page.mouse.click(box[0] + 0.1 * box[1], box[2] - 8)
    tab.wait("hrpro.timeline.start < 0.5 && hrpro.timeline.span < 2")
    tab.saved()
    assert labeling.points.read_text() == before
    tab.close()


def test_nudges_go_by_frames(video: Path, labeling: Labeling, browser: Any) -> None:
    times = np.round(probe(video).timestamps, 6).tolist()
    tab = LabelTab(browser, labeling.address, 820, 1180, has_touch=True)
    tab.ready()
    tab.press("Home", "]")
    at = max(index for index, seconds in enumerate(times) if seconds <= 1.0)
    nearest = at if 1.0 - times[at] <= times[at + 1] - 1.0 else at + 1
    before = labeling.points.read_text()
    for steps, key in ((3, ">"), (2, "<")):
        for _ in range(steps):
            tab.press(key)
        tab.saved()
        nearest += steps if key == ">" else -steps
        assert _times(labeling) == [times[nearest], 3.0]
    tab.page.tap("[data-do=nudge-on]")
    tab.wait(f"hrpro.player.index === {nearest + 1}")
    tab.saved()
    assert _times(labeling) == [times[nearest + 1], 3.0]
    for _ in range(6):  # each is undone by itself
        assert tab.get("hrpro.model.canUndo") is True
        tab.press("Control+z")
        tab.page.wait_for_timeout(60)
        tab.saved()
    tab.wait("!hrpro.model.canUndo")
    assert labeling.points.read_text() == before
    tab.close()
