"""A clip of each detection of a video."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unicodedata import category

from hrpro_pipeline.data.detections import Detection
from hrpro_pipeline.data.files import replacing, safe_id
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.show.encoder import Mp4Writer, TimedImage
from hrpro_pipeline.show.fonts import spelled_out

# Clips that are written in one pass through the video: each needs an encoder while it runs.
_CLIPS_PER_PASS = 8
_MOST_LABEL_BYTES = 80
_CLIP_NAME = re.compile(r"\d+_.+_-?\d+\.\d\d--?\d+\.\d\d\.mp4")


def clip_name(rank: int, detection: Detection) -> str:
    """`01_LongJump_12.40-15.92.mp4`, whatever characters the label has."""
    try:
        # Pictures as letters of no alphabet: emoji would all become the same sign.
        label = safe_id(spelled_out(detection.label, lambda letter: letter.isascii() or category(letter)[0] != "S"))
    except HrproError:
        label = "action"
    label = label.encode("utf-8", "replace")[:_MOST_LABEL_BYTES].decode("utf-8", "ignore")
    return f"{rank:02d}_{label}_{detection.start_seconds:.2f}-{detection.end_seconds:.2f}.mp4"


def num_passes(detections: Sequence[Detection]) -> int:
    """How often a video is read for so many clips."""
    return math.ceil(len(detections) / _CLIPS_PER_PASS)


def write_clips(
    folder: Path, read: Callable[[], Iterable[TimedImage]], info: VideoInfo, detections: Sequence[Detection]
) -> list[Path]:
    """Write `<rank>_<label>_<start>-<end>.mp4` for each detection, cut to its times exactly; earlier clips are removed.

    Args:
        read: gives the video's frames in order; called for every few clips, and left as soon as they are cut.
        detections: best first. Bounds beyond the video's are cut off; a detection beyond the video gives no clip.

    Returns:
        The clips, in order of time.
    """
    for path in folder.glob("*.mp4"):
        if _CLIP_NAME.fullmatch(path.name):
            path.unlink()
    clips = []
    for rank, item in enumerate(detections, start=1):
        start, end = max(0.0, item.start_seconds), min(info.duration_seconds, item.end_seconds)
        if start < end:
            clips.append((start, end, folder / clip_name(rank, replace(item, start_seconds=start, end_seconds=end))))
    clips.sort(key=lambda clip: clip[:2])
    for first in range(0, len(clips), _CLIPS_PER_PASS):
        _cut(read(), info, clips[first : first + _CLIPS_PER_PASS])
    return [path for _, _, path in clips]


def _cut(frames: Iterable[TimedImage], info: VideoInfo, clips: Sequence[tuple[float, float, Path]]) -> None:
    """One pass through the video for clips, (start, end, path) each, in order of their start."""
    waiting = list(clips)
    running: list[tuple[Mp4Writer, ExitStack]] = []
    with ExitStack() as all_clips:
        for image, start, end in frames:
            while waiting and waiting[0][0] < end:
                clip_start, clip_end, path = waiting.pop(0)
                stack = all_clips.enter_context(ExitStack())
                temporary = stack.enter_context(replacing(path))
                running.append((stack.enter_context(Mp4Writer(temporary, info, clip_start, clip_end)), stack))
            for writer, stack in list(running):
                writer.write(image, start, end)
                if writer.end <= end:
                    stack.close()
                    running.remove((writer, stack))
            if not waiting and not running:
                return
