"""What a video is to the page that plays it: the times of its frames, and whether a browser shows just these."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.probe import open_video, probe
from hrpro_pipeline.extract.video.streams import sound_stream

# What browsers play, by FFmpeg's names; whatever is not here plays as a copy.
_CONTAINERS = ("mov", "matroska")
_CODECS = {"h264", "vp8", "vp9", "av1", "libdav1d"}
_SOUND_CODECS = {"aac", "mp3", "opus", "vorbis", "flac"}
_H264_PIXELS = {"yuv420p", "yuvj420p"}


@dataclass(frozen=True)
class Playable:
    """Facts about a video for the page.

    Attributes:
        timestamps: of its frames in seconds, float64 [N], sorted: the decoder's.
        duration: in seconds.
        codec: FFmpeg's name.
        has_sound: whether there is a sound track.
        copy_reason: why a browser does not play it, or not with these times, in words; empty if it does.
        warning: what is wrong with the file, in words; empty for nothing.
    """

    timestamps: np.ndarray = field(repr=False)
    duration: float
    codec: str
    has_sound: bool
    copy_reason: str
    warning: str


def playable(path: Path) -> Playable:
    """Read what the page has to know. Raises HrproError as `probe`."""
    info = probe(path)
    with open_video(path) as container:
        stream = container.streams[info.stream_index]
        sound = sound_stream(container)
        sound_codec = "" if sound is None else sound.codec_context.codec.canonical_name
        # Frames that an edit list leaves out or repeats: players do not agree on it.
        has_edits = info.container.startswith("mov") and stream.frames not in (0, info.num_packets)
    reason = _copy_reason(info, sound_codec, has_edits)
    return Playable(
        info.timestamps,
        info.duration_seconds,
        info.codec,
        bool(sound_codec),
        reason,
        "; ".join(filter(None, (info.incomplete, info.time_note))),
    )


def _copy_reason(info: VideoInfo, sound_codec: str, has_edits: bool) -> str:
    name = info.container.split(",")[0]
    if name not in _CONTAINERS:
        return f"browsers do not play {name} files"
    if info.codec not in _CODECS or (info.codec == "h264" and info.pixel_format not in _H264_PIXELS):
        return f"browsers do not play {info.codec} ({info.pixel_format})"
    if has_edits:
        return "its edit list leaves out frames"
    if info.mirrored or (info.rotation and name != "mov"):
        return "browsers do not turn it as it is meant"
    if info.num_parts > 1 or info.time_note or info.num_video_streams > 1 or info.incomplete:
        return "browsers may show other frames of it"
    if sound_codec and sound_codec not in _SOUND_CODECS:
        return f"browsers do not play its sound ({sound_codec})"
    return ""
