"""`hrpro summary`: labels in numbers, and how far two files of labels agree."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.data.formats.label import Hints, Label
from hrpro_pipeline.data.formats.names import ClassFrom
from hrpro_pipeline.data.labels import read_durations, read_labels
from hrpro_pipeline.data.points import BACKGROUND
from hrpro_pipeline.errors import HrproError, UsageError
from hrpro_pipeline.infer.agreement import Agreement, agreement
from hrpro_pipeline.infer.label_summary import LabelSummary, summarize
from hrpro_pipeline.show.summary_page import summary_page

CLASS_COLUMNS = (
    *("video_id", "class", "count", "points", "total_seconds", "mean_seconds", "per_minute", "share"),
    "latency_seconds",
)
TRANSITION_COLUMNS = ("video_id", "from", "to", "count")
AGREEMENT_COLUMNS = ("class", "first", "second", "matched", "f1", "mean_difference_seconds", "kappa")


def summarize_labels(
    files: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    fps: float | None = None,
    class_from: ClassFrom | None = None,
) -> LabelSummary:
    """Counts, durations, rates, shares of time, latencies and transitions by class and video.

    Args:
        files: points, annotations, detections or files of labeling tools; folders of them.
        out: folder for `classes.csv`, `transitions.csv` and `summary.html`.
        fps: frames a second, for formats that count frames.
        class_from: whether `tier` or `value` is the class in ELAN's files, where both may be.

    Raises:
        HrproError: a file that cannot be read, or a video that two files have.

    Examples:
        >>> from hrpro_pipeline import summarize_labels
        >>> summary = summarize_labels(["annotations.json"], out="summary/")
        >>> summary.video_seconds
        {'kitchen_01': 4.8, 'kitchen_02': 4.8}
        >>> stir = summary.classes[1]
        >>> stir.label, stir.count, stir.mean_seconds, round(stir.share, 3)
        ('stir', 2, 2.0, 0.417)
    """
    labels: list[Label] = []
    durations: dict[str, float] = {}
    file_of_video: dict[str, str | Path] = {}
    for file in files:
        read = _actions_of(file, Hints(fps, class_from))
        for video_id in {label.video_id for label in read}:
            if (other := file_of_video.setdefault(video_id, file)) != file:
                raise HrproError(f"{file}: video {video_id} is also in {other}; compare the two with `against`")
        labels += read
        durations |= read_durations(Path(file))
    summary = summarize(labels, durations)
    if out is not None:
        _write(Path(out), summary)
    return summary


def compare_labels(
    file: str | Path,
    against: str | Path,
    *,
    tolerance_seconds: float = 1.0,
    bin_seconds: float = 1.0,
    fps: float | None = None,
    class_from: ClassFrom | None = None,
) -> Agreement:
    """How far two files of labels agree, by class, on the videos that both have.

    Args:
        file, against: points, annotations, detections or files of labeling tools.
        tolerance_seconds: how far the middles of two labels of a class may lie apart to match.
        bin_seconds: length of the bins of Cohen's kappa.
        fps: frames a second, for formats that count frames.
        class_from: whether `tier` or `value` is the class in ELAN's files, where both may be.

    Raises:
        HrproError: a file that cannot be read, or no video in both.

    Examples:
        >>> from hrpro_pipeline import compare_labels
        >>> pour, stir = compare_labels("points.csv", "annotations.json", tolerance_seconds=0.35).classes
        >>> stir.num_first, stir.num_second, stir.num_matched, stir.f1
        (2, 2, 1, 0.5)
    """
    if not 0 < bin_seconds < 1e6 or not 0 <= tolerance_seconds < 1e6:
        raise UsageError(
            f"`bin_seconds` is {bin_seconds:g}, `tolerance_seconds` {tolerance_seconds:g}; expected seconds"
        )
    hints = Hints(fps, class_from)
    durations = read_durations(Path(file)) | read_durations(Path(against))
    first, second = (_actions_of(name, hints) for name in (file, against))
    return agreement(first, second, durations, tolerance_seconds, bin_seconds)


def _actions_of(file: str | Path, hints: Hints) -> list[Label]:
    """The labels of a file, without those of moments that have no action."""
    return [label for label in read_labels(Path(file), hints) if label.label != BACKGROUND]


def class_rows(summary: LabelSummary) -> list[list[str]]:
    """Cells of each class, with CLASS_COLUMNS; the video of a class in all videos is empty."""
    return [
        [
            *(item.video_id or "", item.label, str(item.count), str(item.num_points)),
            *map(_number, (item.total_seconds, item.mean_seconds, item.per_minute, item.share, item.latency_seconds)),
        ]
        for item in summary.classes
    ]


def agreement_rows(result: Agreement) -> list[list[str]]:
    """Cells of each class, with AGREEMENT_COLUMNS."""
    return [
        [
            *(item.label, str(item.num_first), str(item.num_second), str(item.num_matched)),
            *map(_number, (item.f1, item.mean_difference_seconds, item.kappa)),
        ]
        for item in result.classes
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")


def _write(out: Path, summary: LabelSummary) -> None:
    rows = class_rows(summary)
    transitions = [[*key, str(count)] for key, count in sorted(summary.transitions.items())]
    write_text(out / "classes.csv", _csv([CLASS_COLUMNS, *rows]))
    write_text(out / "transitions.csv", _csv([TRANSITION_COLUMNS, *transitions]))
    lengths = [[video_id, _number(seconds)] for video_id, seconds in sorted(summary.video_seconds.items())]
    tables = (
        ("All videos", CLASS_COLUMNS[1:], [row[1:] for row in rows if not row[0]]),
        ("Each video", CLASS_COLUMNS, [row for row in rows if row[0]]),
        ("Which class comes after which", TRANSITION_COLUMNS, transitions),
        (f"Videos ({summary.num_stated} with a stated length)", ("video_id", "seconds"), lengths),
    )
    write_text(out / "summary.html", summary_page("Labels", tables))


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
