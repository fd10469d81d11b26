"""Labels in numbers, and how far two sets of them agree."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hrpro_pipeline import compare_labels, summarize_labels
from hrpro_pipeline.cli import main
from hrpro_pipeline.data.formats.label import Label
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.agreement import agreement, cohen_kappa, matched_differences, occupied
from hrpro_pipeline.infer.label_summary import summarize


def test_classes_over_videos_and_in_each() -> None:
    labels = [
        Label("a", "pour", 4.0, 6.0),
        Label("a", "pour", 1.0, 3.0),
        Label("a", "pour", 2.0, 2.5),
        Label("b", "pour", 7.0, None),
        Label("a", "stir", 3.5, None),
    ]
    summary = summarize(labels, {"a": 20.0})
    assert summary.video_seconds == {"a": 20.0, "b": 7.0}
    assert summary.num_stated == 1
    both, stir, in_a, *_ = summary.classes
    assert (both.video_id, both.count, both.num_points, both.total_seconds, both.mean_seconds) == (None, 4, 1, 4.5, 1.5)
    assert both.per_minute == pytest.approx(60 * 4 / 27)
    assert both.share == pytest.approx(4 / 27)
    assert both.latency_seconds == 4.0
    assert (stir.label, stir.mean_seconds, stir.share) == ("stir", None, 0.0)
    assert (in_a.video_id, in_a.count, in_a.per_minute, in_a.share, in_a.latency_seconds) == ("a", 3, 9.0, 0.2, 1.0)
    assert summary.transitions == {("a", "pour", "pour"): 1, ("a", "pour", "stir"): 1, ("a", "stir", "pour"): 1}


def test_a_video_without_length() -> None:
    (both, _) = summarize([Label("a", "pour", 0.0, None)], {}).classes
    assert (both.per_minute, both.share, both.latency_seconds) == (None, None, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    sets = [
        [
            Label(video, name, float(start), float(start + length) if length else None)
            for video in ("a", "b")
            for name in ("pour", "stir")
            for start, length in zip(random.uniform(0, 50, 8), random.choice([0, 0.3, 2, 5.5], 8), strict=True)
        ]
        for _ in range(2)
    ]
    bin_seconds = [1.0, 0.5, 0.37, 2.0, 10.0][seed]
    for item in agreement(*sets, {"a": 60.0, "b": 61.0}, 1.0, bin_seconds).classes:
        rows = []
        for labels in sets:
            row: list[bool] = []
            for video, seconds in (("a", 60.0), ("b", 61.0)):
                of_class = [label for label in labels if (label.video_id, label.label) == (video, item.label)]
                for index in range(int(seconds / bin_seconds) + 1):
                    start, middle = index * bin_seconds, (index + 0.5) * bin_seconds
                    row.append(
                        any(
                            label.start_seconds <= middle < label.last_seconds
                            or start <= label.middle_seconds < start + bin_seconds
                            for label in of_class
                        )
                    )
            rows.append(row)
        assert item.kappa == pytest.approx(metrics.cohen_kappa_score(*rows), abs=1e-9)


def test_kappa_at_its_ends() -> None:
    yes_no = np.array([True, False, True, False])
    assert cohen_kappa(yes_no, yes_no) == 1.0
    assert cohen_kappa(yes_no, ~yes_no) == -1.0
    assert cohen_kappa(np.zeros(4, bool), np.zeros(4, bool)) is None
    assert cohen_kappa(np.ones(4, bool), yes_no) == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_there_are_no_more_pairs(seed: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    random = np.random.default_rng(seed)
    first, second = (random.uniform(0, 20, random.integers(1, 12)) for _ in range(2))
    labels = [[Label("a", "x", float(time), None) for time in times] for times in (first, second)]
    fits = np.abs(first[:, None] - second[None, :]) <= 1.0
    rows, columns = optimize.linear_sum_assignment(fits, maximize=True)
    assert len(matched_differences(*labels, 1.0)) == fits[rows, columns].sum()


def test_bins_of_points_and_segments() -> None:
    labels = [Label("a", "x", 0.2, None), Label("a", "x", 2.4, 4.4), Label("a", "x", 6.6, 6.8)]
    assert occupied(labels, 8, 1.0).astype(int).tolist() == [1, 0, 1, 1, 0, 0, 1, 0]


def write(path: Path, text: str) -> Path:
    path.write_text("video_id,class,time\n" + text)
    return path


def test_files_and_page(tmp_path: Path) -> None:
    name = '<script>alert("x")</script>'
    points = write(tmp_path / "points.csv", f'a,pour,1\na,"{name.replace(chr(34), chr(34) * 2)}",2\n')
    summarize_labels([points], out=tmp_path / "out")
    with (tmp_path / "out" / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video_id"], row["class"]) for row in rows][1:3] == [("", "pour"), ("a", name)]
    page = (tmp_path / "out" / "summary.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page
    assert (tmp_path / "out" / "transitions.csv").read_text().splitlines()[0] == "video_id,from,to,count"


def test_a_video_in_two_files_is_no_summary(tmp_path: Path) -> None:
    files = [write(tmp_path / name, "a,pour,1\n") for name in ("one.csv", "two.csv")]
    with pytest.raises(HrproError, match=r"two.csv: video a is also in .*one.csv; compare the two with `against`"):
        summarize_labels(files)


def test_agreement_of_files(tmp_path: Path) -> None:
    first = write(tmp_path / "one.csv", "a,pour,1\na,pour,5\na,stir,3\nb,pour,1\n")
    second = write(tmp_path / "two.csv", "a,pour,1.4\na,pour,9\nc,pour,1\n")
    result = compare_labels(first, second, tolerance_seconds=0.5)
    assert (result.videos, result.only_first, result.only_second) == (("a",), ("b",), ("c",))
    pour, stir = result.classes
    assert (pour.num_first, pour.num_second, pour.num_matched, pour.f1) == (2, 2, 1, 0.5)
    assert pour.mean_difference_seconds == pytest.approx(0.4)
    assert (stir.num_first, stir.num_second, stir.f1, stir.kappa) == (1, 0, 0.0, 0.0)
    with pytest.raises(HrproError, match="no video is in both"):
        compare_labels(first, write(tmp_path / "other.csv", "z,pour,1\n"))
    with pytest.raises(HrproError, match="give longer `bin_seconds`"):
        compare_labels(first, write(tmp_path / "far.csv", "a,pour,1e14\n"))


def test_command_line(tmp_path: Path) -> None:
    first = write(tmp_path / "one.csv", "a,pour,1\na,pour,5\n")
    second = write(tmp_path / "two.csv", "a,pour,1.4\n")
    shown = CliRunner().invoke(main, ["summary", str(first)])
    assert shown.exit_code == 0
    assert shown.output.splitlines()[1].split() == ["pour", "2", "2", "0", "24", "0", "1"]
    compared = CliRunner().invoke(main, ["summary", str(first), "--against", str(second)])
    assert compared.output.splitlines()[1].split()[:5] == ["pour", "2", "1", "1", "0.6667"]
    wrong = CliRunner().invoke(main, ["summary", str(first), str(second), "--against", str(second)])
    assert wrong.exit_code == 2
    assert "--against compares one FILE" in wrong.output
