"""`hrpro figures`: the figures of the paper (4, 5, B, C) from a run."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.annotations import (
    VideoAnnotation,
    in_subset,
    read_annotations,
    read_ids,
)
from hrpro_pipeline.data.dataset import TrainingVideo, load_training_set
from hrpro_pipeline.data.features import list_features, read_features, read_header
from hrpro_pipeline.data.points import Point, action_points, read_points
from hrpro_pipeline.data.run_inputs import read_inputs
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.detector import check_features
from hrpro_pipeline.models.candidates import find_candidates
from hrpro_pipeline.models.checkpoint import TrainedModel, load_model
from hrpro_pipeline.models.device import resolve_device
from hrpro_pipeline.show import figures as drawing
from hrpro_pipeline.show import views
from hrpro_pipeline.show.colors import class_colors
from hrpro_pipeline.show.figure_parts import save_figure
from hrpro_pipeline.train.instance_stage import propose
from hrpro_pipeline.train.snapshots import Reliable, find_reliable, read_snapshots

# Videos in each of the figures that show single videos.
_NUM_VIDEOS = 3
_SNIPPETS_PER_CLASS = 120


@dataclass(frozen=True)
class FigureSet:
    """Result of `write_figures`.

    Attributes:
        files: that were written.
        left_out: why figures are missing, in lines.
    """

    files: tuple[Path, ...]
    left_out: tuple[str, ...]


class _LeftOutError(Exception):
    """A figure cannot be drawn; the text says why."""


@dataclass(frozen=True)
class _NamedModel:
    name: str
    model: TrainedModel


@dataclass(frozen=True)
class _Material:
    """Inputs of the figures.

    Attributes:
        folder: RUN.
        features_folder: FEATURES.
        paths: its files by video id.
        truth: ground truth by video id.
        points: labeled points of the training videos.
        subset: that the run was evaluated on, if it says so.
        main: the run's model. other: the one to compare with.
    """

    folder: Path
    features_folder: Path
    paths: Mapping[str, Path]
    truth: Mapping[str, VideoAnnotation]
    points: Sequence[Point]
    subset: str | None
    main: _NamedModel
    other: _NamedModel | None
    device: torch.device

    @property
    def model(self) -> TrainedModel:
        return self.main.model

    def features(self, video_id: str, model: TrainedModel) -> torch.Tensor:
        """[T, D] on the device, with the streams of `model`."""
        stored = read_features(self.paths[video_id])
        check_features(model, stored.header)
        return torch.from_numpy(stored.joined(tuple(model.widths))).to(self.device)

    def segments(self, video_id: str) -> np.ndarray:
        """[G, 3], see `segment_rows`."""
        return views.segment_rows(self.truth.get(video_id), self.model.classes)

    def figure_video(self, video_id: str) -> drawing.FigureVideo:
        duration = read_header(self.paths[video_id]).duration_seconds
        classes = self.model.classes
        return drawing.FigureVideo(video_id, duration, self.segments(video_id), classes, class_colors(classes))


def write_figures(
    run: str | Path,
    out: str | Path,
    *,
    features: str | Path | None = None,
    annotations: str | Path | None = None,
    points: str | Path | None = None,
    videos: str | Path | None = None,
    against: str | Path | None = None,
    device: str = "auto",
) -> FigureSet:
    """Draw the figures that a run has the data for into `out`, each as PNG and SVG.

    Args:
        run: RUN folder or `model.pt`.
        out: folder for the figures.
        features, annotations, points: what the run was trained on, if it has moved since.
        videos: file of the video ids to show; by default some with the most actions, of the evaluated videos in Fig. 4
            and 5 and of the training videos in Fig. C.
        against: another RUN or `model.pt` to compare with.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        HrproError: no model, no features, or features that do not fit the models.
    """
    given = {"features": features, "annotations": annotations, "points": points}
    paths = {name: Path(path) for name, path in given.items() if path is not None}
    material = _collect(Path(run), paths, None if against is None else Path(against), device)
    video_ids = read_ids(Path(videos)) if videos is not None else None
    if missing := [video_id for video_id in video_ids or () if video_id not in material.paths]:
        raise HrproError(f"`videos` names {missing[0]}, which has no features in {material.features_folder}")
    drawings = _drawings(material, video_ids)
    files: list[Path] = []
    left_out = ["Fig. 5: the run has no stage 2"] if material.model.instance is None else []
    with progress("drawing", len(drawings), "figures") as task:
        for name, draw in task.each(drawings):
            try:
                figures = draw()
            except _LeftOutError as reason:
                left_out.append(f"Fig. {name}: {reason}")
                continue
            for stem, figure in figures.items():
                files += save_figure(figure, Path(out) / stem)
    return FigureSet(tuple(files), tuple(left_out))


def _collect(run: Path, paths: Mapping[str, Path], against: Path | None, device_name: str) -> _Material:
    """Models, paths of features, ground truth and points; those that are not given from where the run had them."""
    device = resolve_device(device_name)
    model = load_model(run).to(device)
    folder = run if run.is_dir() else run.parent
    inputs, subset = read_inputs(folder)
    inputs |= paths
    features, annotations, points = (inputs.get(name) for name in ("features", "annotations", "points"))
    if features is None:
        raise HrproError(f"{run}: does not say where its features are; give them with `features`")
    name, other_name = _model_names(run, against) if against is not None else (run.resolve().name, "")
    material = _Material(
        folder=folder,
        features_folder=features,
        paths=list_features(features),
        truth=read_annotations(annotations) if annotations is not None else {},
        points=action_points(read_points(points)) if points is not None else (),
        subset=subset,
        main=_NamedModel(name, model),
        other=_NamedModel(other_name, load_model(against).to(device)) if against is not None else None,
        device=device,
    )
    if material.other is not None and material.other.model.classes != model.classes:
        raise HrproError(f"{against}: has other classes than {run}; compare runs on the same data")
    return material


def _drawings(
    material: _Material, video_ids: Sequence[str] | None
) -> list[tuple[str, Callable[[], Mapping[str, Any]]]]:
    """Names of the figures, and functions that draw them -> figures by the stem of their file names."""
    evaluated = _evaluated_videos(material)
    selected = video_ids or _with_most({video_id: len(material.segments(video_id)) for video_id in evaluated})
    with_stage_2 = selected if material.model.instance is not None else ()
    return [
        *((f"4, {video_id}", partial(_timeline, material, video_id)) for video_id in selected),
        *((f"5, {video_id}", partial(_scores, material, video_id)) for video_id in with_stage_2),
        ("B", partial(_embeddings, material, evaluated)),
        ("C", partial(_reliability, material, video_ids)),
    ]


def _model_names(run: Path, against: Path) -> tuple[str, str]:
    """Names for two models: the last folders of their paths that differ."""
    first, second = (list((path.parent if path.is_file() else path).resolve().parts) for path in (run, against))
    while first and second and first[-1] == second[-1]:
        first.pop()
        second.pop()
    return (first[-1], second[-1]) if first and second else ("this model", "the other model")


def _evaluated_videos(material: _Material) -> list[str]:
    """The videos that the run was evaluated on, if that is known; else those it was not trained on; else all."""
    if material.subset is not None and material.truth:
        return [video_id for video_id in in_subset(dict(material.truth), material.subset) if video_id in material.paths]
    trained = {point.video_id for point in material.points}
    annotated = [video_id for video_id in material.paths if len(material.segments(video_id))]
    return [video_id for video_id in annotated if video_id not in trained] or annotated or list(material.paths)


def _with_most(counts: Mapping[str, int]) -> list[str]:
    """The few videos with the highest counts, the first ones of equals."""
    return sorted(counts, key=lambda video_id: -counts[video_id])[:_NUM_VIDEOS]


def _timeline(material: _Material, video_id: str) -> dict[str, Any]:
    """Fig. 4 of a video: stage 1 against both stages, or another run against this one."""
    video = material.figure_video(video_id)
    segments = video.segments
    compared = [(material.main, False)]
    if material.other is not None:
        compared.insert(0, (material.other, False))
    elif material.model.instance is not None:
        compared = [
            (_NamedModel("stage 1", material.model), True),
            (_NamedModel("stage 1 + stage 2", material.model), False),
        ]
    results = []
    for named, stage_1_alone in compared:
        features = material.features(video_id, named.model)
        candidates, rows = views.localized(named.model, features, stage_1_alone)
        rows = rows[: len(segments)] if len(segments) else views.best_without_truth(rows)
        results.append((named, candidates.fused, rows))
    labels = [int(label) for label in dict.fromkeys(segments[:, 2])]
    labels += sorted({int(label) for *_, rows in results for label in rows[:, 2]} - set(labels))
    methods = [
        drawing.Method(
            named.name,
            named.model.clock,
            fused[:, labels],
            rows,
            views.true_positives(rows, segments) if len(segments) else np.ones(len(rows), bool),
        )
        for named, fused, rows in results
    ]
    return {f"fig4-timeline-{video_id}": drawing.draw_timelines(video, methods, labels)}


def _scores(material: _Material, video_id: str) -> dict[str, Any]:
    """Fig. 5 of a video: the candidates with their scores before and after stage 2."""
    video = material.figure_video(video_id)
    if not len(video.segments):
        raise _LeftOutError("no segments to tell right from wrong; give `annotations`")
    panels = []
    titles = (("before stage 2", "OIC score"), ("after stage 2", "OIC score + completeness"))
    pair = views.scored_twice(material.model, material.features(video_id, material.model))
    for (name, score), rows in zip(titles, pair, strict=True):
        is_good = views.best_overlap(rows, video.segments) >= views.TRUE_POSITIVE_TIOU
        panels.append(drawing.ScorePanel(name, score, rows, is_good, views.separation(rows[:, 3], is_good)))
    return {f"fig5-scores-{video_id}": drawing.draw_scores(video, panels)}


def _embeddings(material: _Material, video_ids: Sequence[str]) -> dict[str, Any]:
    """Fig. B: features, and the embeddings of the models."""
    by_video = [_snippet_labels(material, video_id) for video_id in video_ids]
    labels = np.concatenate(by_video) if by_video else np.empty(0, np.int64)
    rows = views.sample_rows(labels, _SNIPPETS_PER_CLASS)
    if len(np.unique(labels[rows])) < 2 or len(rows) < 4:
        raise _LeftOutError("needs annotated snippets of two kinds or more; give `annotations`")
    models = [_NamedModel("embedding of stage 1", material.model)]
    if material.other is not None:
        models = [material.other, material.main]
    first_rows = np.cumsum([0, *map(len, by_video)])
    positions = {
        video_id: rows[(first <= rows) & (rows < end)] - first
        for video_id, first, end in zip(video_ids, first_rows[:-1], first_rows[1:], strict=True)
    }
    sampled = {video_id: of_video for video_id, of_video in positions.items() if len(of_video)}
    with progress("embedding", len(sampled), "videos") as task:
        vectors = [_vectors(material, models, *pair) for pair in task.each(sampled.items())]
    names = ["input features", *(named.name for named in models)]
    panels = [
        (name, views.tsne(np.concatenate(of_panel)))
        for name, of_panel in zip(names, zip(*vectors, strict=True), strict=True)
    ]
    classes = material.model.classes
    return {"figB-tsne": drawing.draw_embeddings(panels, labels[rows], classes, class_colors(classes))}


def _snippet_labels(material: _Material, video_id: str) -> np.ndarray:
    """Labels of a video's snippets, [T]; MIXED for a video without segments."""
    header = read_header(material.paths[video_id])
    segments = material.segments(video_id)
    labels = views.snippet_labels(segments, header.num_snippets, header.clock)
    return labels if len(segments) else np.full_like(labels, views.MIXED)


def _vectors(
    material: _Material, models: Sequence[_NamedModel], video_id: str, positions: np.ndarray
) -> list[np.ndarray]:
    """Features of a video's snippets at `positions`, and their embeddings by each model; [N, D] each."""
    vectors = [material.features(video_id, material.model).cpu().numpy()[positions]]
    for named in models:
        features, window = material.features(video_id, named.model), named.model.settings.detect.window
        vectors.append(views.snippet_embedding(named.model.snippet, features, window)[positions])
    return vectors


def _reliability(material: _Material, video_ids: Sequence[str] | None) -> dict[str, Any]:
    """Fig. C of training videos."""
    available = material.paths.keys() & (material.paths if video_ids is None else video_ids)
    num_points = Counter(point.video_id for point in material.points if point.video_id in available)
    if not num_points:
        raise _LeftOutError("needs the labeled points of training videos; give `points`")
    snapshots = read_snapshots(material.folder)
    selected = sorted(num_points) if video_ids is not None else _most_labeled(num_points, snapshots)
    data = load_training_set(
        material.features_folder,
        material.points,
        dict(material.truth),
        selected,
        tuple(material.model.widths),
    )
    if unknown := sorted(set(data.classes) - set(material.model.classes)):
        raise _LeftOutError(f"the points have a class that the run does not know: {unknown[0]!r}")
    return {
        f"figC-reliability-{video.video_id}": _reliability_of(material, video, data.classes, snapshots)
        for video in data.videos
    }


def _most_labeled(num_points: Mapping[str, int], snapshots: Mapping[int, Mapping[str, Reliable]]) -> list[str]:
    """The few videos with the most points, of those in snapshots if any are."""
    in_snapshots = {video_id for videos in snapshots.values() for video_id in videos}
    video_ids = sorted(num_points.keys() & in_snapshots) or sorted(num_points)
    return _with_most({video_id: num_points[video_id] for video_id in video_ids})


def _reliability_of(
    material: _Material,
    video: TrainingVideo,
    classes: Sequence[str],
    snapshots: Mapping[int, Mapping[str, Reliable]],
) -> Any:
    """Fig. C of one video, whose labels are numbers of `classes`."""
    model = material.model
    label_of_model = np.array([model.classes.index(label) for label in classes])
    video = replace(video, labels=label_of_model[video.labels])
    features = material.features(video.video_id, model)
    video_id = video.video_id
    reliable = {f"step {step}": videos[video_id] for step, videos in snapshots.items() if video_id in videos}
    # The last row is the model itself, which runs without snapshots have, too.
    is_last = model.notes.checkpoint == "last"
    last = f"step {model.settings.snippet.steps}" if is_last else "the model"
    reliable.pop(last, None)
    reliable[last] = find_reliable(model.snippet, video, features, model.settings)
    proposals = propose(model.snippet, video, 0, features, model.settings, np.random.default_rng(0)).proposals
    candidates = find_candidates(model.snippet, features, model.settings).proposals
    return drawing.draw_reliability(
        material.figure_video(video_id),
        list(zip(model.clock.to_seconds(video.positions).tolist(), video.labels.tolist(), strict=True)),
        [_spans(name, of_snapshot, model) for name, of_snapshot in reliable.items()],
        np.column_stack([model.clock.to_seconds(candidates[:, :2]), candidates[:, 2:]]),
        model.clock.to_seconds(proposals[len(candidates) :]),
    )


def _spans(name: str, reliable: Reliable, model: TrainedModel) -> drawing.Spans:
    """In seconds."""

    def seconds(spans: Sequence[tuple[float, float, int]]) -> np.ndarray:
        rows = np.array(spans, np.float64).reshape(-1, 3)
        return np.column_stack([model.clock.to_seconds(rows[:, :2]), rows[:, 2]])

    return drawing.Spans(name, seconds(reliable.action), seconds(reliable.background), seconds(reliable.proposals))
