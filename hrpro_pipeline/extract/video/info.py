"""Facts about a video that its container gives, without decoding."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video stream that its container gives, without decoding.

    Attributes:
        timestamps: presentation times in seconds, float64 [num_packets], sorted. The first one is 0, or later where
            sound starts before the picture: second 0 is where players start.
        start_seconds: the container's time of second 0.
        last_frame_seconds: how long the last frame is shown.
        tolerance_seconds: by so much the container rounds its timestamps.
        fps: frames a second on average, from the first one on.
        width, height: in pixels, before rotation.
        rotation: degrees counter-clockwise by which frames are turned for display; a multiple of 90.
        container, pixel_format: FFmpeg's names.
        stream_index: which of the container's streams it is.
        incomplete: how the container says that a part of the video is not in the file; None if it does not.
        mirrored: whether frames are mirrored left to right, before they are turned.
        num_parts: of which the stream was joined, each with a clock of its own; their frames follow each other.
        time_note: what was assumed about the times of its frames, in a line; None for nothing.
        matrix: code of the matrix between its colors and RGB, by H.273: 1 BT.709, 5 and 6 BT.601, 9 and 10 BT.2020; 2
            if it does not say.
        full_range: whether it says that its levels go from 0 to the highest, and not from black to white in between.
    """

    path: Path
    timestamps: np.ndarray = field(repr=False)
    start_seconds: float
    last_frame_seconds: float
    tolerance_seconds: float
    width: int
    height: int
    rotation: int
    codec: str
    container: str
    pixel_format: str
    stream_index: int
    num_video_streams: int
    incomplete: str | None = None
    mirrored: bool = False
    num_parts: int = 1
    time_note: str | None = None
    matrix: int = 2
    full_range: bool = False

    @property
    def num_packets(self) -> int:
        return len(self.timestamps)

    @property
    def duration_seconds(self) -> float:
        return float(self.timestamps[-1]) + self.last_frame_seconds

    @property
    def fps(self) -> float:
        return self.num_packets / (self.duration_seconds - float(self.timestamps[0]))
