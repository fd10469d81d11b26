"""Points given as frames at their times, where the video is at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hrpro_pipeline.data.annotations import VideoAnnotation
from hrpro_pipeline.data.frame_times import contradict, warn_of_rates
from hrpro_pipeline.data.points import Point
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.probe import probe


def points_in_seconds(
    points: Sequence[Point], files: Mapping[str, Path], truth: Mapping[str, VideoAnnotation], name: str
) -> list[Point]:
    """Points with frames as seconds, at each frame's own time; as they are where the video cannot be read.

    A line names annotated frame rates that contradict the videos'.

    Args:
        files: videos by id.
        truth: annotations by video.
        name: the points file, for the log.
    """
    infos: dict[str, VideoInfo] = {}
    for video_id in sorted({point.video_id for point in points if point.frame is not None} & files.keys()):
        try:
            infos[video_id] = probe(files[video_id])
        except HrproError:  # the page says so of its frames
            continue
    annotated = {video_id: truth[video_id].fps for video_id in infos if video_id in truth}
    warn_of_rates(
        name,
        {
            video_id: (fps, infos[video_id].fps)
            for video_id, fps in annotated.items()
            if fps and contradict(fps, infos[video_id].fps)
        },
    )
    return [_in_seconds(point, infos.get(point.video_id)) for point in points]


def _in_seconds(point: Point, info: VideoInfo | None) -> Point:
    if point.frame is None or info is None:
        return point
    beyond = max(0.0, point.frame - (info.num_packets - 1)) / info.fps
    seconds = float(info.timestamps[min(int(point.frame), info.num_packets - 1)]) + beyond
    return replace(point, seconds=seconds, frame=None)
