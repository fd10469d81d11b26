"""`hrpro suggest`: what to label next."""

import logging
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hrpro_pipeline.data.dataset import TrainingSet, TrainingVideo, load_training_set
from hrpro_pipeline.data.features import StoredFeatures, list_features, read_header
from hrpro_pipeline.data.points import BACKGROUND, Point, read_points
from hrpro_pipeline.data.suggestions import Suggestion, write_suggestions
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.detector import check_features
from hrpro_pipeline.infer.doubts import find_evidence, points_of, with_probabilities
from hrpro_pipeline.infer.evaluator import WatchedVideo, watched
from hrpro_pipeline.infer.suggest import suggest_moments
from hrpro_pipeline.label.files import done_path, read_done
from hrpro_pipeline.models.checkpoint import TrainedModel, load_model
from hrpro_pipeline.models.device import resolve_device

log = logging.getLogger(__name__)


def suggest_labels(
    model: str | Path,
    features: str | Path,
    points: str | Path,
    out: str | Path,
    *,
    top: int | None = None,
    device: str = "auto",
) -> list[Suggestion]:
    """Rank the moments that are worth most to look at next, and write them as CSV.

    Args:
        model: RUN folder or `model.pt`.
        features: FEATURES folder: of the labeled videos, and of those without points to choose from.
        points: the points so far. Videos of `<points>.done`, which people have watched, are not suggested as new.
        out: CSV to write, with columns video_id, time, class, kind, score, suggested_class, suggested_time.
        top: write the best so many alone.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        What was written.

    Raises:
        HrproError: a model, features or points that cannot be read or do not fit together.

    Examples:
        >>> from hrpro_pipeline import suggest_labels
        >>> moments = suggest_labels("runs/kitchen", "features/", "points.csv", "suggestions.csv", device="cpu")
        >>> Path("suggestions.csv").read_text().splitlines()[0]
        'video_id,time,class,kind,score,suggested_class,suggested_time'
    """
    trained, folder, labels = load_model(Path(model)), Path(features), read_points(Path(points))
    on = resolve_device(device)
    data = load_training_set(folder, labels, {}, None, tuple(trained.widths), str(points), on_disk=True)
    for video in data.videos:
        assert isinstance(video.features, StoredFeatures)
        check_features(trained, read_header(video.features.path))
    videos = _in_classes_of(trained, data)
    known = watched(videos)
    seen = {*known, *read_done(done_path(Path(points)))}
    others, background = _others(folder, seen, labels, trained)
    trained = with_probabilities(trained, videos, on)
    evidence = find_evidence(trained, {**known, **others}, on, with_cosines=others)
    suggestions = suggest_moments(evidence, points_of(videos), background, trained.classes)[:top]
    write_suggestions(Path(out), suggestions)
    return suggestions


def _in_classes_of(model: TrainedModel, data: TrainingSet) -> list[TrainingVideo]:
    """The labeled videos, their points numbered as the model's classes are; without points of other classes.

    Raises:
        HrproError: no point is of the model's classes.
    """
    number = {label: index for index, label in enumerate(model.classes)}
    renumbered = np.array([number.get(label, -1) for label in data.classes])
    if (renumbered < 0).all():
        raise HrproError(f"no point is of the model's classes: {', '.join(model.classes)}; train with these points")
    if unknown := [label for label in data.classes if label not in number]:
        log.warning("the model does not know %s; train with these points to get suggestions", ", ".join(unknown))
    videos = []
    for video in data.videos:
        labels = renumbered[video.labels]
        known = labels >= 0
        videos.append(
            replace(video, positions=video.positions[known], labels=labels[known], snippets=video.snippets[known])
        )
    return videos


def _others(
    folder: Path, seen: Container[str], labels: Sequence[Point], model: TrainedModel
) -> tuple[dict[str, WatchedVideo], dict[str, np.ndarray]]:
    """Features of the videos that nobody has seen yet, and the background marked in them, on the snippet axis.

    A file that does not fit costs only itself.
    """
    others, streams = {}, tuple(model.widths)
    for video_id, path in list_features(folder).items():
        if video_id in seen:
            continue
        try:
            header = read_header(path)
            check_features(model, header)
        except HrproError as error:
            log.warning("left out: %s", error)
        else:
            others[video_id] = WatchedVideo(StoredFeatures(path, streams, header.num_snippets), header.clock)
    seconds = defaultdict(list)
    for point in labels:
        if point.label == BACKGROUND and point.video_id in others and point.seconds is not None:
            seconds[point.video_id].append(point.seconds)
    return others, {name: others[name].clock.to_positions(np.sort(times)) for name, times in seconds.items()}
