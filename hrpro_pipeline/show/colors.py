"""Colors of classes, the same in the report, the figures and the overlays."""

import colorsys
from collections.abc import Iterable

# 24 colors that stand out from white and from the page's dark ground (contrast 2.4 and more) and keep away from each
# other (0.098 and more in OKLab; the first ten also as the red- and green-blind see them). Found by a farthest-point
# search that started with six of Paul Tol's; tests/test_report.py holds the figures.
PALETTE = (
    *("#4477AA", "#EE6677", "#228833", "#CC9200", "#2CA8C0", "#AA3377", "#9669FF", "#D287FF"),
    *("#E13C00", "#5A5AD2", "#69B400", "#96691E", "#A578A5", "#0087FF", "#C34BC3", "#789669"),
    *("#78A5FF", "#FF69C3", "#D296A5", "#FF781E", "#785A87", "#B45A5A", "#2D7869", "#00B487"),
)
_GOLDEN = 0.618034


def class_color(index: int) -> str:
    """Color of class number `index` as #RRGGBB: the palette's, then hues a golden section apart, no two alike."""
    if index < len(PALETTE):
        return PALETTE[index]
    turn = index - len(PALETTE)
    red, green, blue = colorsys.hls_to_rgb(turn * _GOLDEN % 1, (0.42, 0.52, 0.6)[turn % 3], (0.75, 0.45)[turn % 2])
    return f"#{round(255 * red):02X}{round(255 * green):02X}{round(255 * blue):02X}"


def class_colors(classes: Iterable[str], others: Iterable[str] = ()) -> dict[str, str]:
    """A color for each class, `#RRGGBB`: those of a model, and then those it does not know, in alphabetical order."""
    known = sorted(set(classes))
    return {label: class_color(index) for index, label in enumerate([*known, *sorted(set(others) - set(known))])}
