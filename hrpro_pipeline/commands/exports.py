"""`hrpro export`: features and pseudo segments for other programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.annotations import VideoAnnotation, class_names, read_annotations, read_ids
from hrpro_pipeline.data.dataset import TrainingVideo, load_training_set
from hrpro_pipeline.data.feature_files.choices import FileLayout
from hrpro_pipeline.data.features import FeatureHeader, VideoFeatures, list_features, read_features, read_header
from hrpro_pipeline.data.files import replacing, write_text
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.data.run_inputs import read_inputs
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.data.uniform import check_uniform
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.candidates import score_snippets
from hrpro_pipeline.models.checkpoint import TrainedModel, load_model
from hrpro_pipeline.models.device import or_on_cpu, resolve_device
from hrpro_pipeline.models.pseudo_segments import pseudo_segments

ANNOTATIONS_NAME, CLASSES_NAME = "annotations.json", "classes.txt"
_VERSION = "hrpro"
# Of pseudo segments: the files that other programs take tell videos apart by these words.
_TRAINING = "training"


@dataclass(frozen=True)
class ExportedFeatures:
    """Result of `export_features`.

    Attributes:
        video_ids: of the videos, in order. width: channels of all streams together.
        clock: of the first video; the rate of each is in the JSON.
    """

    video_ids: tuple[str, ...]
    width: int
    clock: SnippetClock


def export_features(
    features: str | Path,
    out: str | Path,
    *,
    layout: FileLayout = "flat",
    streams: Sequence[str] = (),
    annotations: str | Path | None = None,
) -> ExportedFeatures:
    """Write features as .npy files, and the JSON of the videos that OpenTAD and ActionFormer read.

    Args:
        features: FEATURES folder.
        out: folder to write: arrays, `annotations.json`, `classes.txt`.
        layout: `flat`, VIDEO.npy with the streams side by side, [T, D]; `folders`, STREAM/VIDEO.npy; `suffixes`,
            VIDEO_STREAM.npy.
        streams: the streams to write, by default all.
        annotations: ActivityNet-style JSON: subsets and segments.

    Returns:
        What was written, and the clock for the settings of those programs.

    Raises:
        HrproError: no features, features that were not made alike, or a stream that they do not have.
    """
    out = Path(out)
    paths = list_features(Path(features))
    headers = {video_id: read_header(path) for video_id, path in paths.items()}
    check_uniform((paths[video_id], header) for video_id, header in headers.items())
    first = next(iter(headers.values()))
    if missing := [name for name in streams if name not in first.widths]:
        raise HrproError(f"{features}: no stream {missing[0]} (`streams`); there are {', '.join(first.widths)}")
    used = [name for name in first.widths if not streams or name in streams]
    truth = read_annotations(Path(annotations)) if annotations is not None else {}
    with progress("exporting", len(paths), "videos") as task:
        for path in task.each(paths.values()):
            for name, array in _arrays(read_features(path), used, layout).items():
                _save(out / f"{name}.npy", array)
    classes = class_names(truth.values())
    database = {video_id: _entry(header, truth.get(video_id), classes) for video_id, header in headers.items()}
    write_database(out / ANNOTATIONS_NAME, database)
    write_text(out / CLASSES_NAME, "".join(f"{name}\n" for name in classes))
    return ExportedFeatures(tuple(paths), sum(first.widths[name] for name in used), first.clock)


def _arrays(features: VideoFeatures, streams: Sequence[str], layout: FileLayout) -> dict[str, np.ndarray]:
    """Arrays of a video by the names of their files, without suffix."""
    video_id = features.video_id
    if layout == "flat":
        parts = [features.streams[name] for name in streams]
        return {video_id: np.concatenate(parts, axis=1)}
    pattern = "{stream}/{video_id}" if layout == "folders" else "{video_id}_{stream}"
    return {pattern.format(stream=name, video_id=video_id): features.streams[name] for name in streams}


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def _entry(header: FeatureHeader, truth: VideoAnnotation | None, classes: Sequence[str]) -> dict[str, Any]:
    """A video of the JSON; `fps` and `frame` are those of the clock of its features, not of its file."""
    segments = truth.segments if truth is not None else ()
    rows = [(item.label, item.start_seconds, item.end_seconds) for item in segments]
    return database_entry(header, truth.subset if truth is not None else "", rows, classes)


def database_entry(
    header: FeatureHeader, subset: str, segments: Sequence[tuple[str, float, float]], classes: Sequence[str]
) -> dict[str, Any]:
    """A video of an ActivityNet-style JSON with what OpenTAD (`frame`) and ActionFormer (`fps`, `label_id`) add.

    Args:
        segments: label, start and end in seconds.
    """
    return {
        "subset": subset,
        "duration": header.duration_seconds,
        "fps": header.clock.fps,
        "frame": header.duration_seconds * header.clock.fps,
        "annotations": [
            {"label": label, "label_id": classes.index(label), "segment": [start, end]}
            for label, start, end in segments
        ],
    }


def write_database(path: Path, database: Mapping[str, Any]) -> None:
    """Write an ActivityNet-style JSON."""
    write_text(path, json.dumps({"version": _VERSION, "database": database}, indent=1, ensure_ascii=False) + "\n")


def export_pseudo_labels(
    run: str | Path,
    out: str | Path,
    *,
    features: str | Path | None = None,
    points: str | Path | None = None,
    annotations: str | Path | None = None,
    device: str = "auto",
) -> int:
    """Write the pseudo segments of a run's training videos as ActivityNet-style JSON -> their number.

    A pseudo segment reaches as far around a labeled point as stage 1 is sure of its class.

    Args:
        run: RUN folder.
        out: JSON file to write.
        features, points, annotations: what the run was trained on, if it has moved since.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        HrproError: no model, or features and points that do not fit it.
    """
    run, where = Path(run), resolve_device(device)
    model = load_model(run).to(where)
    paths, _ = read_inputs(run if run.is_dir() else run.parent)
    given = {"features": features, "points": points, "annotations": annotations}
    paths |= {name: Path(path) for name, path in given.items() if path is not None}
    if missing := [name for name in ("features", "points") if name not in paths]:
        raise HrproError(f"{run}: does not say where its {missing[0]} are; give them with `{missing[0]}`")
    truth = read_annotations(paths["annotations"]) if "annotations" in paths else {}
    videos = read_ids(paths["videos"]) if "videos" in paths else None
    data = load_training_set(
        paths["features"], read_points(paths["points"]), truth, videos, tuple(model.widths), str(paths["points"])
    )
    if unknown := sorted(set(data.classes) - set(model.classes)):
        raise HrproError(f"{paths['points']}: class {unknown[0]!r} is none of the run's")
    files = list_features(paths["features"])
    database = {}
    with progress("scoring", len(data.videos), "videos") as task:
        for video in task.each(data.videos):
            labels = [data.classes[label] for label in video.labels]
            segments = _segments_of(model, video, labels, where)
            video_id = video.video_id
            subset = truth[video_id].subset if video_id in truth else ""
            header = read_header(files[video_id])
            database[video_id] = database_entry(header, subset or _TRAINING, segments, model.classes)
    write_database(Path(out), database)
    return sum(len(entry["annotations"]) for entry in database.values())


def _segments_of(
    model: TrainedModel, video: TrainingVideo, labels: Sequence[str], device: torch.device
) -> list[tuple[str, float, float]]:
    """Label, start and end in seconds of the pseudo segment of each point."""
    numbers = np.array([model.classes.index(label) for label in labels], np.int64)

    def compute(features: Tensor) -> np.ndarray:
        fused = score_snippets(model.snippet, features, model.settings).fused
        return pseudo_segments(fused, video.positions, numbers, model.settings.pyramid.peak_ratio)

    bounds = or_on_cpu(compute, model, torch.from_numpy(np.asarray(video.features)), device, video.video_id)
    seconds = np.maximum(video.clock.to_seconds(bounds), 0)
    return [(label, start, end) for label, (start, end) in zip(labels, seconds.tolist(), strict=True)]
