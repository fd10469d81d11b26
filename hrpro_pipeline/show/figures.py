"""The paper's figures: arrays in, matplotlib figures out, of the widths of a paper's columns.

Parts of a figure that stand for one thing (a segment, a detection, a proposal) carry its name as `id` in the SVG.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.show.figure_parts import (
    DOUBLE_WIDTH,
    GRAY,
    LIGHT_GRAY,
    SINGLE_WIDTH,
    add_bar,
    add_legend,
    add_lines,
    clean,
    figure_style,
    line_key,
    new_figure,
    patch_key,
)
from hrpro_pipeline.show.views import BACKGROUND, TRUE_POSITIVE_TIOU

_GOOD, _BAD = "#0077BB", "#EE7733"
_WRONG_EDGE: dict[str, Any] = {"edgecolor": "#B00020", "hatch": "//////"}
_MARKERS = "os^Dv"
# Fig. 4, inches: a method has a panel of curves above and a lane for each class below.
_CURVES_HEIGHT, _LANE_HEIGHT = 0.55, 0.13
# Proposals of a kind in Fig. C: the best of the candidates, any of the negative ones.
_MOST_LINES = 48


@dataclass(frozen=True)
class FigureVideo:
    """A video as each of its figures has it.

    Attributes:
        title: of the figure.
        duration_seconds: of the video.
        segments: ground truth, rows [G, 3] of start, end (s) and class; may be empty.
        classes: names.
        colors: `#RRGGBB` by name.
    """

    title: str
    duration_seconds: float
    segments: np.ndarray
    classes: Sequence[str]
    colors: Mapping[str, str]

    def color(self, label: float) -> str:
        """The color of a class, by its number."""
        return self.colors[self.classes[int(label)]]

    def class_key(self, label: int) -> Any:
        """A class in the legend."""
        return patch_key(self.classes[label], facecolor=self.color(label))


@dataclass(frozen=True)
class Method:
    """Scores and detections of a video by one model.

    Attributes:
        scores: P of the classes in the figure on the snippet axis, [T, K].
        detections: rows [M, 4] of start, end (s), class, score.
        is_true_positive: bool [M].
    """

    name: str
    clock: SnippetClock
    scores: np.ndarray
    detections: np.ndarray
    is_true_positive: np.ndarray


@dataclass(frozen=True)
class Spans:
    """A row of Fig. C: seeds and reliable proposals, rows [G, 3] of start, end (s) and class."""

    name: str
    action: np.ndarray
    background: np.ndarray
    proposals: np.ndarray


@dataclass(frozen=True)
class ScorePanel:
    """A half of Fig. 5.

    Attributes:
        score: name of the score.
        detections: rows [M, 4] of start, end (s), class, score.
        is_good: which overlap a segment of their class enough, bool [M].
        separation: how often a good one scores over a bad one; NaN without pairs.
    """

    name: str
    score: str
    detections: np.ndarray
    is_good: np.ndarray
    separation: float


def draw_timelines(video: FigureVideo, methods: Sequence[Method], labels: Sequence[int]) -> Any:
    """Fig. 4: ground truth, and beneath it each method's snippet scores and detections, the wrong ones marked.

    Without ground truth the methods alone.

    Args:
        labels: the classes in the figure, one lane each, from top to bottom.
    """
    lanes = {label: lane for lane, label in enumerate(labels)}
    heights = [_CURVES_HEIGHT + _LANE_HEIGHT * len(lanes)] * len(methods)
    if len(video.segments):
        heights.insert(0, _LANE_HEIGHT * len(lanes) + 0.1)
    with figure_style():
        figure = new_figure(DOUBLE_WIDTH, sum(heights) + 0.3 * len(heights) + 0.7, video.title)
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        if len(video.segments):
            _draw_truth(axes[0], video, lanes)
        for row, (axis, method) in enumerate(zip(axes[-len(methods) :], methods, strict=True)):
            _draw_method(axis, row, method, video, lanes)
        _set_time_axis(axes[-1], video)
        keys = [video.class_key(label) for label in labels]
        if len(video.segments):
            keys.append(patch_key(f"wrong at tIoU {TRUE_POSITIVE_TIOU:g}", facecolor="white", **_WRONG_EDGE))
        add_legend(figure, keys)
    return figure


def _draw_truth(axis: Any, video: FigureVideo, lanes: Mapping[int, int]) -> None:
    axis.set_title("ground truth")
    for number, (start, end, label) in enumerate(video.segments):
        add_bar(axis, (start, end), -lanes[int(label)], 0.7, video.color(label), f"truth-{number}")
    axis.set_ylim(-len(lanes) + 0.4, 0.6)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)


def _draw_method(axis: Any, row: int, method: Method, video: FigureVideo, lanes: Mapping[int, int]) -> None:
    """Curves from 0 to 1 above, a lane for each class below."""
    axis.set_title(clean(method.name))
    step = _LANE_HEIGHT / _CURVES_HEIGHT
    times = method.clock.to_seconds(np.arange(len(method.scores)) + 0.5)
    for label, lane in lanes.items():
        color = video.color(label)
        axis.fill_between(times, method.scores[:, lane], color=color, alpha=0.15, linewidth=0)
        axis.plot(times, method.scores[:, lane], color=color, linewidth=0.9, gid=f"scores-{row}-{lane}")
    for number in reversed(range(len(method.detections))):  # the best ones on top
        start, end, label = method.detections[number, :3].tolist()
        style = {} if method.is_true_positive[number] else {**_WRONG_EDGE, "linewidth": 0.9}
        middle = -step * (lanes[int(label)] + 0.6)
        add_bar(axis, (start, end), middle, 0.7 * step, video.color(label), f"found-{row}-{number}", **style)
    axis.axhline(0, color=GRAY, linewidth=0.4)
    axis.set_ylim(-step * (len(lanes) + 0.2), 1.02)
    axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    for start, end, _ in video.segments:
        axis.axvspan(start, end, color="black", alpha=0.06, linewidth=0, zorder=0)


def draw_scores(video: FigureVideo, panels: Sequence[ScorePanel]) -> Any:
    """Fig. 5: each detection as a line from its start to its end at the height of its score."""
    with figure_style():
        figure = new_figure(DOUBLE_WIDTH, 2.5, video.title)
        axes = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
        for place, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
            _draw_score_panel(axis, place, panel, video)
        keys = [
            patch_key(f"right (tIoU at least {TRUE_POSITIVE_TIOU:g})", facecolor=_GOOD),
            patch_key("wrong", facecolor=_BAD),
        ]
        for label in dict.fromkeys(int(label) for label in video.segments[:, 2]):
            keys.append(patch_key(f"truth: {video.classes[label]}", facecolor=video.color(label), alpha=0.3))
        add_legend(figure, keys)
    return figure


def _draw_score_panel(axis: Any, place: int, panel: ScorePanel, video: FigureVideo) -> None:
    rows, is_good = panel.detections, panel.is_good
    axis.set_title(panel.name)
    axis.set_ylabel(panel.score)
    for number, (start, end, label) in enumerate(video.segments):
        axis.axvspan(start, end, color=video.color(label), alpha=0.22, linewidth=0, gid=f"truth-{place}-{number}")
    add_lines(axis, rows[~is_good], _BAD, 0.5, f"wrong-{place}")
    add_lines(axis, rows[is_good], _GOOD, 1.0, f"right-{place}")
    if np.isfinite(panel.separation):
        text = f"right over wrong in {panel.separation:.1%} of pairs"
        axis.set_title(text, loc="right", fontsize=6.5, fontweight="normal", color="#333333")
    low, high = (rows[:, 3].min(), rows[:, 3].max()) if len(rows) else (0.0, 1.0)
    margin = 0.04 * max(high - low, 0.1)
    axis.set_ylim(min(low, 0) - margin, high + margin)
    _set_time_axis(axis, video)


def draw_embeddings(
    panels: Sequence[tuple[str, np.ndarray]], labels: np.ndarray, classes: Sequence[str], colors: Mapping[str, str]
) -> Any:
    """Fig. B: snippets in the plane, by class.

    Args:
        panels: name and points [N, 2].
        labels: class of each snippet, or BACKGROUND, [N].
    """
    present = [int(label) for label in np.unique(labels) if label != BACKGROUND]
    columns = 3 if len(panels) == 1 else 6
    width = SINGLE_WIDTH if len(panels) == 1 else DOUBLE_WIDTH
    legend_rows = -(-(len(present) + 1) // columns)
    with figure_style():
        figure = new_figure(width, width / len(panels) + 0.25 + 0.16 * legend_rows)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        markers = _markers(classes)
        for place, (axis, (name, points)) in enumerate(zip(axes, panels, strict=True)):
            axis.set_title(clean(name))
            for label in (BACKGROUND, *present):
                color = LIGHT_GRAY if label == BACKGROUND else colors[classes[label]]
                _scatter(axis, points, labels, label, color, markers.get(label, "o"), f"snippets-{place}-{label}")
            _box(axis)
        keys = [
            line_key(classes[label], linestyle="", marker=markers[label], markersize=4, color=colors[classes[label]])
            for label in present
        ]
        if (labels == BACKGROUND).any():
            keys.append(line_key("background", linestyle="", marker="o", markersize=3, color=LIGHT_GRAY))
        add_legend(figure, keys, columns)
    return figure


def _markers(classes: Sequence[str]) -> dict[int, str]:
    """A shape for each class, by number; classes of the same color have different shapes."""
    alphabetical = sorted(range(len(classes)), key=lambda label: classes[label])
    return {label: _MARKERS[index // 6 % len(_MARKERS)] for index, label in enumerate(alphabetical)}


def _scatter(axis: Any, points: np.ndarray, labels: np.ndarray, label: int, color: str, marker: str, gid: str) -> None:
    """The points of one label; those of the background are smaller."""
    size = float(np.clip(2500 / max(len(labels), 1), 6, 14))
    of_label = points[labels == label]
    axis.scatter(
        of_label[:, 0],
        of_label[:, 1],
        marker=marker,
        linewidths=0,
        alpha=0.85,
        gid=gid,
        color=color,
        s=size / 2 if label == BACKGROUND else size,
    )


def _box(axis: Any) -> None:
    """A square frame without ticks."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(True)
    axis.set_box_aspect(1)


def draw_reliability(
    video: FigureVideo,
    points: Sequence[tuple[float, int]],
    snapshots: Sequence[Spans],
    candidates: np.ndarray,
    negatives: np.ndarray,
) -> Any:
    """Fig. C: seeds and reliable proposals in snapshots of training, and the proposals of stage 2, on the ground truth.

    Args:
        points: seconds and class.
        candidates: positive proposals [M, 4] of start, end (s), class, score.
        negatives: negative proposals [M, 2] of start, end (s).
    """
    best = candidates[np.argsort(-candidates[:, 3], kind="stable"), :3]
    with figure_style():
        figure = new_figure(DOUBLE_WIDTH, 0.95 + 0.27 * len(snapshots) + 1.0)
        axis = figure.subplots()
        axis.set_title(clean(video.title), fontsize=8)
        for number, (start, end, label) in enumerate(video.segments):
            axis.axvspan(start, end, color=video.color(label), alpha=0.16, linewidth=0, gid=f"truth-{number}")
        for number, (seconds, _) in enumerate(points):
            axis.axvline(seconds, color="black", linewidth=0.6, linestyle=(0, (4, 2)), gid=f"point-{number}")
        ticks: list[tuple[float, str]] = []
        for row, snapshot in enumerate(snapshots):
            _draw_snapshot(axis, row, snapshot, video)
            ticks.append((-row, clean(snapshot.name)))
        row = len(snapshots)
        for name, proposals, gid in (
            ("PP", best, "positive"),
            ("NP", np.insert(negatives, 2, BACKGROUND, axis=1), "negative"),
        ):
            drawn = proposals[:_MOST_LINES]
            middle = _draw_proposals(axis, row, drawn, gid, video)
            ticks.append((middle, f"{name} ({len(drawn)} of {len(proposals)})"))
            row += 2
        axis.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(-row + 0.6, 0.6)
        _set_time_axis(axis, video)
        add_legend(figure, _reliability_keys(video, snapshots, best[:_MOST_LINES]), columns=5)
    return figure


def _draw_snapshot(axis: Any, row: int, snapshot: Spans, video: FigureVideo) -> None:
    """Seeds in one line, reliable proposals beneath, the shorter ones on top."""
    for number, (start, end, label) in enumerate(snapshot.action):
        add_bar(axis, (start, end), -row + 0.12, 0.34, video.color(label), f"action-{row}-{number}")
    for number, (start, end, _) in enumerate(snapshot.background):
        add_bar(axis, (start, end), -row + 0.12, 0.34, LIGHT_GRAY, f"background-{row}-{number}")
    longest_first = np.argsort(snapshot.proposals[:, 0] - snapshot.proposals[:, 1], kind="stable")
    style = {"edgecolor": "black", "linewidth": 0.5}
    for number, (start, end, label) in zip(longest_first, snapshot.proposals[longest_first], strict=True):
        add_bar(axis, (start, end), -row - 0.26, 0.2, video.color(label), f"reliable-{row}-{number}", **style)


def _draw_proposals(axis: Any, row: int, proposals: np.ndarray, gid: str, video: FigureVideo) -> float:
    """Proposals [M, 3] as lines one above the other, by their starts, from a row down -> the middle of their height."""
    top, height = -row + 0.4, 1.6
    levels = np.linspace(top, top - height, len(proposals) + 2)[1:-1]
    by_start = proposals[np.argsort(proposals[:, 0], kind="stable")]
    colors = [video.color(label) if label >= 0 else GRAY for label in by_start[:, 2]]
    add_lines(axis, np.column_stack([by_start, levels]), colors, min(1.2, 30 / max(len(proposals), 1)), gid)
    return top - height / 2


def _reliability_keys(video: FigureVideo, snapshots: Sequence[Spans], candidates: np.ndarray) -> list[Any]:
    columns = [video.segments[:, 2], candidates[:, 2]]
    columns += [spans[:, 2] for snapshot in snapshots for spans in (snapshot.action, snapshot.proposals)]
    keys = [video.class_key(label) for label in sorted({int(label) for column in columns for label in column})]
    keys += [
        patch_key("background seeds", facecolor=LIGHT_GRAY),
        patch_key("reliable proposal", facecolor="white", edgecolor="black"),
    ]
    if len(video.segments):
        keys.append(patch_key("ground truth (shaded)", facecolor=GRAY, alpha=0.25))
    return [*keys, line_key("labeled point", color="black", linewidth=0.6, linestyle=(0, (3, 1.5)))]


def _set_time_axis(axis: Any, video: FigureVideo) -> None:
    axis.set_xlim(0, video.duration_seconds)
    axis.set_xlabel("time (s)")
