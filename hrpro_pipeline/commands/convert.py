"""`hrpro convert`: labels from one format to another."""

import logging
from dataclasses import dataclass
from pathlib import Path

from hrpro_pipeline.data.formats.label import Hints
from hrpro_pipeline.data.formats.names import ClassFrom, FormatName, PointAt
from hrpro_pipeline.data.labels import ALL_FORMATS, fitted, read_labels, write_labels
from hrpro_pipeline.errors import HrproError, UsageError

log = logging.getLogger(__name__)

# What an output is without `to`, by its suffix; other suffixes are those of several formats.
_BY_SUFFIX: dict[str, FormatName] = {
    ".csv": "points",
    ".json": "annotations",
    ".boris": "boris",
    ".eaf": "elan",
    ".vtt": "vtt",
    ".srt": "srt",
    ".edl": "resolve",
}


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        format, title: its name, as `to` takes it, and as people call it.
        files: where.
        num_labels: in all files.
        notes: what the format could not hold, counted; one entry for each kind of loss.
    """

    format: FormatName
    title: str
    files: tuple[Path, ...]
    num_labels: int
    notes: tuple[str, ...]


def convert_labels(
    source: str | Path,
    out: str | Path,
    *,
    to: FormatName | None = None,
    fps: float | None = None,
    point_at: PointAt = "middle",
    class_from: ClassFrom | None = None,
) -> Conversion:
    """Write labels of one format in another, and say in the log what it cannot hold.

    Args:
        source: points, annotations, detections or a file of a labeling tool; or a folder of such files. The format is
            known by the content.
        out: file to write; a folder for several videos in a format that holds one a file.
        to: name of the format; by the suffix of `out` otherwise.
        fps: frames a second, for formats that count frames.
        point_at: where in a segment its point is, for formats that hold points alone.
        class_from: whether `tier` or `value` is the class in ELAN's files, where both may be.

    Raises:
        HrproError: a file in no known format, or one that cannot be read.

    Examples:
        >>> from hrpro_pipeline import convert_labels
        >>> result = convert_labels("annotations.json", "kitchen.boris")
        >>> result.format, result.num_labels, result.notes
        ('boris', 3, ())
        >>> convert_labels("kitchen.boris", "middles.csv").notes
        ('3 segments became points',)
        >>> print(Path("middles.csv").read_text(), end="")
        video_id,class,time
        kitchen_01,pour,1.500
        kitchen_01,stir,3.500
        kitchen_02,stir,2.000
    """
    path = Path(out)
    name = to or _BY_SUFFIX.get(path.suffix.lower())
    if name is None or name not in ALL_FORMATS:
        raise UsageError(f"{path}: say in which format with `to`, one of {', '.join(ALL_FORMATS)}")
    if fps is not None and not 0 < fps < 1e6:
        raise UsageError(f"`fps` is {fps:g}; expected frames a second, such as 25")
    known, hints = ALL_FORMATS[name], Hints(fps, class_from)
    read = read_labels(Path(source), hints)
    labels, notes = fitted(read, known, "start" if name == "youtube" else point_at)
    try:
        files = write_labels(path, labels, known, hints)
    except HrproError as error:
        raise HrproError("; ".join([str(error), *notes])) from None
    if notes:
        log.warning("%s: %s cannot hold all: %s", path, known.title, "; ".join(notes))
    return Conversion(name, known.title, tuple(files), len(labels), tuple(notes))
