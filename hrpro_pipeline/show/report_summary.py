"""Data of the report's summary: scores, errors, histograms. The key names are those of page/summary.js."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hrpro_pipeline.data.detections import Detection, VideoDetections
from hrpro_pipeline.infer.diagnosis import TRUE_POSITIVE, Diagnosis
from hrpro_pipeline.infer.evaluation import Evaluation

_NUM_BINS = 24
# Points of a precision-recall curve.
_CURVE_POINTS = 200


def summary(
    detections: Mapping[str, VideoDetections],
    evaluation: Evaluation | None,
    diagnosis: Diagnosis | None,
    number: Mapping[str, int],
) -> dict[str, Any]:
    """The summary page, of all detections; classes by `number`."""
    return {
        "evaluation": evaluation and _evaluation(evaluation, number),
        "diagnosis": diagnosis and _diagnosis(diagnosis, number),
        "histograms": _histograms(detections, diagnosis),
    }


def _evaluation(evaluation: Evaluation, number: Mapping[str, int]) -> dict[str, Any]:
    return {
        "tiou": evaluation.tiou,
        "map": evaluation.mean_average_precision,
        "averages": evaluation.averages or {"all": evaluation.average},
        "classes": [{"class": number[label], "ap": values} for label, values in evaluation.classes.items()],
        "videos": evaluation.num_videos,
        "segments": evaluation.num_segments,
        "detections": evaluation.num_detections,
        "missing": evaluation.num_missing,
        "leftOut": evaluation.num_left_out,
    }


def _diagnosis(diagnosis: Diagnosis, number: Mapping[str, int]) -> dict[str, Any]:
    classes = [
        {
            "class": number[label],
            "segments": of_class.num_segments,
            "missed": of_class.num_missed,
            "recall": _thinned(of_class.recall),
            "precision": _thinned(of_class.precision),
        }
        for label, of_class in diagnosis.classes.items()
    ]
    return {
        "tiou": diagnosis.tiou,
        "profile": diagnosis.profile,
        "classes": classes,
        "confusion": diagnosis.confusion,
    }


def _thinned(values: Sequence[float]) -> list[float]:
    """At most 200 of the values, the first and the last among them."""
    if len(values) <= _CURVE_POINTS:
        return [round(value, 4) for value in values]
    indices = np.linspace(0, len(values) - 1, _CURVE_POINTS).astype(int)
    return [round(values[index], 4) for index in indices]


def _histograms(detections: Mapping[str, VideoDetections], diagnosis: Diagnosis | None) -> dict[str, Any]:
    """Lengths and scores; with a diagnosis, of the compared detections, true positives apart from the others."""
    if diagnosis is None:
        items = [item for video in detections.values() for item in video.detections]
        lengths: dict[str, Sequence[float]] = {"detections": _lengths(items)}
        scores = {"detections": _scores(items)}
    else:
        pairs = [
            (item, kind)
            for video_id, video in detections.items()
            for item, kind in zip(video.detections, diagnosis.kinds[video_id], strict=True)
        ]
        true_positives = [item for item, kind in pairs if kind == TRUE_POSITIVE]
        false_positives = [item for item, kind in pairs if kind > TRUE_POSITIVE]
        lengths = {"true segments": diagnosis.segment_seconds, "right detections": _lengths(true_positives)}
        scores = {"right": _scores(true_positives), "wrong": _scores(false_positives)}
    return {"lengths": _histogram(lengths, logarithmic=True), "scores": _histogram(scores, logarithmic=False)}


def _lengths(items: Sequence[Detection]) -> list[float]:
    return [item.end_seconds - item.start_seconds for item in items]


def _scores(items: Sequence[Detection]) -> list[float]:
    return [item.score for item in items]


def _histogram(values: Mapping[str, Sequence[float]], logarithmic: bool) -> dict[str, Any] | None:
    """Counts by name over common bins, or None without values; the logarithmic one counts those over zero."""
    counted = {
        name: np.array([value for value in of_name if not logarithmic or value > 0]) for name, of_name in values.items()
    }
    joined = np.concatenate(list(counted.values()))
    if not len(joined):
        return None
    low, high = float(joined.min()), float(joined.max())
    if logarithmic:
        # Bins of half an octave at least; the outermost reach past the values.
        low, high = low / 1.01, high * 1.01
        num_bins = min(_NUM_BINS, max(1, math.ceil(2 * math.log2(high / low))))
        edges = np.geomspace(low, high, num_bins + 1)
    else:
        edges = np.linspace(low, high if high > low else low + 1, _NUM_BINS + 1)
    counts = {name: np.histogram(of_name, edges)[0].tolist() for name, of_name in counted.items()}
    return {"edges": [float(f"{edge:.4g}") for edge in edges], "counts": counts}
