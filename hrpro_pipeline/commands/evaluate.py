"""`hrpro evaluate`: mean average precision of detections."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hrpro_pipeline.configs.schema import EvaluateSettings
from hrpro_pipeline.data.annotations import in_subset, read_ambiguous, read_annotations
from hrpro_pipeline.data.detections import Detection, read_detections
from hrpro_pipeline.data.files import video_id_of
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.evaluation import Evaluation, drop_ambiguous, evaluate


def evaluate_detections(
    detections: str | Path,
    annotations: str | Path,
    *,
    subset: str | None = None,
    tiou: Sequence[float] = EvaluateSettings().tiou,
    exclude: Sequence[str] = (),
    ambiguous: str | Path | None = None,
) -> Evaluation:
    """ActivityNet-style mAP of a DETECTIONS folder or result file.

    Args:
        detections: DETECTIONS folder, one file of it, or an ActivityNet-style result file.
        annotations: ActivityNet-style JSON with segments.
        subset: videos of this subset; all annotated videos otherwise.
        tiou: thresholds.
        exclude: videos left out.
        ambiguous: file of segments; detections that overlap one are dropped.

    Raises:
        HrproError: a file that cannot be read, or no segment to compare with.

    Examples:
        >>> from hrpro_pipeline import evaluate_detections
        >>> tiou = [0.3, 0.5, 0.7]
        >>> result = evaluate_detections("detections/", "annotations.json", tiou=tiou)
        >>> result.mean_average_precision
        [1.0, 0.75, 0.5]
        >>> result.average
        0.75
        >>> result.classes["stir"]
        [1.0, 0.5, 0.0]
        >>> result.num_videos, result.num_segments, result.num_detections
        (2, 3, 4)
    """
    truth = read_annotations(Path(annotations))
    if subset is not None:
        truth = in_subset(truth, subset)
    videos = read_detections(Path(detections))
    by_video: Mapping[str, Sequence[Detection]] = {video_id: video.detections for video_id, video in videos.items()}
    if by_video and not by_video.keys() & truth.keys():
        raise HrproError(
            f"{annotations}: none of the {len(by_video)} videos in {detections} ({next(iter(by_video))}, ...) is among "
            f"its {len(truth)} ({next(iter(truth))}, ...); give the annotations or the `subset` of these videos"
        )
    if ambiguous is not None:
        by_video = drop_ambiguous(by_video, read_ambiguous(Path(ambiguous)))
    models = tuple(sorted({video.model for video in videos.values()} - {""}))
    try:
        return replace(evaluate(by_video, truth, tiou, [*map(video_id_of, exclude)]), models=models)
    except ValueError as error:
        raise HrproError(f"{annotations}: {error}") from None
