"""Videos to features, streaming: decode and resize, flow, networks, each running ahead of the next by a few chunks.

Memory does not grow with a video's length. Snippets of several videos share a batch; a batch is always filled up to
the same size, so that features do not depend on what else was in it.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from hrpro_pipeline.data.features import VideoFeatures
from hrpro_pipeline.data.files import video_id_of
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.ahead import Shared, ahead
from hrpro_pipeline.extract.extractor import Extractor, Job, OnFrames
from hrpro_pipeline.extract.stages.decode import decode_stage
from hrpro_pipeline.extract.stages.inputs import input_stage
from hrpro_pipeline.extract.stages.networks import network_stage

# Chunks of frames that wait before flow, and of network inputs before the networks.
_WAITING = 2


def extract_videos(
    jobs: Iterable[Job], extractor: Extractor, on_frames: OnFrames = lambda *_: None
) -> Iterator[tuple[str, VideoFeatures | HrproError]]:
    """Features of each video with the header that says how they were made, or what is wrong with it, as they finish.

    Args:
        jobs: taken one by one, as there is room for them, from other threads.
        on_frames: called from any thread.

    Returns:
        Video ids, each with streams [T, D] in the settings' storage type, T = `clock.num_snippets(frames)`, the same
        for all streams; or with the error.
    """
    waiting = Shared(jobs)
    chunks = ahead([decode_stage(waiting, extractor, on_frames) for _ in range(extractor.lanes)], _WAITING)
    inputs = ahead([input_stage(chunks, extractor)], _WAITING)
    with closing(inputs):  # type: ignore[type-var]
        yield from network_stage(inputs, extractor, on_frames)


def extract_video(
    path: Path, extractor: Extractor, video_id: str | None = None, on_frames: OnFrames = lambda *_: None
) -> VideoFeatures:
    """Features of one video. Raises HrproError if it cannot be read to its end."""
    ((_, features),) = extract_videos([Job(video_id or video_id_of(path.stem), str(path))], extractor, on_frames)
    if isinstance(features, HrproError):
        raise features
    return features
