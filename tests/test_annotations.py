"""Annotations, lists of ids, ambiguous segments: what is right is read, what is wrong is reported all at once."""

import json
from pathlib import Path

import pytest
from conftest import problems_of

from hrpro_pipeline.data.annotations import in_subset, read_ambiguous, read_annotations, read_ids
from hrpro_pipeline.errors import HrproError


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

    def test_segments_without_length_and_early_starts(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        bounds = [[0, 0], [0.01, 0.02], [-0.3, 4], ["5.0", 5], [-0.5, -0.1], [3, 4]]
        entry = {"annotations": [{"label": "run", "segment": bound} for bound in bounds]}
        videos = read_annotations(self.write(tmp_path, {"database": {"a": entry, "b": entry}}))
        spans = [(item.start_seconds, item.end_seconds) for item in videos["a"].segments]
        assert spans == [(0.01, 0.02), (0, 4), (3, 4)]
        (text,) = caplog.messages
        assert "without length, left out: 6 (a [0, 0], ...)" in text
        assert "start before 0, cut there: 2 (a [-0.3, 4], ...)" in text

    @pytest.mark.parametrize("bounds", [[2, 1], [0.5, -0.2], [-3, 2], [-0.1, -0.2]])
    def test_reversed_or_far_too_early(self, tmp_path: Path, bounds: list[float]) -> None:
        entry = {"annotations": [{"label": "run", "segment": [0, 0]}, {"label": "run", "segment": bounds}]}
        (problem,) = problems_of(read_annotations, self.write(tmp_path, {"database": {"a": entry}}))
        assert problem.startswith("a, annotation 2: segment")

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
