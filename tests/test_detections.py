"""Detection files: both formats and their curves, written and read."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import problems_of

from hrpro_pipeline.cli import main
from hrpro_pipeline.data.detections import (
    Curves,
    Detection,
    VideoDetections,
    read_detections,
    write_activitynet,
    write_detections,
)
from hrpro_pipeline.errors import HrproError


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

    @pytest.mark.parametrize("command", ["evaluate", "report"])
    @pytest.mark.parametrize(
        ("score", "segment"), [("NaN", "[1, 2]"), ("1", "[NaN, 2]"), ("1", "[0, Infinity]"), ("1", "[2, 1]")]
    )
    def test_every_command_refuses_alike(self, tmp_path: Path, command: str, score: str, segment: str) -> None:
        fine = '{"label": "run", "score": 1, "segment": [1, 2]}'
        wrong = f'{{"label": "run", "score": {score}, "segment": {segment}}}'
        (tmp_path / "all.json").write_text(f'{{"results": {{"a": [{fine}], "b": [{fine}, {wrong}]}}}}')
        truth = {"database": {"a": {"annotations": [{"label": "run", "segment": [1, 2]}]}}}
        (tmp_path / "gt.json").write_text(json.dumps(truth))
        arguments = [command, tmp_path / "all.json", "--annotations", tmp_path / "gt.json"]
        arguments += ["--out", tmp_path / "page.html"] if command == "report" else []
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exit_code == 1
        assert "all.json, b, detection 2: " in result.output
        assert not (tmp_path / "page.html").exists()

    def test_one_threshold(self, tmp_path: Path) -> None:
        (tmp_path / "all.json").write_text('{"results": {"a": [{"label": "run", "score": 1, "segment": [1, 2]}]}}')
        truth = {"database": {"a": {"annotations": [{"label": "run", "segment": [1, 2]}]}}}
        (tmp_path / "gt.json").write_text(json.dumps(truth))
        arguments = ["evaluate", tmp_path / "all.json", "--annotations", tmp_path / "gt.json", "--json", "--tiou"]
        result = CliRunner().invoke(main, [*map(str, arguments), "0.5"])
        assert json.loads(result.stdout)["tiou"] == [0.5]
        for wrong in ("1.5", "0", "half", "nan", "0.5:"):
            assert CliRunner().invoke(main, [*map(str, arguments), wrong]).exit_code == 2, wrong

    def test_duration_that_is_no_number(self, tmp_path: Path) -> None:
        (tmp_path / "v.json").write_text(
            '{"schema": "hrpro.detections/1", "video_id": "v", "duration": NaN, "detections": []}'
        )
        with pytest.raises(HrproError, match="v.json: duration is nan"):
            read_detections(tmp_path)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(HrproError, match="no detections"):
            read_detections(tmp_path)
