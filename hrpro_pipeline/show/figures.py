"""The figures, drawn: arrays in, matplotlib figures out, of the widths of a paper's columns.

Parts of a figure that stand for one thing (a segment, a detection, a proposal) carry its name as `id` in the SVG.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline.data.files import replacing
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.show.views import BACKGROUND, RIGHT_TIOU

# Inches; two columns of a conference paper are 7 wide together.
_SINGLE, _DOUBLE = 3.45, 7.1
_DPI = 300
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "legend.handlelength": 1.4,
    "svg.fonttype": "path",  # letters as outlines: the file looks the same everywhere
    "svg.hashsalt": "hrpro",
    "text.parse_math": False,  # a class may be called $x$
}
_WRONG = "#B00020"
_GRAY, _LIGHT = "#777777", "#C8C8C8"
_GOOD, _BAD = "#0077BB", "#EE7733"
_MARKERS = "os^Dv"
_MOST_NAME = 40
# Proposals of a kind in Fig. C: the best of the candidates, any of the negative ones.
_MOST_LINES = 48


@dataclass(frozen=True)
class Method:
    """What one model says of a video.

    Attributes:
        scores: P of the shown classes on the snippet axis, [T, K].
        detections: rows [M, 4] of start, end (s), class, score. right: bool [M].
    """

    name: str
    clock: SnippetClock
    scores: np.ndarray
    detections: np.ndarray
    right: np.ndarray


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
        score: what the score is.
        detections: rows [M, 4] of start, end (s), class, score. right: bool [M].
        separation: how often a right one scores over a wrong one; NaN where there are none.
    """

    name: str
    score: str
    detections: np.ndarray
    right: np.ndarray
    separation: float


@contextmanager
def _style() -> Iterator[None]:
    try:
        import matplotlib
    except ImportError:
        raise HrproError("figures need matplotlib and scikit-learn: pip install 'hrpro-pipeline[figures]'") from None
    with matplotlib.rc_context(_STYLE):
        yield


def save_figure(figure: Any, path: Path) -> list[Path]:
    """Write `<path>.png` (300 dpi) and `<path>.svg`, each atomically."""
    written = []
    for suffix, options in ((".png", {"dpi": _DPI}), (".svg", {"metadata": {"Date": None}})):
        file = path.with_name(path.name + suffix)
        with _style(), replacing(file) as temporary:
            figure.savefig(temporary, format=suffix[1:], **options)
        written.append(file)
    return written


def draw_timelines(
    title: str,
    duration: float,
    segments: np.ndarray,
    methods: Sequence[Method],
    shown: Sequence[int],
    classes: Sequence[str],
    colors: Mapping[str, str],
) -> Any:
    """Fig. 4: ground truth, and beneath it each method's snippet scores and detections, the wrong ones marked.

    Without ground truth the methods alone.

    Args:
        segments: ground truth, [G, 3]; may be empty.
        shown: the classes that appear, one lane each, from top to bottom.
    """
    lanes = {label: lane for lane, label in enumerate(shown)}
    lane_height = 0.13
    heights = [0.55 + lane_height * len(lanes)] * len(methods)
    if len(segments):
        heights.insert(0, lane_height * len(lanes) + 0.1)
    with _style():
        figure = _figure(_DOUBLE, sum(heights) + 0.3 * len(heights) + 0.7)
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        figure.suptitle(_clean(title), fontsize=8, x=0.01, ha="left", fontweight="bold")
        if len(segments):
            axes[0].set_title("ground truth")
            for number, (start, end, label) in enumerate(segments):
                _bar(axes[0], start, end, -lanes[int(label)], 0.7, colors[classes[int(label)]], f"truth-{number}")
            axes[0].set_ylim(-len(lanes) + 0.4, 0.6)
            axes[0].set_yticks([])
            axes[0].spines["left"].set_visible(False)
        for row, (axis, method) in enumerate(zip(axes[-len(methods) :], methods, strict=True)):
            axis.set_title(_clean(method.name))
            # Curves from 0 to 1 above, a lane for each class below.
            step = lane_height / 0.55
            times = method.clock.to_seconds(np.arange(len(method.scores)) + 0.5)
            for label, lane in lanes.items():
                color = colors[classes[label]]
                axis.fill_between(times, method.scores[:, lane], color=color, alpha=0.15, linewidth=0)
                axis.plot(times, method.scores[:, lane], color=color, linewidth=0.9, gid=f"scores-{row}-{lane}")
            for number in reversed(range(len(method.detections))):  # the best ones on top
                found, good = method.detections[number], method.right[number]
                start, end, label = float(found[0]), float(found[1]), int(found[2])
                style = {} if good else {"edgecolor": _WRONG, "linewidth": 0.9, "hatch": "//////"}
                at = -step * (lanes[label] + 0.6)
                _bar(axis, start, end, at, 0.7 * step, colors[classes[label]], f"found-{row}-{number}", **style)
            axis.axhline(0, color=_GRAY, linewidth=0.4)
            axis.set_ylim(-step * (len(lanes) + 0.2), 1.02)
            axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
            for start, end, _ in segments:
                axis.axvspan(start, end, color="black", alpha=0.06, linewidth=0, zorder=0)
        axes[-1].set_xlim(0, duration)
        axes[-1].set_xlabel("time (s)")
        keys = [_patch(classes[label], facecolor=colors[classes[label]]) for label in shown]
        if len(segments):
            keys.append(_patch(f"wrong at tIoU {RIGHT_TIOU:g}", facecolor="white", edgecolor=_WRONG, hatch="//////"))
        _legend(figure, keys)
    return figure


def draw_scores(
    title: str,
    duration: float,
    segments: np.ndarray,
    panels: Sequence[ScorePanel],
    classes: Sequence[str],
    colors: Mapping[str, str],
) -> Any:
    """Fig. 5: each detection as a line from its start to its end at the height of its score."""
    with _style():
        figure = _figure(_DOUBLE, 2.5)
        axes = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
        figure.suptitle(_clean(title), fontsize=8, x=0.01, ha="left", fontweight="bold")
        for place, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
            rows, good = panel.detections, panel.right
            axis.set_title(panel.name)
            axis.set_ylabel(panel.score)
            for number, (start, end, label) in enumerate(segments):
                color = colors[classes[int(label)]]
                axis.axvspan(start, end, color=color, alpha=0.22, linewidth=0, gid=f"truth-{place}-{number}")
            for kind, chosen, color, width in (("wrong", ~good, _BAD, 0.5), ("right", good, _GOOD, 1.0)):
                lines = _lines(rows[chosen], color, width)
                lines.set_gid(f"{kind}-{place}")
                axis.add_collection(lines)
            if np.isfinite(panel.separation):
                text = f"right over wrong in {panel.separation:.1%} of pairs"
                axis.set_title(text, loc="right", fontsize=6.5, fontweight="normal", color="#333333")
            low, high = (rows[:, 3].min(), rows[:, 3].max()) if len(rows) else (0.0, 1.0)
            margin = 0.04 * max(high - low, 0.1)
            axis.set_ylim(min(low, 0) - margin, high + margin)
            axis.set_xlim(0, duration)
            axis.set_xlabel("time (s)")
        keys = [
            _patch(f"right (tIoU at least {RIGHT_TIOU:g})", facecolor=_GOOD),
            _patch("wrong", facecolor=_BAD),
        ]
        labels = dict.fromkeys(int(label) for label in segments[:, 2])
        keys += [_patch(f"truth: {classes[label]}", facecolor=colors[classes[label]], alpha=0.3) for label in labels]
        _legend(figure, keys)
    return figure


def draw_embeddings(
    panels: Sequence[tuple[str, np.ndarray]], labels: np.ndarray, classes: Sequence[str], colors: Mapping[str, str]
) -> Any:
    """Fig. B: snippets in the plane, by class.

    Args:
        panels: name and places [N, 2]. labels: class of each snippet, or BACKGROUND, [N].
    """
    present = [int(label) for label in np.unique(labels) if label != BACKGROUND]
    size = float(np.clip(2500 / max(len(labels), 1), 6, 14))
    # Where colors repeat, the shapes do not.
    shapes = {
        label: _MARKERS[index // 6 % len(_MARKERS)]
        for index, label in enumerate(sorted(range(len(classes)), key=lambda label: classes[label]))
    }
    with _style():
        from matplotlib.lines import Line2D

        width = _SINGLE if len(panels) == 1 else _DOUBLE
        rows = -(-(len(present) + 1) // (3 if len(panels) == 1 else 6))
        figure = _figure(width, width / len(panels) + 0.25 + 0.16 * rows)
        for place, (axis, (name, at)) in enumerate(
            zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)
        ):
            axis.set_title(_clean(name))
            for label in (BACKGROUND, *present):
                chosen = at[labels == label]
                style = {"color": _LIGHT, "s": size / 2}
                if label != BACKGROUND:
                    style = {"color": colors[classes[label]], "s": size}
                axis.scatter(
                    chosen[:, 0],
                    chosen[:, 1],
                    marker=shapes.get(label, "o"),
                    linewidths=0,
                    alpha=0.85,
                    gid=f"snippets-{place}-{label}",
                    **style,
                )
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(True)
            axis.set_box_aspect(1)
        keys = [
            Line2D(
                [],
                [],
                linestyle="",
                marker=shapes[label],
                markersize=4,
                color=colors[classes[label]],
                label=_clean(classes[label]),
            )
            for label in present
        ]
        if (labels == BACKGROUND).any():
            keys.append(Line2D([], [], linestyle="", marker="o", markersize=3, color=_LIGHT, label="background"))
        _legend(figure, keys, columns=3 if len(panels) == 1 else 6)
    return figure


def draw_reliability(
    title: str,
    duration: float,
    segments: np.ndarray,
    points: Sequence[tuple[float, int]],
    moments: Sequence[Spans],
    candidates: np.ndarray,
    negatives: np.ndarray,
    classes: Sequence[str],
    colors: Mapping[str, str],
) -> Any:
    """Fig. C: seeds and reliable proposals at moments of training, and the proposals of stage 2, on the ground truth.

    Args:
        segments: ground truth [G, 3]; may be empty. points: seconds and class.
        candidates: positive proposals [M, 4]. negatives: [M, 2].
    """
    with _style():
        figure = _figure(_DOUBLE, 0.95 + 0.27 * len(moments) + 1.0)
        axis = figure.subplots()
        axis.set_title(_clean(title), fontsize=8)
        rows = len(moments)
        ticks: list[float] = []
        names: list[str] = []
        for number, (start, end, label) in enumerate(segments):
            color = colors[classes[int(label)]]
            axis.axvspan(start, end, color=color, alpha=0.16, linewidth=0, gid=f"truth-{number}")
        for number, (seconds, _) in enumerate(points):
            axis.axvline(seconds, color="black", linewidth=0.6, linestyle=(0, (4, 2)), gid=f"point-{number}")
        for row, moment in enumerate(moments):
            for number, (start, end, label) in enumerate(moment.action):
                _bar(axis, start, end, -row + 0.12, 0.34, colors[classes[int(label)]], f"action-{row}-{number}")
            for number, (start, end, _) in enumerate(moment.background):
                _bar(axis, start, end, -row + 0.12, 0.34, _LIGHT, f"background-{row}-{number}")
            longest_first = np.argsort(moment.proposals[:, 0] - moment.proposals[:, 1], kind="stable")
            for number, (start, end, label) in zip(longest_first, moment.proposals[longest_first], strict=True):
                color = colors[classes[int(label)]]
                style = {"edgecolor": "black", "linewidth": 0.5}
                _bar(axis, start, end, -row - 0.26, 0.2, color, f"reliable-{row}-{number}", **style)
            ticks.append(-row)
            names.append(_clean(moment.name))
        # The rest in lines one above the other.
        best = candidates[np.argsort(-candidates[:, 3], kind="stable"), :3]
        for short, every, gid in (
            ("PP", best, "positive"),
            ("NP", np.insert(negatives, 2, BACKGROUND, axis=1), "negative"),
        ):
            spans = every[:_MOST_LINES]
            name = f"{short} ({len(spans)} of {len(every)})"
            top, height = -rows + 0.4, 1.6
            at = np.linspace(top, top - height, len(spans) + 2)[1:-1]
            order = np.argsort(spans[:, 0], kind="stable")
            line_colors = [colors[classes[int(label)]] if label >= 0 else _GRAY for label in spans[order, 2]]
            lines = _lines(np.column_stack([spans[order], at]), line_colors, min(1.2, 30 / max(len(spans), 1)))
            lines.set_gid(gid)
            axis.add_collection(lines)
            ticks.append(top - height / 2)
            names.append(name)
            rows += 2
        axis.set_yticks(ticks, names)
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(-rows + 0.6, 0.6)
        axis.set_xlim(0, duration)
        axis.set_xlabel("time (s)")
        from matplotlib.lines import Line2D

        labels = [segments[:, 2], *(spans[:, 2] for moment in moments for spans in (moment.action, moment.proposals))]
        present = sorted({int(label) for group in (*labels, best[:_MOST_LINES, 2]) for label in group})
        keys: list[Any] = [_patch(classes[label], facecolor=colors[classes[label]]) for label in present]
        keys += [
            _patch("background seeds", facecolor=_LIGHT),
            _patch("reliable proposal", facecolor="white", edgecolor="black"),
        ]
        if len(segments):
            keys.append(_patch("ground truth (shaded)", facecolor=_GRAY, alpha=0.25))
        keys.append(Line2D([], [], color="black", linewidth=0.6, linestyle=(0, (3, 1.5)), label="labeled point"))
        _legend(figure, keys, columns=5)
    return figure


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _bar(axis: Any, start: float, end: float, middle: float, height: float, color: str, gid: str, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    style = {"linewidth": 0} | style
    axis.add_patch(Rectangle((start, middle - height / 2), end - start, height, facecolor=color, gid=gid, **style))


def _lines(rows: np.ndarray, color: Any, width: float) -> Any:
    """Horizontal lines of rows [M, 4]: start, end, anything, height."""
    from matplotlib.collections import LineCollection

    ends = np.stack([rows[:, [0, 3]], rows[:, [1, 3]]], axis=1)  # [M, 2, 2]
    return LineCollection(list(ends), colors=color, linewidths=width, alpha=0.9)


def _patch(label: str, **style: Any) -> Any:
    from matplotlib.patches import Patch

    return Patch(label=_clean(label), linewidth=0.8 if "edgecolor" in style else 0, **style)


def _legend(figure: Any, keys: Sequence[Any], columns: int = 6) -> None:
    rows = -(-len(keys) // columns)
    columns = -(-len(keys) // max(rows, 1))
    figure.legend(handles=list(keys), loc="outside lower center", ncols=columns, columnspacing=1.2)


def _clean(text: str) -> str:
    """Text that any SVG can hold, not too long; a leading _ would hide it from legends."""
    kept = "".join(char if unicodedata.category(char)[0] != "C" else " " for char in text)
    kept = " ".join(kept.split()) or "?"
    kept = kept if len(kept) <= _MOST_NAME else kept[: _MOST_NAME - 1] + "…"
    return f" {kept}" if kept.startswith("_") else kept
