"""Colours of classes, the same in the report, the figures and the overlays."""

from collections.abc import Iterable

# Paul Tol's "bright" scheme without its grey: told apart by the colour-blind, on white and on black.
# With more classes they repeat.
PALETTE = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377")


def class_colors(classes: Iterable[str]) -> dict[str, str]:
    """A colour for each class, `#RRGGBB`, in alphabetical order of the classes."""
    return {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(sorted(set(classes)))}
