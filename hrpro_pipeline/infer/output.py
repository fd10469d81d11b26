"""What is written of each video that was detected in. Nothing heavy."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["hrpro", "activitynet"]


@dataclass(frozen=True)
class Output:
    """Detections of a video on their way into files.

    Attributes:
        min_score: detections with at least this score are kept.
        top: at most so many detections of a video, the best ones.
        answer_only: keep the answer alone.
        format: "hrpro", one JSON a video; "activitynet", one for all.
        overlay: draw the detections into `overlay/<video id>.mp4`, too.
        clips: cut the detections out into `clips/<video id>/`, too; the best 10 where `top` is not given.
    """

    min_score: float | None = None
    top: int | None = None
    answer_only: bool = False
    format: Format = "hrpro"
    overlay: bool = False
    clips: bool = False
