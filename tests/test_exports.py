"""Features and pseudo segments for other programs, and the commands of docs/features.md."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import problems_of
from foreign_features import LENGTHS, RATES, annotations, imported, rows, save, two_streams
from shell_commands import commands
from test_cli import succeeds

from hrpro_pipeline import export_features, import_features
from hrpro_pipeline.data.feature_files.choices import FileLayout
from hrpro_pipeline.data.feature_files.facts import Facts, read_facts
from hrpro_pipeline.data.features import feature_path, list_features, read_features
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError

ROOT = Path(__file__).resolve().parents[1]


class TestExport:
    """Our own import reads our export to the bit."""

    CHOICES: Mapping[str, Any] = {"fps": "native", "stride": 4, "snippet_frames": 16}

    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        for name in LENGTHS:
            for stream, array in two_streams(name).items():
                save(tmp_path / "made" / stream / f"{name}.npy", array)
        imported(tmp_path / "made", annotations=annotations(tmp_path, 4), **self.CHOICES)
        return tmp_path / "imported"

    @pytest.mark.parametrize("layout", ["flat", "folders", "suffixes"])
    def test_round_trip(self, store: Path, tmp_path: Path, layout: FileLayout) -> None:
        result = export_features(store, tmp_path / "out", layout=layout, annotations=tmp_path / "annotations.json")
        assert (result.video_ids, result.width, result.clock) == (("a", "b", "c"), 2048, SnippetClock(25, 16, 4))
        streams = ("rgb", "flow") if layout == "flat" else ()
        more = {"annotations": tmp_path / "out" / "annotations.json", "streams": streams}
        (tmp_path / "again").mkdir()
        import_features(tmp_path / "out", tmp_path / "again", **more, **self.CHOICES)
        for name in LENGTHS:
            before, after = (read_features(feature_path(folder, name)) for folder in (store, tmp_path / "again"))
            assert before.header == after.header
            for stream, array in before.streams.items():
                np.testing.assert_array_equal(array, after.streams[stream])
                assert array.dtype == after.streams[stream].dtype

    def test_what_other_programs_read(self, store: Path, tmp_path: Path) -> None:
        truth = json.loads((tmp_path / "annotations.json").read_text())
        truth["database"]["a"]["annotations"] = [{"label": "sit", "segment": [0.5, 1.5]}]
        truth["database"]["b"]["annotations"] = [{"label": "run", "segment": [1.0, 2.0]}]
        (tmp_path / "gt.json").write_text(json.dumps(truth))
        export_features(store, tmp_path / "out", streams=["rgb"], annotations=tmp_path / "gt.json")
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "b.npy"), rows("b"))
        content = json.loads((tmp_path / "out" / "annotations.json").read_text())["database"]
        assert content["b"] == {
            "subset": "train",
            "duration": pytest.approx(31 * 4 / 29.97),
            "fps": 29.97,
            "frame": pytest.approx(31 * 4),
            "annotations": [{"label": "run", "label_id": 0, "segment": [1.0, 2.0]}],
        }
        assert (tmp_path / "out" / "classes.txt").read_text() == "run\nsit\n"
        with pytest.raises(HrproError, match="no stream clip .* there are rgb, flow"):
            export_features(store, tmp_path / "out", streams=["clip"])


COMMANDS = [words for words in commands((ROOT / "docs" / "features.md").read_text()) if words[0] == "import"]


def made(folder: Path) -> None:
    """The folders and files that the commands of docs/features.md name."""
    for name, length in LENGTHS.items():
        for stream, array in two_streams(name).items():
            save(folder / "i3d" / f"{name}_{stream}.npy", array)
            save(folder / "two_streams" / stream / f"{name}.npy", array)
        save(folder / "i3d" / f"{name}_fps.npy", np.array(25.0))
        save(folder / "i3d" / f"{name}_timestamps_ms.npy", (64 + 64 * np.arange(length)) / 25 * 1000)
        save(folder / "THUMOS14" / "features" / "train" / f"{name}.npy", np.hstack(list(two_streams(name).values())))
        save(folder / "thumos" / f"{name}.npy", np.hstack(list(two_streams(name).values())))
        save(folder / "videomae" / f"{name}.npy", rows(name, 1408))
        save(folder / "anet" / f"v_{name}.npy", np.resize(rows(name, 512), (100, 512)))
        save(folder / "ten_crops" / f"{name}.npy", np.repeat(rows(name, 512)[:, None], 10, axis=1))
        save(folder / "salads" / f"{name}.npy", np.hstack(list(two_streams(name).values())).T)
    np.savez(folder / "all.npz", **{name: rows(name) for name in LENGTHS})
    annotations(folder, 4).rename(folder / "thumos14.json")
    table = "".join(f"{name},{length}\n" for name, length in LENGTHS.items())
    (folder / "durations.csv").write_text("video_id,duration\n" + table)


def expected(folder: str, name: str) -> tuple[dict[str, np.ndarray], SnippetClock]:
    """Streams and clock of a video that was imported from a folder of `made`."""
    return {
        "i3d/": (two_streams(name), SnippetClock(25, 64, 64)),
        "THUMOS14/": (two_streams(name), SnippetClock()),
        "two_streams/": (two_streams(name), SnippetClock()),
        "thumos/": (two_streams(name), SnippetClock(RATES[name], 16, 4)),
        "videomae/": ({"videomae": rows(name, 1408)}, SnippetClock(RATES[name], 16, 4)),
        "anet/": ({"rgb": np.resize(rows(name, 512), (100, 512))}, SnippetClock(100 / LENGTHS[name], 1, 1)),
        "ten_crops/": ({"rgb": np.repeat(rows(name, 512)[:, None], 10, axis=1).mean(axis=1)}, SnippetClock()),
        "salads/": (two_streams(name), SnippetClock(15, 1, 1)),
        "all.npz": ({"rgb": rows(name)}, SnippetClock()),
    }[folder]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[2])
def test_commands_of_the_page(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "3 videos imported" in succeeds(*words)
    assert list(list_features(Path("features"))) == list(LENGTHS)
    for name in LENGTHS:
        features = read_features(feature_path(Path("features"), name))
        streams, clock = expected(words[2], name)
        assert features.header.clock == clock
        assert list(features.streams) == list(streams)
        for stream, array in streams.items():
            np.testing.assert_array_equal(features.streams[stream], array)


def test_there_is_a_command_for_each_layout() -> None:
    assert len(COMMANDS) == 9


def test_tables_of_durations(tmp_path: Path) -> None:
    table = tmp_path / "videos.csv"
    table.write_text("video;seconds;fps\nCafe\u0301.mp4;12.5;\nb;;29.97\n")
    assert read_facts(table) == {"Caf\u00e9": Facts(12.5), "b": Facts(None, 29.97)}
    table.write_text("video_id,duration\na,long\n../b,3\nc,-1\n")
    assert problems_of(read_facts, table) == [
        "line 2: 'long'; expected a number over 0",
        "line 3: '../b' is not usable as a video id",
        "line 4: '-1'; expected a number over 0",
    ]
    table.write_text("name,length\na,3\n")
    with pytest.raises(HrproError, match="columns name, length; expected a CSV with columns video_id, duration"):
        read_facts(table)
