"""Parts that the figures share: style, bars, lines, legends. Matplotlib is imported when the first one is drawn."""

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline.data.files import replacing
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.show.fonts import WITHOUT_PICTURE, find_font, letters_of, spelled_out

# Inches; two columns of a conference paper are 7 wide together.
SINGLE_WIDTH, DOUBLE_WIDTH = 3.45, 7.1
GRAY, LIGHT_GRAY = "#777777", "#C8C8C8"
_DPI = 300
_FONT = "DejaVu Sans"  # comes with matplotlib
_STYLE: Any = {
    "font.family": _FONT,
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
_MOST_LETTERS = 40


@contextmanager
def figure_style() -> Iterator[None]:
    """Settings of matplotlib while a figure is drawn or saved.

    Raises:
        HrproError: matplotlib is not installed.
    """
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
        with figure_style(), replacing(file) as temporary:
            figure.savefig(temporary, format=suffix[1:], **options)
        written.append(file)
    return written


def new_figure(width: float, height: float, title: str | None = None) -> Any:
    """An empty figure, sides in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title is not None:
        figure.suptitle(clean(title), fontsize=8, x=0.01, ha="left", fontweight="bold")
    return figure


def add_bar(
    axis: Any, span: tuple[float, float], middle: float, height: float, color: str, gid: str, **style: Any
) -> None:
    """A horizontal bar from start to end of `span`, whose id in the SVG is `gid`."""
    from matplotlib.patches import Rectangle

    start, end = span
    style = {"linewidth": 0} | style
    axis.add_patch(Rectangle((start, middle - height / 2), end - start, height, facecolor=color, gid=gid, **style))


def add_lines(axis: Any, rows: np.ndarray, color: Any, width: float, gid: str) -> None:
    """Horizontal lines of rows [M, 4]: start, end, anything, height; their id in the SVG is `gid`."""
    from matplotlib.collections import LineCollection

    ends = np.stack([rows[:, [0, 3]], rows[:, [1, 3]]], axis=1)  # [M, 2, 2]
    lines = LineCollection(list(ends), colors=color, linewidths=width, alpha=0.9)
    lines.set_gid(gid)
    axis.add_collection(lines)


def patch_key(label: str, **style: Any) -> Any:
    """A patch for the legend."""
    from matplotlib.patches import Patch

    return Patch(label=clean(label), linewidth=0.8 if "edgecolor" in style else 0, **style)


def line_key(label: str, **style: Any) -> Any:
    """A line or a marker for the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=clean(label), **style)


def add_legend(figure: Any, keys: Sequence[Any], columns: int = 6) -> None:
    """A legend beneath the figure, in rows as even as can be."""
    rows = -(-len(keys) // columns)
    columns = -(-len(keys) // max(rows, 1))
    figure.legend(handles=list(keys), loc="outside lower center", ncols=columns, columnspacing=1.2)


def clean(text: str) -> str:
    """Text that any SVG can hold, not too long; a leading _ would hide it from legends."""
    printable = "".join(letter if unicodedata.category(letter)[0] != "C" else " " for letter in text)
    line = " ".join(printable.split()) or "?"
    line = line if len(line) <= _MOST_LETTERS else line[: _MOST_LETTERS - 1] + "…"
    line = _drawable(line)
    return f" {line}" if line.startswith("_") else line


def _drawable(text: str) -> str:
    """The text, with an installed font added to the style where its own lacks letters, or with their code points."""
    import matplotlib
    from matplotlib import font_manager

    own = letters_of(Path(font_manager.findfont(_FONT)))
    missing = "".join(letter for letter in text if ord(letter) not in own and letter not in WITHOUT_PICTURE)
    if not missing.strip():
        return text
    if (path := find_font(missing)) is None:
        return spelled_out(text, lambda letter: ord(letter) in own)
    font_manager.fontManager.addfont(path)
    name = font_manager.FontProperties(fname=path).get_name()
    families = matplotlib.rcParams["font.family"]
    if name not in families:
        matplotlib.rcParams["font.family"] = [*families, name]
    return text
