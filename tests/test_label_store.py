"""What is labeled is on disk: undo and redo, files changed by hand, and processes that are killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import wait_for

from hrpro_pipeline.data.points import BACKGROUND, read_points
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.label.files import read_point_values
from hrpro_pipeline.label.journal import Journal
from hrpro_pipeline.label.store import Change, ConflictError, LabelStore


def point(seconds: float, label: str = "pour", video_id: str = "kitchen", **more: Any) -> dict[str, Any]:
    return {"video_id": video_id, "class": label, "time": seconds, "note": "", **more}


def add(key: str, seconds: float, label: str = "pour") -> Change:
    return Change("points", key, None, point(seconds, label))


def rows(path: Path) -> list[tuple[str, str, float]]:
    return [(row["video_id"], row["class"], row["time"]) for row in read_point_values(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "points.csv"


def test_every_change_is_in_the_file_that_training_reads(path: Path) -> None:
    store = LabelStore(path)
    store.change([add("a", 2.0400004)])
    store.change([add("b", 1.0, "stir"), Change("points", "c", None, point(3, BACKGROUND, note='cup, "red"'))])
    store.change([Change("points", "a", point(2.04), point(2.08, "wipe"))])
    assert [(p.video_id, p.label, p.seconds) for p in read_points(path)] == [
        *(("kitchen", "stir", 1.0), ("kitchen", "wipe", 2.08), ("kitchen", BACKGROUND, 3.0))
    ]
    assert read_point_values(path)[2]["note"] == 'cup, "red"'
    store.change([Change("done", "kitchen", None, True)])
    assert store.done_path.read_text() == "kitchen\n"
    store.close()


def test_undo_and_redo_go_on_after_a_restart(path: Path) -> None:
    states = []
    store = LabelStore(path)
    for number in range(20):
        store.change([add(str(number), number / 4)])
        states.append(rows(path))
    store.close()
    store = LabelStore(path)
    for state in reversed(states):
        assert rows(path) == state
        assert store.undo()
    assert store.undo() == []
    assert rows(path) == []
    store.close()
    store = LabelStore(path)
    for state in states:
        assert store.redo()
        assert rows(path) == state
    assert store.redo() == []
    store.undo()
    store.change([add("other", 50.0)])
    assert store.redo() == []  # what was undone before another change is gone
    store.close()


def test_a_change_of_a_value_that_is_another_by_now_is_refused(path: Path) -> None:
    store = LabelStore(path)
    store.change([add("a", 1.0)])
    store.change([Change("points", "a", point(1.0), point(1.5))])
    with pytest.raises(ConflictError, match="kitchen, pour at 1.0 s: it was changed elsewhere"):
        store.change([Change("points", "a", point(1.0), point(2.0))])
    store.change([Change("points", "a", point(1.0), point(1.5))])  # is so already: a page that asks twice
    assert rows(path) == [("kitchen", "pour", 1.5)]
    assert store.snapshot()["undo"] == 2
    store.close()


def test_what_was_changed_by_hand_is_taken_over(path: Path) -> None:
    path.write_text("video_id;class;time;who\nkitchen;pour;1,5;me\nkitchen;stir;2,5;you\n")
    store = LabelStore(path)
    store.change([add("a", 9.0)])
    assert "me" in path.read_text()  # other columns stay
    path.write_text(path.read_text().replace("2.500", "2.750") + "garden,dig,1.0,\n")
    os.utime(path, ns=(1, 1))  # a clock that went back
    known = set(store.tables["points"])
    store.change([add("b", 10)])
    assert len(known & set(store.tables["points"])) == 2  # what is as it was is still the same point
    expected = [*(("kitchen", "pour", 1.5), ("kitchen", "stir", 2.75), ("kitchen", "pour", 9.0))]
    assert rows(path) == [*expected, ("kitchen", "pour", 10.0), ("garden", "dig", 1.0)]
    store.undo()
    store.undo()
    assert rows(path) == [("kitchen", "pour", 1.5), ("kitchen", "stir", 2.75), ("garden", "dig", 1.0)]
    store.close()
    # While nobody looks: also the last row that was labeled.
    path.write_text("video_id,class,time\ngarden,dig,1.0\n")
    store = LabelStore(path)
    assert [value["class"] for value in store.tables["points"].values()] == ["dig"]
    store.close()
    assert rows(path) == [("garden", "dig", 1.0)]


def test_a_file_that_cannot_be_read_is_never_written(path: Path) -> None:
    store = LabelStore(path)
    store.change([add("a", 1.0)])
    broken = path.read_text() + "kitchen,pour,soon\n"
    path.write_text(broken)
    with pytest.raises(HrproError, match="line 3: time is 'soon'"):
        store.change([add("b", 2.0)])
    assert path.read_text() == broken
    store.close()
    with pytest.raises(HrproError, match="line 3: time is 'soon'"):
        LabelStore(path)
    path.write_text("video_id,class,point\nkitchen,pour,30\n")
    with pytest.raises(HrproError, match="expected seconds"):
        LabelStore(path)
    path.unlink()
    with pytest.raises(HrproError, match="is gone, and points.csv.journal knows 1 points"):
        LabelStore(path)


def test_a_change_that_had_not_reached_the_file_is_written(path: Path) -> None:
    store = LabelStore(path)
    store.change([add("a", 1.0)])
    before = path.read_bytes(), path.stat().st_mtime_ns
    store.change([add("b", 2.0)])
    store.close()
    path.write_bytes(before[0])  # killed between journal and file
    os.utime(path, ns=(before[1], before[1]))
    store = LabelStore(path)
    assert rows(path) == [("kitchen", "pour", 1.0), ("kitchen", "pour", 2.0)]
    store.close()


def test_half_a_line_of_the_journal_is_no_line(path: Path) -> None:
    store = LabelStore(path)
    store.change([add("a", 1.0)])
    store.close()
    journal = path.with_name("points.csv.journal")
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"do":"change","chan')
    store = LabelStore(path)
    assert journal.read_bytes() == whole
    store.change([add("b", 2.0)])
    store.close()
    assert len(journal.read_bytes().splitlines()) == 2
    journal.write_bytes(b"not ours\n" + whole)
    with pytest.raises(HrproError, match="line 1: not a journal that can be read"):
        LabelStore(path)


def test_two_processes_do_not_write_the_same_points(path: Path) -> None:
    store = LabelStore(path)
    with pytest.raises(HrproError, match="another `hrpro label` has these points open"):
        LabelStore(path)
    store.close()
    LabelStore(path).close()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (Change("points", "a", None, point(-1.0)), "time is -1.0"),
        (Change("points", "a", None, point(float("nan"))), "time is nan"),
        (Change("points", "a", None, point("1")), "time is '1'"),
        (Change("points", "a", None, point(1.0, video_id="../x")), "video_id is '../x'"),
        (Change("points", "a", None, point(1.0, "  ")), "class is empty"),
        (Change("points", "a", None, point(1.0, "x" * 300)), "at most 200 characters"),
        (Change("points", "a", None, [1]), "expected video_id, class"),
        (Change("points", "", None, point(1.0)), "and a key"),
        (Change("secrets", "a", None, True), "expected one of points"),
        (Change("done", "../x", None, True), "expected a video's id"),
        (Change("classes", "pour", None, {"key": "long"}), "one character"),
        (Change("answers", "x", None, "maybe"), "expected yes, no"),
    ],
)
def test_values_that_cannot_be_are_refused(change: Change, problem: str, path: Path) -> None:
    store = LabelStore(path)
    with pytest.raises(HrproError, match=problem):
        store.change([change])
    assert store.sequence == 0
    assert not path.exists()
    store.close()


def test_a_full_disk_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LabelStore(path)
    store.change([add("a", 1.0)])

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(HrproError, match="cannot be written .No space left on device."):
            store.change([add("b", 2.0)])
    assert rows(path) == [("kitchen", "pour", 1.0)]
    store.change([add("b", 2.0)])
    assert len(rows(path)) == 2
    store.close()
    assert len(Journal(path.with_name("points.csv.journal")).entries) == 2


WRITER = """
import sys
from pathlib import Path
from hrpro_pipeline.label.store import Change, LabelStore
store = LabelStore(Path(sys.argv[1]))
for number in range(10**6):
    value = {"video_id": "kitchen", "class": "pour", "time": number / 4, "note": ""}
    store.change([Change("points", f"{sys.argv[2]}.{number}", None, value)])
    print(number, flush=True)
"""


def test_a_killed_process_loses_nothing_that_was_said_to_be_saved(path: Path) -> None:
    expected = 0
    for turn in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, path, str(turn)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(15 + turn):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = 15 + turn + len(process.stdout.read().splitlines())
        wait_for(lambda process=process: process.poll() is not None)
        store = LabelStore(path)
        count = len(store.tables["points"])
        assert expected + said <= count <= expected + said + 1
        assert len(rows(path)) == count == store.snapshot()["undo"]
        store.close()
        expected = count
