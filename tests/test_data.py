"""Annotations, points, features and archives: what is right is read, what is wrong is reported all at once."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from hrpro_pipeline.data.annotations import in_subset, read_ambiguous, read_annotations, read_ids
from hrpro_pipeline.data.archive import import_archive
from hrpro_pipeline.data.dataset import load_training_set
from hrpro_pipeline.data.detections import (
    Curves,
    Detection,
    VideoDetections,
    read_detections,
    write_activitynet,
    write_detections,
)
from hrpro_pipeline.data.features import feature_path, list_features, read_features, read_header, write_features
from hrpro_pipeline.data.files import git_blob_sha1, replacing, safe_id
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError, ProblemsError

CLOCK = SnippetClock()


def store(folder: Path, video_id: str, num_snippets: int = 10, dim: int = 4, **changes: object) -> Path:
    rng = np.random.default_rng(num_snippets)
    streams = {name: rng.random((num_snippets, dim), np.float32) for name in ("rgb", "flow")}
    values = {
        "clock": CLOCK,
        "video_id": video_id,
        "duration_seconds": num_snippets * 0.64,
        "num_frames": num_snippets * 16,
        "source": {"name": f"{video_id}.mp4", "fps": 30.0},
    } | changes
    path = feature_path(folder, video_id)
    write_features(path, values.pop("streams", streams), **values)  # type: ignore[arg-type]
    return path


def problems_of(function: object, *arguments: object) -> list[str]:
    with pytest.raises(ProblemsError) as caught:
        function(*arguments)  # type: ignore[operator]
    return caught.value.problems


class TestClock:
    def test_seconds_and_positions_are_inverse(self) -> None:
        for clock in (CLOCK, SnippetClock(30, 16, 4), SnippetClock(15, 64, 8)):
            positions = np.array([0.0, 0.5, 7.25])
            np.testing.assert_allclose(clock.to_positions(clock.to_seconds(positions)), positions)

    @pytest.mark.parametrize(("frames", "count"), [(1, 1), (15, 1), (16, 1), (31, 1), (32, 2), (250, 15), (452, 28)])
    def test_number_of_snippets(self, frames: int, count: int) -> None:
        assert CLOCK.num_snippets(frames) == count

    def test_overlapping_snippets_are_centered_on_their_windows(self) -> None:
        clock = SnippetClock(25, 16, 4)
        middle = clock.to_seconds(np.array([10.5]))[0]
        assert middle == pytest.approx(sum(clock.window_seconds(10)) / 2)

    def test_a_time_on_a_border_belongs_to_the_later_snippet(self) -> None:
        times = np.arange(1, 50) * 0.64
        np.testing.assert_array_equal(CLOCK.index_at(times, 100), np.arange(1, 50))

    def test_times_in_the_dropped_tail_belong_to_the_last_snippet(self) -> None:
        assert CLOCK.index_at(np.array([6.9]), 10)[0] == 9


class TestAnnotations:
    def write(self, tmp_path: Path, content: object) -> Path:
        path = tmp_path / "gt.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def test_reads(self, tmp_path: Path) -> None:
        entry = {"subset": "Test", "duration": 9.5, "fps": 30, "annotations": [{"label": "run", "segment": [1, 2.5]}]}
        videos = read_annotations(self.write(tmp_path, {"database": {"a": entry, "b": {"subset": "train"}}}))
        assert videos["a"].segments[0].end_seconds == 2.5
        assert (videos["b"].duration_seconds, videos["b"].segments) == (None, ())
        assert list(in_subset(videos, "test")) == ["a"]

    def test_all_problems_at_once(self, tmp_path: Path) -> None:
        database = {
            "a": {"duration": -1, "annotations": [{"label": "", "segment": [0, 1]}]},
            "b": {
                "fps": "fast",
                "annotations": [{"label": "run", "segment": [3, 2]}, {"label": "run", "segment": [1]}],
            },
            "../c": {"annotations": []},
            "d": 3,
        }
        problems = problems_of(read_annotations, self.write(tmp_path, {"database": database}))
        assert len(problems) == 7
        for number, part in enumerate(("a: duration", "a, annotation 1: label", "b: fps", "b, annotation 1", "'../c'")):
            assert any(part in problem for problem in problems), (number, problems)

    def test_numbers_as_text(self, tmp_path: Path) -> None:
        entry = {"annotations": [{"label": "run", "segment": ["67.5", "75.9"]}]}
        videos = read_annotations(self.write(tmp_path, {"database": {"a": entry}}))
        assert videos["a"].segments[0].start_seconds == 67.5

    def test_duplicate_ids(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, '{"database": {"a": {"annotations": []}, "a": {"annotations": []}}}')
        assert "a: appears twice" in problems_of(read_annotations, path)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ('{"database": ' + "9" * 5000 + "}", "not JSON that can be read"),
            ("{", "line 1: not JSON"),
            ("", "not JSON"),
            ([], "no 'database'"),
            ({"database": {}}, "is empty"),
        ],
    )
    def test_unusable(self, tmp_path: Path, content: object, expected: str) -> None:
        with pytest.raises(HrproError, match=expected):
            read_annotations(self.write(tmp_path, content))

    def test_unknown_subset_lists_those_that_there_are(self, tmp_path: Path) -> None:
        videos = read_annotations(self.write(tmp_path, {"database": {"a": {"subset": "Validation"}}}))
        with pytest.raises(HrproError, match=r"Validation \(1\)"):
            in_subset(videos, "Test")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(HrproError, match="no such file"):
            read_annotations(tmp_path / "none.json")


class TestPoints:
    def read(self, tmp_path: Path, text: str) -> list:
        path = tmp_path / "points.csv"
        path.write_text(text)
        return read_points(path)

    def test_time_and_frame_columns(self, tmp_path: Path) -> None:
        rows = self.read(tmp_path, "\ufeffvideo_id,class,time,point\na,run,1.5,\nb,sit,,30\n\n")
        assert [(row.seconds, row.frame, row.line) for row in rows] == [(1.5, None, 2), (None, 30.0, 3)]

    def test_all_problems_at_once_with_their_lines(self, tmp_path: Path) -> None:
        text = "video_id,class,time\na,run,soon\n,run,1\nb,,1\nc,run,-2\n../d,run,1\ne,run,nan\nf,run,1\n"
        problems = problems_of(self.read, tmp_path, text)
        assert [problem.split(":")[0] for problem in problems] == [f"line {n}" for n in range(2, 8)]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "empty"),
            ("video_id,class,time\n", "no points"),
            ("video_id,time\n", "no column class"),
            ("video_id,class\n", "no column 'time'"),
        ],
    )
    def test_unusable(self, tmp_path: Path, text: str, expected: str) -> None:
        with pytest.raises(HrproError, match=expected):
            self.read(tmp_path, text)


def test_id_lists(tmp_path: Path) -> None:
    path = tmp_path / "split.txt"
    path.write_text("a\n\nb \n")
    assert read_ids(path) == ["a", "b"]
    path.write_text("a\nb\na\n../c\n")
    assert len(problems_of(read_ids, path)) == 2
    path.write_text("\n")
    assert "empty" in problems_of(read_ids, path)[0]


def test_ambiguous_segments(tmp_path: Path, annotations: Path) -> None:
    segments = read_ambiguous(annotations / "THUMOS14" / "Ambiguous_test.txt")
    assert sum(map(len, segments.values())) == 99
    path = tmp_path / "ambiguous.txt"
    path.write_text("a 1 2\nb 1\nc one 2\n")
    assert len(problems_of(read_ambiguous, path)) == 2


class TestFeatures:
    def test_round_trip(self, tmp_path: Path) -> None:
        path = store(tmp_path, "a", 7, settings={"crop": 224}, weights={"rgb": "x"}, record={"decoder": "pyav"})
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
        path = store(tmp_path, "a", streams={"rgb": np.ones((3, 4), np.float16)})
        features = read_features(path)
        assert (features.streams["rgb"].dtype, features.joined().dtype) == (np.float16, np.float32)

    @pytest.mark.parametrize(
        ("streams", "expected"),
        [
            ({"rgb": np.full((3, 4), np.nan)}, "NaN or infinite values in 3 of 3"),
            ({"rgb": np.ones((0, 4))}, "empty"),
            ({"rgb": np.ones((3, 4)), "flow": np.ones((2, 4))}, "different lengths"),
            ({"rgb": np.ones(3)}, "expected \\[T, D\\]"),
            ({"sound": np.ones((3, 4))}, "expected one of rgb, flow"),
            ({}, "no streams"),
        ],
    )
    def test_wrong_arrays_are_not_written(self, tmp_path: Path, streams: dict, expected: str) -> None:
        with pytest.raises(ProblemsError, match=expected):
            store(tmp_path, "a", streams=streams)
        assert list(tmp_path.iterdir()) == []

    def test_nan_in_a_file_is_found_when_read(self, tmp_path: Path) -> None:
        path = store(tmp_path, "a")
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
        path, other = store(tmp_path, "a"), store(tmp_path, "b")
        with h5py.File(path, "r+") as file:
            del file["rgb"]
            file["rgb"] = h5py.ExternalLink(str(other), "rgb")
        with pytest.raises(HrproError, match="rgb is not a data set of this file"):
            read_features(path)

    @pytest.mark.parametrize("name", ["source", "settings"])
    def test_attributes_of_the_wrong_kind(self, tmp_path: Path, name: str) -> None:
        path = store(tmp_path, "a")
        with h5py.File(path, "r+") as file:
            file.attrs[name] = "[1]"
        with pytest.raises(HrproError, match=f"{name}: not a JSON object"):
            read_header(path)

    def test_an_id_that_leaves_the_folder_is_refused(self, tmp_path: Path) -> None:
        path = store(tmp_path, "a")
        with h5py.File(path, "r+") as file:
            file.attrs["video_id"] = "../../etc/passwd"
        with pytest.raises(HrproError, match="not a plain name"):
            read_header(path)


def test_replacing_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_git_blob_digest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert git_blob_sha1(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # `git hash-object` of the same bytes


def test_safe_ids() -> None:
    assert safe_id("v_GGSY1Qvo990") == "v_GGSY1Qvo990"
    assert safe_id("../a b/\n.mp4") not in ("", ".", "..")
    assert "/" not in safe_id("a/b")
    with pytest.raises(HrproError):
        safe_id("...")


class TestTrainingSet:
    def write_points(self, tmp_path: Path, text: str) -> Path:
        path = tmp_path / "points.csv"
        path.write_text("video_id,class,time,point\n" + text)
        return path

    def annotations(self, tmp_path: Path) -> dict:
        path = tmp_path / "gt.json"
        entry = {"duration": 6.4, "fps": 10, "annotations": [{"label": label, "segment": [0, 1]} for label in "xy"]}
        path.write_text(json.dumps({"database": {"a": entry, "b": entry}}))
        return read_annotations(path)

    def load(self, tmp_path: Path, text: str, annotated: bool = True, **more: object):  # noqa: ANN202
        truth = self.annotations(tmp_path) if annotated else {}
        return load_training_set(tmp_path / "features", read_points(self.write_points(tmp_path, text)), truth, **more)

    def test_joins(self, tmp_path: Path) -> None:
        store(tmp_path / "features", "a")
        store(tmp_path / "features", "b")
        data = self.load(tmp_path, "a,y,3.2,\na,x,0.1,\nb,x,,10\n")
        assert data.classes == ("x", "y")
        first, second = data.videos
        np.testing.assert_allclose(first.positions, [0.1 / 0.64, 5.0])
        assert (first.labels.tolist(), first.snippets.tolist()) == ([0, 1], [0, 5])
        assert second.snippets.tolist() == [1]  # frame 10 at 10 fps is 1 s

    def test_points_alone_are_enough(self, tmp_path: Path) -> None:
        store(tmp_path / "features", "a")
        data = self.load(tmp_path, "a,run,1,\na,sit,,60\n", annotated=False)
        assert data.classes == ("run", "sit")
        assert data.videos[0].snippets.tolist() == [1, 3]  # the frame rate is that of the video file

    def test_one_stream(self, tmp_path: Path) -> None:
        store(tmp_path / "features", "a")
        data = self.load(tmp_path, "a,x,1,\n", streams=("flow",))
        assert data.widths == {"flow": 4}
        assert data.videos[0].features.shape == (10, 4)

    def test_all_problems_at_once(self, tmp_path: Path) -> None:
        folder = tmp_path / "features"
        store(folder, "a")
        store(folder, "b", dim=6)
        bad = store(folder, "nan")
        with h5py.File(bad, "r+") as file:
            file["flow"][0, 0] = np.inf
        text = "a,xx,1,\na,x,99,\nb,x,1,\nnan,y,1,\nnone,y,1,\n"
        problems = problems_of(self.load, tmp_path, text)
        for part in (
            "line 2: unknown class 'xx'; did you mean 'x'",
            "line 3: 99.00 s is past the end of a (6.40 s)",
            "none: no features (none.h5)",
            "b.h5: width of rgb",
            "NaN or infinite",
        ):
            assert any(part in problem for problem in problems), (part, problems)

    def test_features_made_with_other_settings_or_weights(self, tmp_path: Path) -> None:
        store(tmp_path / "features", "a", settings={"crop": 224}, weights={"rgb": "x", "flow": "y"})
        store(tmp_path / "features", "b", settings={"crop": 64}, weights={"rgb": "z", "flow": "y"})
        problems = problems_of(self.load, tmp_path, "a,x,1,\nb,x,1,\n")
        assert "b.h5: crop 64, but a.h5 has 224" in problems[0]
        assert "b.h5: weights" in problems[1]

    def test_a_stream_that_is_not_used_may_differ(self, tmp_path: Path) -> None:
        store(tmp_path / "features", "a", weights={"rgb": "x", "flow": "y"})
        store(tmp_path / "features", "b", weights={"rgb": "z", "flow": "y"})
        assert len(self.load(tmp_path, "a,x,1,\nb,x,1,\n", streams=("flow",)).videos) == 2

    def test_a_named_video_without_points(self, tmp_path: Path) -> None:
        store(tmp_path / "features", "a")
        store(tmp_path / "features", "b")
        problems = problems_of(lambda: self.load(tmp_path, "a,x,1,\n", video_ids=["a", "b"]))
        assert problems == ["b: no points; a training video needs at least one"]

    def test_frames_without_frame_rate(self, tmp_path: Path) -> None:
        store(tmp_path / "features", "a", source={})
        problems = problems_of(lambda: self.load(tmp_path, "a,x,,10\n", annotated=False))
        assert "frame rate is unknown" in problems[0]

    def test_a_point_in_the_tail_that_snippets_drop_is_kept(self, tmp_path: Path) -> None:
        store(tmp_path / "features", "a", duration_seconds=6.9)
        assert self.load(tmp_path, "a,x,6.8,\n").videos[0].snippets.tolist() == [9]


class TestArchive:
    def make(self, folder: Path, **arrays: np.ndarray) -> Path:
        (folder / "features" / "train").mkdir(parents=True)
        for name, array in arrays.items():
            np.save(folder / "features" / "train" / f"{name}.npy", array)
        return folder

    def test_rgb_comes_first(self, tmp_path: Path) -> None:
        array = np.random.default_rng(0).random((12, 8), np.float32)
        archive = self.make(tmp_path / "archive", a=array)
        assert import_archive(archive, tmp_path / "out", CLOCK) == ["a"]
        features = read_features(feature_path(tmp_path / "out", "a"))
        np.testing.assert_array_equal(features.streams["rgb"], array[:, :4])
        np.testing.assert_array_equal(features.joined(), array)
        assert features.header.duration_seconds == pytest.approx(12 * 0.64)

    def test_all_problems_at_once_and_nothing_written(self, tmp_path: Path) -> None:
        good = np.ones((3, 8), np.float32)
        archive = self.make(
            tmp_path / "archive",
            good=good,
            nan=np.full((3, 8), np.nan, np.float32),
            odd=np.ones((3, 7), np.float32),
            flat=np.ones(3, np.float32),
            empty=np.ones((0, 8), np.float32),
            wide=np.ones((3, 10), np.float32),
            objects=np.array([{}], object),
        )
        (archive / "features" / "test").mkdir()
        np.save(archive / "features" / "test" / "good.npy", good)
        problems = problems_of(import_archive, archive, tmp_path / "out", CLOCK)
        assert len(problems) == 7
        assert not (tmp_path / "out").exists()

    def test_a_clock_that_does_not_fit_the_durations(self, tmp_path: Path) -> None:
        archive = self.make(tmp_path / "archive", a=np.ones((20, 8), np.float32))
        (archive / "gt_full.json").write_text(json.dumps({"database": {"a": {"duration": 20 * 16 / 15}}}))
        with pytest.raises(ProblemsError, match="choose the preset whose frame rate"):
            import_archive(archive, tmp_path / "out", CLOCK)
        assert import_archive(archive, tmp_path / "out", SnippetClock(15)) == ["a"]

    def test_no_archive(self, tmp_path: Path) -> None:
        with pytest.raises(HrproError, match="layout of the published archives"):
            import_archive(tmp_path, tmp_path / "out", CLOCK)


class TestDetections:
    def test_both_formats_round_trip(self, tmp_path: Path) -> None:
        items = (Detection("run", 0.9, 1.0, 2.0), Detection("sit", 0.1, 3.0, 4.5))
        videos = [VideoDetections("a", items, 9.0, "a.mp4", "m"), VideoDetections("b", ())]
        for video in videos:
            write_detections(tmp_path / "each", video)
        content = json.loads((tmp_path / "each" / "a.json").read_text())
        assert content["detections"][0] == {"label": "run", "score": 0.9, "segment": [1.0, 2.0]}
        assert read_detections(tmp_path / "each") == {video.video_id: video for video in videos}
        write_activitynet(tmp_path / "all.json", videos)
        assert read_detections(tmp_path / "all.json")["a"].detections == items

    def test_curves_round_trip(self, tmp_path: Path) -> None:
        curves = Curves(0.32, 0.64, ("run", "sit"), ((0.1, 0.2, 0.3), (0.0, 0.5, 1.0)), (0.9, 0.8, 0.7))
        video = VideoDetections(
            "a", (Detection("run", 0.9, 1.0, 2.0),), 9.0, "a.mp4", "m", curves, ("run", "sit", "walk"), "cut short"
        )
        path = write_detections(tmp_path, video)
        assert read_detections(path) == {"a": video}
        assert json.loads(path.read_text())["curves"]["classes"] == ["run", "sit"]
        assert len(path.read_text().splitlines()) == 20, "classes and curves are a line each"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"start": None},
            {"attention": [0.1]},
            {"scores": []},
            {"scores": [[0.1, "x"]]},
            {"seconds_per_point": 0},
            {"attention": [0.1, float("nan")]},
        ],
    )
    def test_wrong_curves(self, tmp_path: Path, wrong: dict) -> None:
        right = {"start": 0, "seconds_per_point": 1, "classes": ["a"], "scores": [[0, 1]], "attention": [0, 1]}
        content = {"schema": "hrpro.detections/1", "video_id": "v", "detections": [], "curves": right}
        (tmp_path / "v.json").write_text(json.dumps(content))
        assert read_detections(tmp_path)["v"].curves is not None
        (tmp_path / "v.json").write_text(json.dumps(content | {"curves": right | wrong}))
        with pytest.raises(HrproError, match="v.json: curves need start"):
            read_detections(tmp_path)

    def test_all_problems_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text("{")
        (tmp_path / "b.json").write_text('{"schema": "other"}')
        broken = {"results": {"c": [{"label": "x", "score": "high", "segment": [1, 2]}, {"label": "x", "score": 1}]}}
        (tmp_path / "c.json").write_text(json.dumps(broken))
        assert len(problems_of(read_detections, tmp_path)) == 4

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(HrproError, match="no detections"):
            read_detections(tmp_path)
