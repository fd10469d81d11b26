"""Point labels, read from files and drawn from segments."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import problems_of
from made_features import made_set

from hrpro_pipeline import write_points
from hrpro_pipeline.cli import main
from hrpro_pipeline.data.annotations import Segment, VideoAnnotation, read_annotations
from hrpro_pipeline.data.drawn_points import draw_points
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.errors import HrproError


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with annotations of 8 training and 3 test videos."""
    return made_set(tmp_path_factory.mktemp("stored"), num_train=8, num_test=3)


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

    def test_as_people_set_them(self) -> None:
        """Shares and places of four people, over many actions: inside at their own place, outside, or forgotten."""
        segments = tuple(
            Segment("a", 20.0 * number, 20.0 * number + length) for number, length in enumerate([1, 5] * 2000)
        )
        video = VideoAnnotation("v", "", 80_000.0, None, segments)
        for person, (mean, std) in enumerate([(0.30, 0.20), (0.57, 0.20), (0.60, 0.19), (0.34, 0.21)]):
            seconds = np.array([point.seconds for point in draw_points([video], "human", person)])
            number = np.round(seconds / 20 - 0.1).astype(int)
            place = (seconds - 20 * number) / np.where(number % 2, 5, 1)
            inside = (place >= 0) & (place <= 1)
            assert 0.02 < 1 - inside.mean() < 0.04
            assert place[inside].mean() == pytest.approx(mean, abs=0.03)
            assert place[inside].std() == pytest.approx(std, abs=0.03)
            forgotten = [1 - (number % 2 == odd).sum() / 2000 for odd in (0, 1)]
            assert 0.055 < forgotten[0] < 0.095
            assert 0.025 < forgotten[1] < 0.055

    @pytest.mark.parametrize("distribution", ["uniform", "center", "gaussian"])
    def test_one_in_each_segment(self, stored: Path, tmp_path: Path, distribution: str) -> None:
        out = tmp_path / "drawn.csv"
        arguments = ["points", "--annotations", stored / "gt.json", "--subset", "validation", "--out", out]
        result = CliRunner().invoke(main, [*map(str, arguments), "--distribution", distribution])
        assert result.exit_code == 0, result.output
        points = read_points(out)
        truth = read_annotations(stored / "gt.json")
        assert len(points) == 16
        places = []
        for point in points:
            own = [item for item in truth[point.video_id].segments if item.label == point.label]
            assert len(own) == 1
            assert point.seconds is not None
            places.append((point.seconds - own[0].start_seconds) / (own[0].end_seconds - own[0].start_seconds))
        assert min(places) >= 0
        assert max(places) <= 1
        spread = {"uniform": (0.15, 0.4), "center": (0, 1e-3), "gaussian": (0.01, 0.06)}[distribution]
        assert spread[0] <= np.std(places) <= spread[1]

    @pytest.mark.parametrize("distribution", ["uniform", "center", "gaussian"])
    def test_inside_the_video(self, tmp_path: Path, caplog: pytest.LogCaptureFixture, distribution: str) -> None:
        """THUMOS14's own file has segments past the end of their videos."""
        segments = [[0.01, 0.02], [8, 20], [9.9996, 30], [12, 14]]
        items = [{"label": f"c{number}", "segment": bounds} for number, bounds in enumerate(segments)]
        (tmp_path / "gt.json").write_text(json.dumps({"database": {"a": {"duration": 10, "annotations": items}}}))
        write_points(tmp_path / "gt.json", tmp_path / "out.csv", distribution)
        points = read_points(tmp_path / "out.csv")
        assert [point.label for point in points] == ["c0", "c1", "c2"]
        for point, (start, end) in zip(points, segments, strict=False):
            assert start <= point.seconds <= min(end, 10)
        assert "without a point: 1, first a [12, 14]" in caplog.text

    def test_a_function_of_the_seed(self, stored: Path, tmp_path: Path) -> None:
        texts = []
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            write_points(stored / "gt.json", tmp_path / name, "uniform", seed=seed)
            texts.append((tmp_path / name).read_text())
        assert texts[0] == texts[1] != texts[2]

    def test_no_segments(self, tmp_path: Path) -> None:
        (tmp_path / "gt.json").write_text(json.dumps({"database": {"a": {"subset": "x"}}}))
        with pytest.raises(HrproError, match="no segments to draw points from"):
            write_points(tmp_path / "gt.json", tmp_path / "out.csv", "center")


class TestSpreadsheets:
    """Files as spreadsheets and players write them mean what their makers see."""

    def read(self, tmp_path: Path, content: bytes | str, encoding: str = "utf-8") -> list:
        path = tmp_path / "points.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return [(row.video_id, row.label, row.seconds) for row in read_points(path)]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_encodings_and_separators(self, tmp_path: Path, encoding: str, separator: str, line_end: str) -> None:
        lines = [["video_id", "class", "time"], ["a", "Größe", "3"], ["b c", "créée", "12.25"]]
        text = "".join(separator.join(cells) + line_end for cells in lines)
        assert self.read(tmp_path, text, encoding) == [("a", "Größe", 3), ("b c", "créée", 12.25)]

    @pytest.mark.parametrize(
        "content", [b"sep=;\r\nvideo_id;class;time\r\na;x;3,5\r\n", b"time;video_id;class\n3,5;a;x"]
    )
    def test_decimal_commas(self, tmp_path: Path, content: bytes) -> None:
        assert self.read(tmp_path, content) == [("a", "x", 3.5)]

    @pytest.mark.parametrize(
        ("cell", "seconds"),
        [
            ("1:02:03.4", 3723.4),
            ("01:02:03", 3723),
            ("02:03.4", 123.4),
            ("75:30", 4530),
            ("0:00:03,500", 3.5),
            ("0:7", 7),
        ],
    )
    def test_clock_times(self, tmp_path: Path, cell: str, seconds: float) -> None:
        for separator in ";\t":
            header, row = separator.join(["video_id", "class", "time"]), separator.join(["a", "x", cell])
            assert self.read(tmp_path, f"{header}\n{row}\n") == [("a", "x", pytest.approx(seconds))]
        assert self.read(tmp_path, f'video_id,class,time\na,x,"{cell}"\n') == [("a", "x", pytest.approx(seconds))]

    @pytest.mark.parametrize("cell", ["00:01:02:12", "1:75:00", "1:60", "-1:30", "1:", "1:02:03 PM", "1::3"])
    def test_clock_times_that_could_mean_anything(self, tmp_path: Path, cell: str) -> None:
        with pytest.raises(HrproError, match=r"line 2: time is .*such as 3.5, or a clock time such as 1:02:03.4"):
            self.read(tmp_path, f"video_id,class,time\na,x,{cell}\n")

    @pytest.mark.parametrize("cells", [["1,234"], ["1,500", "2,250"]])
    def test_a_comma_that_may_be_of_thousands(self, tmp_path: Path, cells: list[str]) -> None:
        rows = "".join(f'a,x,"{cell}"\n' for cell in cells)
        with pytest.raises(HrproError, match="such as 3.5"):
            self.read(tmp_path, f"video_id,class,time\n{rows}")
        with pytest.raises(HrproError, match="such as 3.5"):
            self.read(tmp_path, "video_id;class;time\na;x;1,5\na;x;2.5\n")

    @pytest.mark.parametrize(("text", "encoding"), [("прыжок", "cp1251"), ("打球", "gbk"), ("ジャンプ", "shift_jis")])
    def test_encodings_that_cannot_be_told(self, tmp_path: Path, text: str, encoding: str) -> None:
        with pytest.raises(HrproError, match="points.csv, line 3: .*not UTF-8.*save it as 'CSV UTF-8'"):
            self.read(tmp_path, f"video_id,class,time\na,x,1\na,{text},2\n", encoding)

    def test_a_spreadsheet(self, tmp_path: Path) -> None:
        with pytest.raises(HrproError, match="a spreadsheet, not text; save it as 'CSV UTF-8'"):
            self.read(tmp_path, b"PK\x03\x04" + bytes(range(256)))


def test_names_of_two_videos_that_are_one_id(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    names = ["clip #1", "clip &1.mp4", "clip _1", "clip #1.MOV", "Cafe\u0301", "Caf\u00e9", "clip &1"]
    path.write_text("\n".join(["video_id,class,time", *(f"{name},a,1" for name in names)]), encoding="utf-8")
    (problem,) = problems_of(read_points, path)
    assert problem == (
        "line 3: 'clip &1' and 'clip #1' (line 2) are both video 'clip _1'; "
        "write a video one way, and rename one of two videos"
    )
    path.write_text("video_id,class,time\nJohn's clip,a,1\nJohn_s clip,a,2\nJohn's clip.mp4,a,3\n")
    assert {point.video_id for point in read_points(path)} == {"John_s clip"}


def test_a_header_that_is_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes(b"video_id,class\rtime,point\nv,a,1\n")
    with pytest.raises(HrproError, match=r"points\.csv"):
        read_points(path)
