"""What a user says of feature files, where they do not say it themselves. Nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hrpro_pipeline.errors import UsageError

Orientation = Literal["TD", "DT"]
Crops = Literal["mean", "stacked"]
# Of exported files.
FileLayout = Literal["flat", "folders", "suffixes"]


@dataclass(frozen=True)
class ReadAs:
    """How feature files are to be read, where they do not say.

    Attributes:
        streams: names of the streams: to choose, to name the only one, or to cut arrays into so many equal parts.
        layout: which axis is time. crops: what becomes of several crops.
        prefix, suffix: of the names of files, not part of a video's id.
        key: of the array to take from each file of several.
    """

    streams: tuple[str, ...] = ()
    layout: Orientation | None = None
    crops: Crops | None = None
    prefix: str = ""
    suffix: str = ""
    key: str | None = None


@dataclass(frozen=True)
class ClockChoice:
    """What is said of the clock.

    Attributes:
        fps: frames a second, or `native` for each video's own as annotated.
        stride: frames from one row to the next. snippet_frames: frames that a row was computed from.
        rescaled: whether each video was rescaled to a fixed number of rows, which its duration is shared among.
        annotations: durations and rates of the videos.
    """

    fps: float | Literal["native"] | None = None
    stride: int | None = None
    snippet_frames: int | None = None
    rescaled: bool = False
    annotations: Path | None = None

    def __post_init__(self) -> None:
        if self.rescaled and (self.fps, self.stride, self.snippet_frames) != (None, None, None):
            raise UsageError("`rescaled` videos have neither `fps` nor `stride`: their durations are their clocks")
