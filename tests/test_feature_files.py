"""Feature files of other programs: each layout is imported to the bit, and what is ambiguous says what to type."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from conftest import problems_of
from foreign_features import CLOCK, LENGTHS, RATES, annotations, assert_streams, imported, rows, save, two_streams
from safetensors.torch import save_file
from scipy.io import savemat

from hrpro_pipeline import import_features
from hrpro_pipeline.data.feature_files.axes import axes_of
from hrpro_pipeline.data.feature_files.clocks import Sidecar
from hrpro_pipeline.data.feature_files.layout import recognize
from hrpro_pipeline.data.resampling import resample
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError, ProblemsError, UsageError


class TestLayouts:
    """A folder of each layout that people have, with the command that docs/features.md gives."""

    def test_output_of_video_features(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = tmp_path / "i3d"
        for name, length in LENGTHS.items():
            for stream, array in two_streams(name).items():
                save(folder / f"{name}_{stream}.npy", array)
            save(folder / f"{name}_fps.npy", np.array(RATES[name]))
            ends = (24 + 16 * np.arange(length)) / RATES[name] * 1000
            save(folder / f"{name}_timestamps_ms.npy", ends)
        for part in ("rgb", "flow", "timestamps_ms"):  # of a video that is shorter than a stack
            save(folder / f"short_{part}.npy", np.array([]))
        save(folder / "short_fps.npy", np.array(25.0))
        with caplog.at_level(logging.INFO):
            found = imported(folder)
        assert_streams(found, two_streams)
        for name, features in found.items():
            assert features.header.clock == SnippetClock(RATES[name], 24, 16)
        assert "short: shorter than a stack, left out" in caplog.text
        (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("recognized")]
        assert line == (
            "recognized the output of video_features (_rgb, _flow): 3 videos, rgb 1024 + flow 1024 wide, [T, D], "
            "24 frames every 16 at 25 to 30 fps"
        )

    def test_published_archive(self, tmp_path: Path) -> None:
        for name, subset in zip(LENGTHS, ("train", "train", "test"), strict=True):
            save(tmp_path / "made" / "features" / subset / f"{name}.npy", rows(name, 2048))
        found = imported(tmp_path / "made")
        assert_streams(found, lambda name: {"rgb": rows(name, 2048)[:, :1024], "flow": rows(name, 2048)[:, 1024:]})
        header = found["a"].header
        assert (header.clock, header.duration_seconds) == (SnippetClock(), 20 * 0.64)
        assert header.settings == {"imported": "published archive", "fps": 25.0, "stride": 16}

    def test_archive_of_rgb_alone_is_not_halved(self, tmp_path: Path) -> None:
        for name in LENGTHS:
            save(tmp_path / "made" / "features" / "test" / f"{name}.npy", rows(name))
        assert_streams(imported(tmp_path / "made"), lambda name: {"rgb": rows(name)})

    @pytest.mark.parametrize(("rgb", "flow"), [("rgb", "flow"), ("RGB/train", "FLOW/train"), ("I3D_RGB", "I3D_Flow")])
    def test_folders_of_streams(self, tmp_path: Path, rgb: str, flow: str) -> None:
        for name in LENGTHS:
            save(tmp_path / "made" / rgb / f"{name}.npy", rows(name))
            save(tmp_path / "made" / flow / f"{name}.npy", rows(name, kind=1))
        assert_streams(imported(tmp_path / "made", **CLOCK), two_streams)

    def test_a_video_without_flow_is_left_out_and_named(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for name in LENGTHS:
            save(tmp_path / "made" / "rgb" / f"{name}.npy", rows(name))
        for name in ("a", "c"):
            save(tmp_path / "made" / "flow" / f"{name}.npy", rows(name, kind=1))
        assert list(imported(tmp_path / "made", **CLOCK)) == ["a", "c"]
        assert "b: no flow: left out" in caplog.text

    def test_flow_with_a_row_less(self, tmp_path: Path) -> None:
        for name in LENGTHS:
            save(tmp_path / "made" / f"{name}_rgb.npy", rows(name))
            save(tmp_path / "made" / f"{name}_flow.npy", rows(name, kind=1)[:-1])
        found = imported(tmp_path / "made", **CLOCK)
        assert_streams(found, lambda name: {stream: array[:-1] for stream, array in two_streams(name).items()})

    def test_flat_folder_with_rates_of_each_video(self, tmp_path: Path) -> None:
        for name in LENGTHS:
            save(tmp_path / "made" / f"v_{name}.npy", rows(name, 2048))
        choice = {"annotations": annotations(tmp_path, 4), "fps": "native", "stride": 4, "snippet_frames": 16}
        found = imported(tmp_path / "made", streams=("rgb", "flow"), **choice)
        assert_streams(found, lambda name: {"rgb": rows(name, 2048)[:, :1024], "flow": rows(name, 2048)[:, 1024:]})
        for name, features in found.items():
            assert features.header.clock == SnippetClock(RATES[name], 16, 4)
            assert features.header.source == {"fps": RATES[name]}
            assert features.header.duration_seconds == LENGTHS[name] * 4 / RATES[name]

    def test_one_stream_of_a_name_of_its_own(self, tmp_path: Path) -> None:
        for name in LENGTHS:
            save(tmp_path / "made" / f"{name}.npy", rows(name, 1408))
        found = imported(tmp_path / "made", streams=("videomae",), **CLOCK)
        assert_streams(found, lambda name: {"videomae": rows(name, 1408)})

    def test_rescaled_to_100_rows(self, tmp_path: Path) -> None:
        arrays = {name: np.random.default_rng(ord(name)).random((100, 256), np.float32) for name in LENGTHS}
        for name, array in arrays.items():
            save(tmp_path / "made" / f"v_{name}.npy", array)
        table = tmp_path / "durations.csv"
        table.write_text("video,seconds\nv_a,12.5\nv_b,200\nv_c,31.25\n")
        found = imported(tmp_path / "made", rescaled=True, annotations=table)
        assert list(found) == ["v_a", "v_b", "v_c"]
        for (name, array), seconds in zip(arrays.items(), (12.5, 200, 31.25), strict=True):
            header = found[f"v_{name}"].header
            np.testing.assert_array_equal(found[f"v_{name}"].streams["rgb"], array)
            assert header.clock.to_seconds(np.array([0, 50, 100])).tolist() == [0, seconds / 2, seconds]
            assert header.duration_seconds == seconds

    def test_channels_first_a_row_each_frame(self, tmp_path: Path) -> None:
        for name in LENGTHS:
            save(tmp_path / "made" / f"{name}.npy", rows(name, 2048).T)
        choice = {"fps": 15, "stride": 1, "snippet_frames": 1, "streams": ("rgb", "flow")}
        found = imported(tmp_path / "made", **choice)
        assert_streams(found, lambda name: {"rgb": rows(name, 2048)[:, :1024], "flow": rows(name, 2048)[:, 1024:]})
        assert found["a"].header.clock.to_seconds(np.array([15.0])).tolist() == [1.0]

    @pytest.mark.parametrize("shape", ["T10D", "10TD", "1T10D"])
    def test_crops(self, tmp_path: Path, shape: str) -> None:
        def crops(name: str) -> np.ndarray:
            return np.random.default_rng(ord(name)).random((LENGTHS[name], 10, 32), np.float32)

        for name in LENGTHS:
            array = {"T10D": crops(name), "10TD": crops(name).swapaxes(0, 1), "1T10D": crops(name)[None]}[shape]
            save(tmp_path / "made" / f"{name}.npy", array)
        with pytest.raises(HrproError, match="has 10 crops .* `crops=mean`, .* `crops=stacked`"):
            imported(tmp_path / "made", **CLOCK)
        assert_streams(imported(tmp_path / "made", crops="mean", **CLOCK), lambda name: {"rgb": crops(name).mean(1)})
        stacked = imported(tmp_path / "made", crops="stacked", **CLOCK)
        assert_streams(stacked, lambda name: {"rgb": crops(name).reshape(-1, 320)})

    def test_a_leading_axis_of_one(self, tmp_path: Path) -> None:
        for name in LENGTHS:
            save(tmp_path / "made" / f"{name}.npy", rows(name)[None])
        assert_streams(imported(tmp_path / "made", **CLOCK), lambda name: {"rgb": rows(name)})

    def test_names_as_ids_are_made_everywhere(self, tmp_path: Path) -> None:
        save(tmp_path / "made" / "John's clip.mp4.npy", rows("a"))
        save(tmp_path / "made" / "v_Cafe\u0301.npy", rows("b"))
        assert list(imported(tmp_path / "made", prefix="v_", **CLOCK)) == ["Caf\u00e9", "John_s clip"]


def write_npz(path: Path, array: np.ndarray) -> None:
    np.savez(path, feats=array, duration=3.0)


def write_hdf5(path: Path, array: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["resnet/features"] = array


def write_matlab_7_3(path: Path, array: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["feat"] = array.T  # as MATLAB does


WRITERS: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "npy": np.save,
    "npz": write_npz,
    "mat": lambda path, array: savemat(path, {"feat": array, "label": "x"}),
    "mat, version 7.3": write_matlab_7_3,
    "h5": write_hdf5,
    "pt": lambda path, array: torch.save(torch.from_numpy(array), path),
    "pth": lambda path, array: torch.save({"feats": torch.from_numpy(array), "fps": 25}, path),
    "safetensors": lambda path, array: save_file({"feats": torch.from_numpy(array)}, path),
    "csv": lambda path, array: np.savetxt(path, array, delimiter=",", fmt="%.9g"),
    "csv, as pandas writes": lambda path, array: np.savetxt(
        path, array, delimiter=",", fmt="%.9g", header=",".join(map(str, range(array.shape[1]))), comments=""
    ),
}


class TestFiles:
    @pytest.mark.parametrize("kind", WRITERS)
    def test_a_folder_of_each_kind(self, tmp_path: Path, kind: str) -> None:
        suffix = kind.partition(",")[0]
        (tmp_path / "made").mkdir()
        for name in LENGTHS:
            WRITERS[kind](tmp_path / "made" / f"{name}.{suffix}", rows(name, 256))
        (tmp_path / "made" / "notes.txt").write_text("not features")
        assert_streams(imported(tmp_path / "made", **CLOCK), lambda name: {"rgb": rows(name, 256)})

    @pytest.mark.parametrize("suffix", ["npz", "h5", "pt", "safetensors", "mat"])
    def test_one_file_of_all_videos(self, tmp_path: Path, suffix: str) -> None:
        arrays, file = {name: rows(name) for name in LENGTHS}, tmp_path / f"all.{suffix}"
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if suffix == "h5":
            with h5py.File(file, "w") as content:
                for name, array in arrays.items():
                    content[f"{name}/rgb"] = array
                    content[f"{name}/flow"] = rows(name, kind=1)
        elif suffix == "npz":
            np.savez(file, **arrays)
        elif suffix == "pt":
            torch.save(tensors, file)
        elif suffix == "mat":
            savemat(file, arrays)
        else:
            save_file(tensors, file)
        expected = two_streams if suffix == "h5" else lambda name: {"rgb": rows(name)}
        assert_streams(imported(file, **CLOCK), expected)

    def test_a_file_of_a_video_with_its_streams(self, tmp_path: Path) -> None:
        (tmp_path / "made").mkdir()
        for name in LENGTHS:
            np.savez(tmp_path / "made" / f"{name}.npz", **two_streams(name))
        assert_streams(imported(tmp_path / "made", **CLOCK), two_streams)

    def test_a_file_for_each_stream(self, tmp_path: Path) -> None:
        (tmp_path / "made").mkdir()
        for kind, stream in enumerate(("rgb", "flow")):
            np.savez(tmp_path / "made" / f"{stream}.npz", **{name: rows(name, kind=kind) for name in LENGTHS})
        assert_streams(imported(tmp_path / "made", **CLOCK), two_streams)

    def test_a_file_of_several_arrays_asks_for_one(self, tmp_path: Path) -> None:
        (tmp_path / "made").mkdir()
        for name in LENGTHS:
            np.savez(tmp_path / "made" / f"{name}.npz", feats=rows(name), logits=rows(name, 20))
        with pytest.raises(
            ProblemsError,
            match=r"a.npz and 2 more: holds several arrays \(feats, logits\); say .* `key=feats`",
        ):
            imported(tmp_path / "made", **CLOCK)
        assert_streams(imported(tmp_path / "made", key="feats", **CLOCK), lambda name: {"rgb": rows(name)})

    def test_pickles_are_refused_with_the_way_round(self, tmp_path: Path) -> None:
        (tmp_path / "made").mkdir()
        marker = tmp_path / "executed"
        hostile = b"cposix\nsystem\n(S'touch %s'\ntR." % bytes(marker)
        for name in ("a.pkl", "b.pt", "c.npy"):
            folder = tmp_path / name.partition(".")[0]
            folder.mkdir()
            (folder / name).write_bytes(hostile)
            with pytest.raises(HrproError) as caught:
                import_features(folder, tmp_path / "out", **CLOCK)
            assert "np.save(f" in str(caught.value) or "not a readable" in str(caught.value)
        save(tmp_path / "objects" / "all.npy", np.array([{"a": 1}], object))
        with pytest.raises(HrproError, match="all.npy: a pickle, which can run any code .* save each video by itself"):
            import_features(tmp_path / "objects", tmp_path / "out", **CLOCK)
        torch.save({"a": Path("x")}, tmp_path / "made" / "a.pt")
        with pytest.raises(HrproError, match="a.pt: a pickle"):
            import_features(tmp_path / "made", tmp_path / "out", **CLOCK)
        assert not marker.exists() and not (tmp_path / "out").exists()


def test_frames_of_a_row(tmp_path: Path) -> None:
    for name in LENGTHS:
        save(tmp_path / "made" / f"{name}.npy", rows(name))
    for stride, frames in ((1, 1), (4, 16), (16, 16), (64, 64)):
        assert imported(tmp_path / "made", fps=30, stride=stride)["a"].header.clock == SnippetClock(30, frames, stride)
    assert imported(tmp_path / "made", fps=30, stride=4, snippet_frames=32)["a"].header.clock.snippet_frames == 32


class TestRefusals:
    """One line that says what to type."""

    def made(self, folder: Path, **arrays: np.ndarray) -> Path:
        for name, array in arrays.items():
            save(folder / "made" / f"{name}.npy", array)
        return folder / "made"

    def test_a_clock_that_nobody_gives(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, **{name: rows(name) for name in LENGTHS})
        with pytest.raises(HrproError, match=r"give `fps=25` .* and `stride=16`, or `annotations`"):
            imported(folder)
        with pytest.raises(HrproError, match=r"give `stride=16`, or `annotations`"):
            imported(folder, fps=25)
        assert not (tmp_path / "imported").exists()

    def test_durations_that_agree_with_the_preset_confirm_it(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, **{name: rows(name) for name in LENGTHS})
        table = tmp_path / "durations.csv"
        table.write_text("video_id,duration\n" + "".join(f"{name},{T * 0.64}\n" for name, T in LENGTHS.items()))
        assert imported(folder, annotations=table)["b"].header.clock == SnippetClock()

    def test_durations_that_do_not(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, **{name: rows(name) for name in LENGTHS})
        with pytest.raises(HrproError, match=r"each video's own rate \(`fps=native`\), `stride=4` would fit a"):
            imported(folder, annotations=annotations(tmp_path, 4))

    def test_an_archive_at_another_rate(self, tmp_path: Path) -> None:
        save(tmp_path / "made" / "features" / "train" / "a.npy", rows("a", 2048))
        truth = {"database": {"a": {"duration": 20 * 16 / 15, "annotations": []}}}
        (tmp_path / "made" / "gt_full.json").write_text(json.dumps(truth))
        with pytest.raises(HrproError, match="choose the preset whose frame rate"):
            imported(tmp_path / "made")
        assert imported(tmp_path / "made", preset="gtea")["a"].header.clock == SnippetClock(15)

    def test_all_of_one_length(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, **{name: np.ones((100, 512), np.float32) for name in LENGTHS})
        with pytest.raises(HrproError, match="all videos have T = 100: give `rescaled` and `annotations`"):
            imported(folder)
        with pytest.raises(HrproError, match="all videos have T = 100: give `rescaled` if"):
            imported(folder, annotations=annotations(tmp_path))
        with pytest.raises(ProblemsError, match="a: no duration; give it with `annotations`"):
            imported(folder, rescaled=True)
        with pytest.raises(UsageError, match="neither `fps` nor `stride`"):
            imported(folder, rescaled=True, fps=25)

    def test_an_array_that_may_be_either_way_round(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, a=np.arange(20000, dtype=np.float32).reshape(100, 200))
        with pytest.raises(HrproError, match=r"shape \[100, 200\] does not say .* `layout=TD` .* `layout=DT`"):
            imported(folder, **CLOCK)
        assert imported(folder, layout="DT", **CLOCK)["a"].header.widths == {"rgb": 100}

    def test_two_streams_or_one(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, **{name: rows(name, 2048) for name in LENGTHS})
        with pytest.raises(HrproError, match=r"give `streams=rgb,flow`, or .* `streams=rgb`"):
            imported(folder, **CLOCK)
        assert imported(folder, streams=["i3d"], **CLOCK)["a"].header.widths == {"i3d": 2048}
        with pytest.raises(HrproError, match="2048 channels are not 3 equal parts"):
            imported(folder, streams=["a", "b", "c"], **CLOCK)

    def test_names_that_do_not_agree(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, a_rgb=rows("a"), b=rows("b"))
        with pytest.raises(HrproError, match="a_rgb is named as the rgb stream, but b as none; .* `streams=rgb`"):
            imported(folder, **CLOCK)
        assert list(imported(folder, streams=["rgb"], **CLOCK)) == ["a_rgb", "b"]

    def test_streams_that_are_not_there(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, **{f"{name}_{stream}": rows(name) for name in "ab" for stream in ("rgb", "flow")})
        with pytest.raises(HrproError, match="has the streams rgb, flow, but `streams` names clip"):
            imported(folder, streams=["clip"], **CLOCK)
        assert imported(folder, streams=["flow"], **CLOCK)["a"].header.widths == {"flow": 1024}
        with pytest.raises(UsageError, match="expected a name of letters"):
            imported(folder, streams=["../x"], **CLOCK)

    def test_all_problems_at_once_and_nothing_written(self, tmp_path: Path) -> None:
        folder = self.made(
            tmp_path,
            good=rows("a", 256),
            other=rows("b", 256),
            third=rows("c", 256),
            wide=np.ones((9, 384), np.float32),
            flat=np.ones(256, np.float32),
            empty=np.ones((0, 256), np.float32),
            whole=np.ones((3, 256), np.int64),
        )
        (folder / "damaged.npy").write_bytes(b"\x93NUMPY\x01\x00")
        save(folder / "more" / "good.npy", rows("a", 256))
        problems = problems_of(import_features, folder, tmp_path / "out")
        text = "\n".join(problems)
        for name in ("wide", "flat", "empty", "whole", "damaged", "more/good"):
            assert name in text
        assert len(problems) == 6 and not (tmp_path / "out").exists()
        (nan,) = problems_of(
            lambda: import_features(
                self.made(tmp_path / "nan", a=np.full((9, 256), np.nan, np.float32)), tmp_path / "out", **CLOCK
            )
        )
        assert nan == "a: NaN or infinite values"

    def test_several_kinds_of_files(self, tmp_path: Path) -> None:
        folder = self.made(tmp_path, a=rows("a"))
        np.savez(folder / "b.npz", rows("b"))
        with pytest.raises(HrproError, match="holds 1 .npy and 1 .npz files; put the features into a folder of their"):
            imported(folder)

    def test_our_own_features_and_no_features(self, tmp_path: Path) -> None:
        imported(self.made(tmp_path, a=rows("a")), **CLOCK)
        with pytest.raises(HrproError, match="a feature file of this tool already"):
            import_features(tmp_path / "imported", tmp_path / "out")
        (tmp_path / "empty").mkdir()
        with pytest.raises(HrproError, match="layout of the published archives"):
            import_features(tmp_path / "empty", tmp_path / "out")
        (tmp_path / "text.txt").write_text("x")
        with pytest.raises(HrproError, match="not a file of arrays"):
            import_features(tmp_path / "text.txt", tmp_path / "out")


@pytest.mark.parametrize(
    ("shapes", "orientation"),
    [
        ({"a": (20, 7), "b": (31, 7)}, "TD"),
        ({"a": (7, 20), "b": (7, 31)}, "DT"),
        ({"a": (100, 2048), "b": (100, 2048)}, "TD"),
        ({"a": (1408, 33)}, "DT"),
        ({"a": (1, 1024), "b": (1, 1024)}, "TD"),
        ({"a": (1, 1, 1024)}, "TD"),
        ({"a": (20, 1024, 1, 1)}, "TD"),
    ],
)
def test_orientation(shapes: dict[str, tuple[int, ...]], orientation: str) -> None:
    axes, problems = axes_of(shapes, None, None)
    assert (axes.orientation, problems) == (orientation, {})
    if "a" in shapes and len(shapes["a"]) > 2:
        assert axes.arranged(np.zeros(shapes["a"])).shape == axes.shape(shapes["a"])


def test_names_alone() -> None:
    layout = recognize(["x_y_rgb", "x_y_flow", "x_y_fps", "x_y_timestamps_ms", "x_rgb", "x_fps"])
    assert layout.videos == {"x": {"rgb": "x_rgb"}, "x_y": {"flow": "x_y_flow", "rgb": "x_y_rgb"}}
    assert layout.clocks["x"] == {"_fps": "x_fps"}
    assert recognize(["train/v_a", "val/v_b"], known_ids=["a", "b", "c"]).videos.keys() == {"a", "b"}
    assert recognize(["train/v_a"], known_ids=["v_a"]).videos.keys() == {"v_a"}
    assert recognize(["my_flow/a", "my_rgb/a", "my_slow/a"], streams=["slow"]).videos["a"].keys() == {
        "flow",
        "rgb",
        "slow",
    }
    assert recognize(["i3d_a_feats"], prefix="i3d_", suffix="_feats").videos.keys() == {"a"}


def test_resampling_keeps_means() -> None:
    rng = np.random.default_rng(0)
    array = rng.random((40, 3))
    dense, wide = SnippetClock(30, 4, 4), SnippetClock(25, 16, 16)
    result = resample(array, dense, wide, 8)
    for index in range(8):
        first, last = index * 0.64 / (4 / 30), (index + 1) * 0.64 / (4 / 30)
        edges = np.arange(41)
        shares = np.clip(np.minimum(last, edges[1:]) - np.maximum(first, edges[:-1]), 0, None)
        shares[-1] += max(0.0, last - 40)
        np.testing.assert_allclose(result[index], shares @ array / shares.sum(), rtol=1e-9)
    assert resample(array, dense, dense, 40) is array
    finer = resample(array, wide, dense, 10)  # each row of 0.13 s within one of 0.64 s, or over two
    np.testing.assert_allclose(finer[:4], np.repeat(array[:1], 4, axis=0))
    np.testing.assert_allclose(finer[4], 0.8 * array[0] + 0.2 * array[1])


def test_a_common_clock(tmp_path: Path) -> None:
    for name in LENGTHS:
        save(tmp_path / "made" / f"{name}.npy", np.full((LENGTHS[name], 256), 2.5, np.float32))
    choice = {"annotations": annotations(tmp_path, 8), "fps": "native", "stride": 8, "snippet_frames": 8}
    found = imported(tmp_path / "made", resample=True, **choice)
    for name, features in found.items():
        header = features.header
        assert header.clock == SnippetClock()
        assert header.num_snippets == SnippetClock().num_snippets(round(LENGTHS[name] * 8 / RATES[name] * 25))
        assert (features.streams["rgb"] == 2.5).all()


@pytest.mark.parametrize(
    ("frames", "expected"),
    [((64, 128), (64, 64)), ((65, 129), (64, 64)), ((25, 41), (24, 16)), ((24,), (24, None)), ((0, 1, 2), (1, 1))],
)
def test_clock_of_video_features(frames: tuple[int, ...], expected: tuple[int, int | None]) -> None:
    assert Sidecar(29.97, np.array(frames) / 29.97 * 1000).clock() == expected
