"""`hrpro report`: detections on one HTML page."""

from pathlib import Path

from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.configs.presets import DEFAULT_PRESET
from hrpro_pipeline.data.annotations import in_subset, read_annotations
from hrpro_pipeline.data.detections import read_detections
from hrpro_pipeline.data.failures import read_failures
from hrpro_pipeline.data.points import action_points, read_points
from hrpro_pipeline.data.suggestions import WORTH_A_LOOK, Suggestion, read_moments
from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.diagnosis import diagnose
from hrpro_pipeline.infer.evaluation import evaluate
from hrpro_pipeline.show.point_times import points_in_seconds
from hrpro_pipeline.show.report import write_report
from hrpro_pipeline.show.report_data import ReportContent


def report_detections(
    detections: str | Path,
    out: str | Path,
    *,
    annotations: str | Path | None = None,
    points: str | Path | None = None,
    videos: str | Path | None = None,
    doubts: str | Path | None = None,
    subset: str | None = None,
    preset: str = DEFAULT_PRESET,
    min_score: float = 0.0,
) -> None:
    """Show detections on one self-contained HTML page, beside ground truth and points where given.

    Args:
        detections: DETECTIONS folder, one file of it, or an ActivityNet-style result file.
        out: HTML file to write.
        annotations: ground truth to show, and to evaluate against where it has segments.
        points: CSV of labeled points to show.
        videos: folder of the video files, by id: the page shows frames of them and plays them where they lie.
        doubts: `doubts.csv` of a run, or the run, to list the labels that are worth a second look.
        subset: evaluate on this subset; on the annotated videos that have detections otherwise.
        preset: gives tIoU thresholds and the videos left out of the evaluation.
        min_score: show detections from this score on.

    Raises:
        HrproError: an input is unusable, or `videos` has none of the videos.

    Examples:
        >>> from hrpro_pipeline import report_detections
        >>> options = {"annotations": "annotations.json", "points": "points.csv"}
        >>> report_detections("detections/", "report.html", **options)
    """
    by_video = read_detections(Path(detections))
    files = None
    if videos is not None:
        files = {video_id: Path(file) for video_id, file in find_videos([Path(videos)]).by_id.items()}
        if by_video and not files.keys() & by_video.keys():
            names = f"{', '.join(sorted(by_video)[:3])}{', ...' if len(by_video) > 3 else ''}"
            raise HrproError(f"{videos}: holds none of the detections' videos; expected files named {names}")
    truth = read_annotations(Path(annotations)) if annotations is not None else {}
    evaluated = {video_id: video for video_id, video in truth.items() if video_id in by_video}
    if subset is not None:
        evaluated = in_subset(truth, subset)
    settings = load_settings(preset).evaluate
    has_segments = any(video.segments for video_id, video in evaluated.items() if video_id not in settings.exclude)
    items = {video_id: video.detections for video_id, video in by_video.items()}
    labeled = read_points(Path(points)) if points is not None else []
    content = ReportContent(
        by_video,
        truth,
        points=points_in_seconds(action_points(labeled), files or {}, truth, str(points)),
        doubts=_doubts(Path(doubts)) if doubts is not None else (),
        failures=read_failures(Path(detections)) if Path(detections).is_dir() else (),
        evaluation=evaluate(items, evaluated, settings.tiou, settings.exclude) if has_segments else None,
        diagnosis=diagnose(items, evaluated, settings.exclude) if has_segments else None,
        videos=files,
    )
    write_report(Path(out), content, min_score=min_score)


def _doubts(path: Path) -> list[Suggestion]:
    """The labels worth a look of a run or a file."""
    return [item for item in read_moments(path) if item.score >= WORTH_A_LOOK]
