"""Feature files: what is right is read, what is wrong is reported all at once."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from made_features import store_random

from hrpro_pipeline.data.features import list_features, read_features, read_header
from hrpro_pipeline.errors import HrproError, ProblemsError


class TestFeatures:
    def test_round_trip(self, tmp_path: Path) -> None:
        path = store_random(tmp_path, "a", 7, settings={"crop": 224}, weights={"rgb": "x"}, record={"decoder": "pyav"})
        features = read_features(path)
        assert features.header == read_header(path)
        assert features.joined().shape == (7, 8)
        np.testing.assert_array_equal(features.joined(("flow",)), features.streams["flow"])
        assert (features.header.settings, features.header.weights) == ({"crop": 224}, {"rgb": "x"})
        with h5py.File(path) as file:
            assert set(file.attrs) >= {
                *("schema", "video_id", "fps", "duration", "frames", "snippet_frames", "stride"),
                *("source", "settings", "weights"),
            }

    def test_half_precision_is_kept_and_joined_as_float32(self, tmp_path: Path) -> None:
        path = store_random(tmp_path, "a", streams={"rgb": np.ones((3, 4), np.float16)})
        features = read_features(path)
        assert (features.streams["rgb"].dtype, features.joined().dtype) == (np.float16, np.float32)

    @pytest.mark.parametrize(
        ("streams", "expected"),
        [
            ({"rgb": np.full((3, 4), np.nan)}, "NaN or infinite values in 3 of 3"),
            ({"rgb": np.ones((0, 4))}, "empty"),
            ({"rgb": np.ones((3, 4)), "flow": np.ones((2, 4))}, "different lengths"),
            ({"rgb": np.ones(3)}, "expected \\[T, D\\]"),
            ({"../rgb": np.ones((3, 4))}, "expected a name of letters"),
            ({}, "no streams"),
        ],
    )
    def test_wrong_arrays_are_not_written(self, tmp_path: Path, streams: dict, expected: str) -> None:
        with pytest.raises(ProblemsError, match=expected):
            store_random(tmp_path, "a", streams=streams)
        assert list(tmp_path.iterdir()) == []

    def test_nan_in_a_file_is_found_when_read(self, tmp_path: Path) -> None:
        path = store_random(tmp_path, "a")
        with h5py.File(path, "r+") as file:
            file["rgb"][4, 0] = np.nan
        with pytest.raises(ProblemsError, match="first at 4"):
            read_features(path)

    def test_files_that_are_no_features(self, tmp_path: Path) -> None:
        text = tmp_path / "text.h5"
        text.write_text("no")
        with pytest.raises(HrproError, match="not a readable HDF5 file"):
            read_header(text)
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["x"] = [1]
        with pytest.raises(HrproError, match="attribute schema"):
            read_header(tmp_path / "other.h5")
        with pytest.raises(HrproError, match="no such feature file"):
            read_header(tmp_path / "none.h5")
        empty = tmp_path / "empty"
        empty.mkdir()
        for folder in (empty, tmp_path / "nowhere"):
            with pytest.raises(HrproError, match="hrpro extract"):
                list_features(folder)

    def test_data_sets_of_other_files_are_refused(self, tmp_path: Path) -> None:
        path, other = store_random(tmp_path, "a"), store_random(tmp_path, "b")
        with h5py.File(path, "r+") as file:
            del file["rgb"]
            file["rgb"] = h5py.ExternalLink(str(other), "rgb")
        with pytest.raises(HrproError, match="rgb is not a data set of this file"):
            read_features(path)

    @pytest.mark.parametrize("name", ["source", "settings"])
    def test_attributes_of_the_wrong_kind(self, tmp_path: Path, name: str) -> None:
        path = store_random(tmp_path, "a")
        with h5py.File(path, "r+") as file:
            file.attrs[name] = "[1]"
        with pytest.raises(HrproError, match=f"{name}: not a JSON object"):
            read_header(path)

    def test_an_id_that_leaves_the_folder_is_refused(self, tmp_path: Path) -> None:
        path = store_random(tmp_path, "a")
        with h5py.File(path, "r+") as file:
            file.attrs["video_id"] = "../../etc/passwd"
        with pytest.raises(HrproError, match="not a plain name"):
            read_header(path)


@pytest.mark.parametrize("seed", range(40))
def test_a_file_with_damaged_structure_is_refused_in_one_line(tmp_path: Path, seed: int) -> None:
    """Heaps, trees and headers of HDF5: h5py tells of damage there by errors of many kinds."""
    path = store_random(tmp_path, "v")
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for signature in (b"HEAP", b"TREE", b"SNOD", b"OHDR", b"GCOL"):
        place = data.find(signature)
        if place >= 0 and rng.random() < 0.5:
            data[place + rng.integers(0, 64)] ^= 1 << rng.integers(0, 8)
    path.write_bytes(data)
    try:
        assert read_features(path).streams
    except HrproError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
