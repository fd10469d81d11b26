"""Features and points joined into a training set, or all their problems at once."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import problems_of
from made_features import store_random

from hrpro_pipeline.data.annotations import read_annotations
from hrpro_pipeline.data.dataset import load_training_set
from hrpro_pipeline.data.points import read_points


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
        store_random(tmp_path / "features", "a")
        store_random(tmp_path / "features", "b", source={})
        data = self.load(tmp_path, "a,y,3.2,\na,x,0.1,\nb,x,,10\n")
        assert data.classes == ("x", "y")
        first, second = data.videos
        np.testing.assert_allclose(first.positions, [0.1 / 0.64, 5.0])
        assert (first.labels.tolist(), first.snippets.tolist()) == ([0, 1], [0, 5])
        assert second.snippets.tolist() == [1]  # frame 10 at 10 fps is 1 s

    @pytest.mark.parametrize(("own", "snippet"), [(25.0, 3), (10.02, 9), (9.999, 9), (10.0, 9)])
    def test_annotated_rate_that_is_not_the_videos_own(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, own: float, snippet: int
    ) -> None:
        store_random(tmp_path / "features", "a", source={"fps": own})
        store_random(tmp_path / "features", "b", source={"fps": own})
        data = self.load(tmp_path, "a,x,,60\nb,x,1,\n")  # annotated: 10 fps
        assert data.videos[0].snippets.tolist() == [snippet]
        assert data.videos[0].positions == pytest.approx(60 / (10 if own == 9.999 else own) / 0.64)
        named = [text for text in caplog.messages if f"a: 10 annotated, {own:.4g} its own" in text]
        assert len(named) == (own in (25.0, 10.02))
        assert not any("b:" in text for text in named), "its points are in seconds"

    def test_points_alone_are_enough(self, tmp_path: Path) -> None:
        store_random(tmp_path / "features", "a")
        data = self.load(tmp_path, "a,run,1,\na,sit,,60\n", annotated=False)
        assert data.classes == ("run", "sit")
        assert data.videos[0].snippets.tolist() == [1, 3]  # the frame rate is that of the video file

    def test_one_stream(self, tmp_path: Path) -> None:
        store_random(tmp_path / "features", "a")
        data = self.load(tmp_path, "a,x,1,\n", streams=("flow",))
        assert data.widths == {"flow": 4}
        assert data.videos[0].features.shape == (10, 4)

    def test_all_problems_at_once(self, tmp_path: Path) -> None:
        folder = tmp_path / "features"
        store_random(folder, "a")
        store_random(folder, "b", dim=6)
        bad = store_random(folder, "nan")
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
        store_random(tmp_path / "features", "a", settings={"crop": 224}, weights={"rgb": "x", "flow": "y"})
        store_random(tmp_path / "features", "b", settings={"crop": 64}, weights={"rgb": "z", "flow": "y"})
        problems = problems_of(self.load, tmp_path, "a,x,1,\nb,x,1,\n")
        assert "b.h5: crop 64, but a.h5 has 224" in problems[0]
        assert "b.h5: weights" in problems[1]

    def test_a_stream_that_is_not_used_may_differ(self, tmp_path: Path) -> None:
        store_random(tmp_path / "features", "a", weights={"rgb": "x", "flow": "y"})
        store_random(tmp_path / "features", "b", weights={"rgb": "z", "flow": "y"})
        assert len(self.load(tmp_path, "a,x,1,\nb,x,1,\n", streams=("flow",)).videos) == 2

    def test_a_named_video_without_points(self, tmp_path: Path) -> None:
        store_random(tmp_path / "features", "a")
        store_random(tmp_path / "features", "b")
        problems = problems_of(lambda: self.load(tmp_path, "a,x,1,\n", video_ids=["a", "b"]))
        assert problems == ["b: no points; a training video needs at least one"]

    def test_frames_without_frame_rate(self, tmp_path: Path) -> None:
        store_random(tmp_path / "features", "a", source={})
        problems = problems_of(lambda: self.load(tmp_path, "a,x,,10\n", annotated=False))
        assert "frame rate is unknown" in problems[0]

    def test_the_first_frame_is_0(self, tmp_path: Path) -> None:
        store_random(tmp_path / "features", "a", record={"frames_in_container": 192})
        assert self.load(tmp_path, "a,x,,0\na,x,,191\n", annotated=False).videos[0].snippets.tolist() == [0, 9]
        (problem,) = problems_of(lambda: self.load(tmp_path, "a,x,,1\na,x,,192\n", annotated=False))
        assert problem.startswith("line 3: frame 192 is none of the frames 0 to 191 of a")
        assert problem.endswith("at the video's own rate, from 0")

    def test_a_point_in_the_tail_that_snippets_drop_is_kept(self, tmp_path: Path) -> None:
        store_random(tmp_path / "features", "a", duration_seconds=6.9)
        assert self.load(tmp_path, "a,x,6.8,\n").videos[0].snippets.tolist() == [9]
