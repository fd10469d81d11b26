"""Which axis of an array is time, which are channels and crops: told from the shapes of all videos together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hrpro_pipeline.data.feature_files.choices import Crops, Orientation
from hrpro_pipeline.errors import HrproError

Shape = tuple[int, ...]

# Sizes of the axis of crops: the corners and the center, and all of them mirrored.
_CROPS = {5, 10}


@dataclass(frozen=True)
class Axes:
    """How arrays are read.

    Attributes:
        dropped: axes of size 1 that go.
        crops: the axis of crops among the others; None for none.
        orientation: of the last two that remain, time and channels.
    """

    dropped: tuple[int, ...]
    crops: int | None
    orientation: Orientation

    def text(self, how: Crops | None) -> str:
        """In words, such as: [T, D]."""
        if self.crops is None:
            return "[T, D]" if self.orientation == "TD" else "[D, T], turned round"
        order = ["T", "D"] if self.orientation == "TD" else ["D", "T"]
        order.insert(self.crops, "crops")
        return f"[{', '.join(order)}], crops {'averaged' if how == 'mean' else 'side by side'}"

    def shape(self, shape: Shape) -> tuple[int, int]:
        """T and D of an array of this shape, of one of its crops."""
        sizes = self._plain(shape)
        return (sizes[0], sizes[1]) if self.orientation == "TD" else (sizes[1], sizes[0])

    def _plain(self, shape: Shape) -> list[int]:
        sizes = [size for axis, size in enumerate(shape) if axis not in self.dropped]
        if self.crops is not None:
            del sizes[self.crops]
        return sizes

    def arranged(self, array: np.ndarray) -> np.ndarray:
        """[T, D], or [T, crops, D]."""
        array = array.reshape([size for axis, size in enumerate(array.shape) if axis not in self.dropped])
        if self.crops is None:
            return array if self.orientation == "TD" else array.T
        array = np.moveaxis(array, self.crops, 2)  # [T, D, crops] or [D, T, crops]
        return np.moveaxis(array if self.orientation == "TD" else array.swapaxes(0, 1), 2, 1)


class AmbiguousError(HrproError):
    """Shapes that do not say which axis is time; those of another stream may."""


def axes_of(
    shapes: Mapping[str, Shape], layout: Orientation | None, crops: Crops | None, is_archive: bool = False
) -> tuple[Axes, dict[str, str]]:
    """The axes of the arrays of one stream, and what is wrong with those that do not fit the others.

    Args:
        shapes: by name.
        layout: where it is given. crops: what becomes of crops, where it is given.
        is_archive: arrays are [T, D] unless they look otherwise.

    Raises:
        HrproError: two readings are possible; the line says what to give.

    Examples:
        >>> axes, problems = axes_of({"a": (2048, 17), "b": (2048, 23)}, None, None)
        >>> axes.orientation, axes.shape((2048, 23)), problems
        ('DT', (23, 2048), {})
    """
    num_axes = Counter(len(shape) for shape in shapes.values()).most_common(1)[0][0]
    problems = {
        name: f"{name}: shape {list(shape)}; expected [T, D]"
        for name, shape in shapes.items()
        if len(shape) != num_axes or num_axes < 2 or 0 in shape
    }
    fitting = {name: shape for name, shape in shapes.items() if name not in problems}
    if not fitting:
        raise HrproError(next(iter(problems.values())))
    first = next(iter(fitting))
    dropped = _dropped(list(fitting.values()))
    rest = [tuple(size for axis, size in enumerate(shape) if axis not in dropped) for shape in fitting.values()]
    crop_axis = _crop_axis(rest, crops) if len(rest[0]) == 3 else None
    if crop_axis is not None and crops is None:
        raise HrproError(
            f"{first}: shape {list(fitting[first])} has {rest[0][crop_axis]} crops of each snippet; average them with "
            "`crops=mean`, or put them side by side with `crops=stacked`"
        )
    if len(rest[0]) - (crop_axis is not None) != 2:
        raise HrproError(
            f"{first}: shape {list(fitting[first])}; expected [T, D], [1, T, D] or [T, crops, D]: pool other axes first"
        )
    pairs = [shape if crop_axis is None else shape[:crop_axis] + shape[crop_axis + 1 :] for shape in rest]
    orientation = layout or _orientation(pairs, is_archive)
    if orientation is None:
        raise AmbiguousError(
            f"{first}: shape {list(fitting[first])} does not say which axis is time; give `layout=TD` if a row is a "
            "snippet, or `layout=DT` if a column is"
        )
    return Axes(dropped, crop_axis, orientation), problems


def _dropped(shapes: Sequence[Shape]) -> tuple[int, ...]:
    """Axes of size 1 in all arrays, as far as two others remain; the last ones first where there are such."""
    single = [axis for axis in range(len(shapes[0])) if all(shape[axis] == 1 for shape in shapes)]
    if single and single[-1] == len(shapes[0]) - 1:
        single.reverse()
    return tuple(sorted(single[: max(0, len(shapes[0]) - 2)]))


def _crop_axis(shapes: Sequence[Shape], crops: Crops | None) -> int | None:
    """The axis of crops among three, the middle one first; of any size where it is said that there are crops."""
    for axis in (1, 0, 2):
        sizes = {shape[axis] for shape in shapes}
        if len(sizes) == 1 and sizes <= _CROPS:
            return axis
    return 1 if crops is not None and len({shape[1] for shape in shapes}) == 1 else None


def _orientation(pairs: Sequence[Shape], is_archive: bool) -> Orientation | None:
    """Channels are as many in all videos, time differs; None where that does not tell."""
    first, second = (Counter(pair[axis] for pair in pairs).most_common(1)[0] for axis in (0, 1))
    if is_archive:
        return "DT" if _is_width(first[0]) and not _is_width(second[0]) else "TD"
    if first[1] != second[1]:
        return "TD" if second[1] > first[1] else "DT"
    if _is_width(first[0]) != _is_width(second[0]):
        return "TD" if _is_width(second[0]) else "DT"
    return None


def _is_width(size: int) -> bool:
    """Whether networks have so many channels, and hardly a video so many snippets."""
    return size >= 256 and size % 128 == 0
