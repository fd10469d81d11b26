"""`hrpro figures`: the figures of the paper (4, 5, B, C) from a run."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrpro_pipeline.api import INPUTS
from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.annotations import (
    VideoAnnotation,
    in_subset,
    read_annotations,
    read_ids,
)
from hrpro_pipeline.data.dataset import TrainingVideo, load_training_set
from hrpro_pipeline.data.features import list_features, read_features, read_header
from hrpro_pipeline.data.points import Point, read_points
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.infer.detector import check_features
from hrpro_pipeline.models.candidates import find_candidates
from hrpro_pipeline.models.checkpoint import TrainedModel, load_model
from hrpro_pipeline.models.device import resolve_device
from hrpro_pipeline.show import figures as drawing
from hrpro_pipeline.show import views
from hrpro_pipeline.show.colors import class_colors
from hrpro_pipeline.train.instance_stage import propose
from hrpro_pipeline.train.moments import Reliable, find_reliable, read_moments

# Videos in each of the figures that show single videos.
_NUM_VIDEOS = 3
_SNIPPETS_PER_CLASS = 120


@dataclass(frozen=True)
class FigureSet:
    """files: what was written; left_out: why figures are missing, in lines."""

    files: tuple[Path, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Material:
    """What figures are made of: paths of the features and ground truth by video, the model, and another one."""

    run: Path
    paths: Mapping[str, Path]
    truth: Mapping[str, VideoAnnotation]
    points: Sequence[Point]
    name: str
    model: TrainedModel
    other_name: str
    other: TrainedModel | None
    device: torch.device

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def colors(self) -> dict[str, str]:
        return class_colors(self.classes)

    def features(self, video_id: str, model: TrainedModel) -> torch.Tensor:
        """[T, D] on the device, as `model` takes them."""
        stored = read_features(self.paths[video_id])
        check_features(model, stored.header)
        return torch.from_numpy(stored.joined(tuple(model.widths))).to(self.device)

    def duration(self, video_id: str) -> float:
        return read_header(self.paths[video_id]).duration_seconds

    def segments(self, video_id: str) -> np.ndarray:
        """[G, 3], see `segment_rows`."""
        return views.segment_rows(self.truth.get(video_id), self.classes)


def write_figures(
    run: Path,
    out: Path,
    *,
    features: Path | None = None,
    annotations: Path | None = None,
    points: Path | None = None,
    videos: Path | None = None,
    against: Path | None = None,
    device: str = "auto",
) -> FigureSet:
    """Draw what can be drawn of a run into `out`, each figure as PNG and SVG.

    Args:
        features, annotations, points: what the run was trained on, where they are no longer where they were then.
        videos: file of the video ids to show; by default some with the most actions, of the evaluated videos in Fig. 4
            and 5 and of the training videos in Fig. C.
        against: another RUN or `model.pt` to compare with.

    Raises:
        HrproError: no model, no features, or features that do not fit the models.
    """
    where = resolve_device(device)
    model = load_model(run).to(where)
    known, subset = _inputs(run)
    features = features or known.get("features")
    if features is None:
        raise HrproError(f"{run}: does not say where its features are; give them with --features")
    annotations, points = annotations or known.get("annotations"), points or known.get("points")
    name, other_name = _names(run, against) if against is not None else (run.resolve().name, "")
    material = _Material(
        run=run if run.is_dir() else run.parent,
        paths=list_features(features),
        truth=read_annotations(annotations) if annotations is not None else {},
        points=read_points(points) if points is not None else (),
        name=name,
        model=model,
        other_name=other_name,
        other=load_model(against).to(where) if against is not None else None,
        device=where,
    )
    if material.other is not None and material.other.classes != material.classes:
        raise HrproError(f"{against}: has other classes than {run}; compare runs on the same data")
    wanted = read_ids(videos) if videos is not None else None
    if wanted is not None and (missing := [video_id for video_id in wanted if video_id not in material.paths]):
        raise HrproError(f"--videos names {missing[0]}, which has no features in {features}")
    evaluated = _evaluated(material, subset)
    shown = wanted or _most({video_id: len(material.segments(video_id)) for video_id in evaluated})
    with_stage_2 = shown if material.model.instance is not None else ()
    drawings: list[tuple[str, Callable[[], dict[str, Any] | str]]] = [
        *((f"4, {video_id}", partial(_timeline, material, video_id)) for video_id in shown),
        *((f"5, {video_id}", partial(_scores, material, video_id)) for video_id in with_stage_2),
        ("B", partial(_embeddings, material, evaluated)),
        ("C", partial(_reliability, material, wanted)),
    ]
    files: list[Path] = []
    left_out = ["Fig. 5: the run has no stage 2"] if material.model.instance is None else []
    with progress("drawing", len(drawings), "figures") as task:
        for name, draw in task.each(drawings):
            drawn = draw()
            if isinstance(drawn, str):
                left_out.append(f"Fig. {name}: {drawn}")
                continue
            for stem, figure in drawn.items():
                files += drawing.save_figure(figure, out / stem)
    return FigureSet(tuple(files), tuple(left_out))


def _inputs(run: Path) -> tuple[dict[str, Path], str | None]:
    """Where a run says that its inputs lie, and the subset that it was evaluated on."""
    file = (run if run.is_dir() else run.parent) / INPUTS
    if not file.is_file():
        return {}, None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        subset = content.pop("evaluate_on")
        return {name: Path(path) for name, path in content.items()}, subset
    except (ValueError, TypeError, AttributeError, KeyError):
        raise HrproError(f"{file}: damaged; delete it, and give --features, --annotations and --points") from None


def _names(run: Path, against: Path) -> tuple[str, str]:
    """What to call two models: the last folders of their paths that differ."""
    first, second = (list((path.parent if path.is_file() else path).resolve().parts) for path in (run, against))
    while first and second and first[-1] == second[-1]:
        first.pop()
        second.pop()
    return (first[-1], second[-1]) if first and second else ("this model", "the other model")


def _evaluated(material: _Material, subset: str | None) -> list[str]:
    """The videos that the run was evaluated on, as far as is known; else those it was not trained on; else all."""
    if subset is not None and material.truth:
        return [video_id for video_id in in_subset(dict(material.truth), subset) if video_id in material.paths]
    trained = {point.video_id for point in material.points}
    annotated = [video_id for video_id in material.paths if len(material.segments(video_id))]
    return [video_id for video_id in annotated if video_id not in trained] or annotated or list(material.paths)


def _most(counts: Mapping[str, int]) -> list[str]:
    """The few videos with the highest counts, the first ones of equals."""
    return sorted(counts, key=lambda video_id: -counts[video_id])[:_NUM_VIDEOS]


def _timeline(material: _Material, video_id: str) -> dict[str, Any]:
    """Fig. 4 of a video: stage 1 against both stages, or another run against this one."""
    segments = material.segments(video_id)
    compared: list[tuple[str, TrainedModel, bool]] = [(material.name, material.model, False)]
    if material.other is not None:
        compared.insert(0, (material.other_name, material.other, False))
    elif material.model.instance is not None:
        compared = [("stage 1", material.model, True), ("stage 1 + stage 2", material.model, False)]
    found = []
    for name, model, stage_1_alone in compared:
        candidates, rows = views.localized(model, material.features(video_id, model), stage_1_alone)
        rows = rows[: len(segments)] if len(segments) else views.without_truth(rows)
        found.append((name, model.clock, candidates.fused, rows))
    shown = [int(label) for label in dict.fromkeys(segments[:, 2])]
    shown += sorted({int(label) for *_, rows in found for label in rows[:, 2]} - set(shown))
    methods = [
        drawing.Method(
            name,
            clock,
            fused[:, shown],
            rows,
            views.right(rows, segments) if len(segments) else np.ones(len(rows), bool),
        )
        for name, clock, fused, rows in found
    ]
    figure = drawing.draw_timelines(
        video_id, material.duration(video_id), segments, methods, shown, material.classes, material.colors
    )
    return {f"fig4-timeline-{video_id}": figure}


def _scores(material: _Material, video_id: str) -> dict[str, Any] | str:
    """Fig. 5 of a video: what stage 1 and what stage 2 makes of the candidates; or why not."""
    segments = material.segments(video_id)
    if not len(segments):
        return "no segments to tell right from wrong; give --annotations"
    panels = []
    titles = (("before stage 2", "OIC score"), ("after stage 2", "OIC score + completeness"))
    pair = views.scored_twice(material.model, material.features(video_id, material.model))
    for (name, score), rows in zip(titles, pair, strict=True):
        good = views.best_overlap(rows, segments) >= views.RIGHT_TIOU
        panels.append(drawing.ScorePanel(name, score, rows, good, views.separation(rows[:, 3], good)))
    figure = drawing.draw_scores(
        video_id, material.duration(video_id), segments, panels, material.classes, material.colors
    )
    return {f"fig5-scores-{video_id}": figure}


def _embeddings(material: _Material, evaluated: Sequence[str]) -> dict[str, Any] | str:
    """Fig. B: features, and the embeddings of the models; or why not."""
    labels = []
    for video_id in evaluated:
        header = read_header(material.paths[video_id])
        segments = material.segments(video_id)
        inside = views.snippet_labels(segments, header.num_snippets, header.clock)
        labels.append(inside if len(segments) else np.full_like(inside, -2))
    owner = np.repeat(np.arange(len(labels)), [len(own) for own in labels])
    joined = np.concatenate(labels) if labels else np.empty(0, np.int64)
    rows = views.sample_rows(joined, _SNIPPETS_PER_CLASS)
    if len(np.unique(joined[rows])) < 2 or len(rows) < 4:
        return "needs annotated snippets of two kinds or more; give --annotations"
    models = [(material.name if material.other else "embedding of stage 1", material.model)]
    if material.other is not None:
        models.insert(0, (material.other_name, material.other))
    vectors: list[list[np.ndarray]] = [[] for _ in range(1 + len(models))]
    numbers = np.unique(owner[rows])
    with progress("embedding", len(numbers), "videos") as task:
        for number in task.each(numbers):
            video_id = evaluated[number]
            place = rows[owner[rows] == number] - np.flatnonzero(owner == number)[0]
            vectors[0].append(material.features(video_id, material.model).cpu().numpy()[place])
            for into, (_, model) in zip(vectors[1:], models, strict=True):
                window = model.settings.detect.window
                embedding = views.snippet_embedding(model.snippet, material.features(video_id, model), window)
                into.append(embedding[place])
    names = ["input features", *(name for name, _ in models)]
    panels = [(name, views.tsne(np.concatenate(own))) for name, own in zip(names, vectors, strict=True)]
    figure = drawing.draw_embeddings(panels, joined[rows], material.classes, material.colors)
    return {"figB-tsne": figure}


def _reliability(material: _Material, wanted: Sequence[str] | None) -> dict[str, Any] | str:
    """Fig. C of training videos; or why not."""
    trained = {point.video_id for point in material.points if point.video_id in material.paths}
    if wanted is not None:
        trained &= set(wanted)
    if not trained:
        return "needs the labeled points of training videos; give --points"
    moments = read_moments(material.run)
    # Videos that training looked at come first.
    seen = {video_id for videos in moments.values() for video_id in videos} & trained
    count = {video_id: sum(point.video_id == video_id for point in material.points) for video_id in seen or trained}
    chosen = sorted(trained) if wanted is not None else _most(dict(sorted(count.items())))
    data = load_training_set(
        next(iter(material.paths.values())).parent,
        material.points,
        dict(material.truth),
        chosen,
        tuple(material.model.widths),
    )
    if missing := sorted(set(data.classes) - set(material.classes)):
        return f"the points have a class that the run does not know: {missing[0]!r}"
    return {
        f"figC-reliability-{video.video_id}": _reliability_of(material, video, data.classes, moments)
        for video in data.videos
    }


def _reliability_of(
    material: _Material,
    video: TrainingVideo,
    classes: Sequence[str],
    moments: Mapping[int, Mapping[str, Reliable]],
) -> Any:
    model = material.model
    known = np.array([material.classes.index(label) for label in classes])
    video = replace(video, labels=known[video.labels])
    features = material.features(video.video_id, model)
    # The last row is the model itself, which runs without any record have, too.
    found = {f"step {step}": videos[video.video_id] for step, videos in moments.items() if video.video_id in videos}
    is_last = model.notes.checkpoint == "last"
    last = f"step {model.settings.snippet.steps}" if is_last else "the model"
    found.pop(last, None)
    found[last] = find_reliable(model.snippet, video, features, model.settings)
    proposed = propose(model.snippet, video, 0, features, model.settings, np.random.default_rng(0))
    candidates = find_candidates(model.snippet, features, model.settings).proposals
    negatives = model.clock.to_seconds(proposed.proposals[len(candidates) :])
    candidates = np.column_stack([model.clock.to_seconds(candidates[:, :2]), candidates[:, 2:]])
    points = list(zip(model.clock.to_seconds(video.positions).tolist(), video.labels.tolist(), strict=True))
    return drawing.draw_reliability(
        video.video_id,
        material.duration(video.video_id),
        material.segments(video.video_id),
        points,
        [_spans(name, reliable, model) for name, reliable in found.items()],
        candidates,
        negatives,
        material.classes,
        material.colors,
    )


def _spans(name: str, found: Reliable, model: TrainedModel) -> drawing.Spans:
    """In seconds."""

    def seconds(listed: Sequence[tuple[float, float, int]]) -> np.ndarray:
        rows = np.array(listed, np.float64).reshape(-1, 3)
        return np.column_stack([model.clock.to_seconds(rows[:, :2]), rows[:, 2]])

    return drawing.Spans(name, seconds(found.action), seconds(found.background), seconds(found.proposals))
