"""Names of the formats of labels and of the choices about them, which cost no import of their readers."""

from typing import Literal

ClassFrom = Literal["tier", "value"]
PointAt = Literal["start", "middle", "end"]
# Formats that can be written: ours, then those of labeling tools.
FormatName = Literal[
    "points",
    "annotations",
    "detections",
    "boris",
    "boris-events",
    "boris-aggregated",
    "elan",
    "via",
    "via-csv",
    "label-studio",
    "cvat",
    "audacity",
    "premiere",
    "resolve",
    "vtt",
    "srt",
    "sf-net",
    "aapl",
    "youtube",
]
