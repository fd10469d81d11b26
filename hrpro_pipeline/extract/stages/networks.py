"""Third stage: windows of inputs to rows of features, in batches that several videos share."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from hrpro_pipeline.data.features import VideoFeatures
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.extractor import Extractor, OnFrames
from hrpro_pipeline.extract.header import feature_header
from hrpro_pipeline.extract.preprocess import clip
from hrpro_pipeline.extract.rows import Rows
from hrpro_pipeline.extract.stages.passage import (
    Inputs,
    Passage,
    Prepared,
    as_hrpro_error,
    make_current,
    raise_if_broken,
)
from hrpro_pipeline.extract.video.process import DecodeRecord
from hrpro_pipeline.models.device import Portions

# Video id, and its features or what is wrong with it.
Result = tuple[str, VideoFeatures | HrproError]

_CROPS = {"center": 1, "five": 5, "ten": 10}


def network_stage(items: Iterable[Prepared], extractor: Extractor, on_frames: OnFrames) -> Iterator[Result]:
    """Features of each video, or what is wrong with it, as the videos finish."""
    make_current(extractor.device)
    networks = _Networks(extractor)
    for video, item in items:
        if video.reported:
            continue
        if isinstance(item, list):
            yield from networks.add_inputs(video, item)
            if video.facts is not None:
                on_frames(video.video_id, video.ticks, video.facts.total_ticks)
        elif isinstance(item, DecodeRecord):
            yield from networks.end_video(video, item)
        else:
            yield networks.give_up(video, item)
    yield from networks.flush()


class _Networks:
    """Windows on their way through the networks: a batch fills up, and is computed when it is full."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        crops = _CROPS[extractor.settings.crops]
        self._num_windows = max(1, extractor.batch // crops)
        self._num_clips = self._num_windows * crops
        self._clips_at_once = Portions(self._num_clips, "clips")
        self._batch: list[tuple[Passage, list[Inputs]]] = []
        self._clip_ticks = extractor.clip_ticks()
        self._before, _ = extractor.reach()

    def add_inputs(self, video: Passage, inputs: list[tuple[Inputs, int]]) -> Iterator[Result]:
        """Take inputs, each with its ticks; gives the videos that end with a batch that they fill."""
        for frame_inputs, ticks in inputs:
            for _ in range(ticks):
                if window := video.windows.push(frame_inputs):
                    yield from self._add_window(video, window)
            video.ticks += ticks

    def end_video(self, video: Passage, record: DecodeRecord) -> Iterator[Result]:
        """A video has no more inputs."""
        for window in video.windows.final():
            yield from self._add_window(video, window)
        video.record = record
        if _is_finished(video):
            yield self._finish(video)

    def give_up(self, video: Passage, error: HrproError) -> Result:
        """A stage before has failed on a video."""
        self._batch = [(owner, window) for owner, window in self._batch if owner is not video]
        video.reported = True
        return video.video_id, error

    def flush(self) -> Iterator[Result]:
        """Compute the batch, full or not; gives the videos that end with it."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        videos = list(dict.fromkeys(video for video, _ in batch if not video.reported))
        try:
            windows = [window for _, window in batch]
            rows = {stream: self._rows(windows, stream) for stream in self._extractor.backbones}
        except (ValueError, RuntimeError, MemoryError) as error:
            raise_if_broken(error, self._extractor.device)
            for video in videos:
                yield _failed(video, as_hrpro_error(video.video_id, error))
            return
        yield from self._add_rows([video for video, _ in batch], rows)
        for video in videos:
            if _is_finished(video):
                yield self._finish(video)

    def _add_window(self, video: Passage, window: list[Inputs]) -> Iterator[Result]:
        if video.reported:
            return
        self._batch.append((video, window))
        video.num_in_batch += 1
        if len(self._batch) == self._num_windows:
            yield from self.flush()

    def _add_rows(self, videos: Sequence[Passage], rows: dict[str, np.ndarray]) -> Iterator[Result]:
        """Add the rows of a batch to its videos; gives the videos for whose rows there is no room."""
        for index, video in enumerate(videos):
            video.num_in_batch -= 1
            if video.reported:
                continue
            try:
                for stream, array in rows.items():
                    # A copy: the row would keep its batch alive.
                    row = array[index].astype(self._extractor.settings.dtype)
                    video.rows.setdefault(stream, Rows()).append(row)
            except HrproError as error:
                yield _failed(video, error)

    def _rows(self, windows: Sequence[list[Inputs]], stream: str) -> np.ndarray:
        """Features of one stream, float32 [windows, D]; crops averaged, or one after the other."""
        kind = "flow" if stream == "flow" else "rgb"
        ticks = [self._before + tick for tick in self._clip_ticks[stream]]
        levels = torch.cat(
            [clip([window[tick][kind] for tick in ticks]) for window in windows]
        )  # [windows x crops, ...]
        # Filled up to the same size always, so that features do not depend on it.
        filled = torch.cat([levels, levels.new_zeros(self._num_clips - len(levels), *levels.shape[1:])])
        # Plain float32: by default convolutions on recent GPUs round to 10 bits of mantissa.
        plain = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.inference_mode(), plain:
            backbone = self._extractor.backbones[stream]
            features = self._clips_at_once.compute(len(filled), lambda a, b: backbone.features(filled[a:b]))
            features = features[: len(levels)]
            by_crop = features.view(len(windows), -1, features.shape[1])  # [windows, crops, D]
            is_mean = self._extractor.settings.crop_fusion == "mean"
            fused = by_crop.mean(dim=1) if is_mean else by_crop.flatten(1)
        return fused.cpu().numpy()

    def _finish(self, video: Passage) -> Result:
        video.reported = True
        return video.video_id, _features(video, self._extractor)


def _is_finished(video: Passage) -> bool:
    return video.record is not None and video.num_in_batch == 0 and not video.reported


def _failed(video: Passage, error: HrproError) -> Result:
    video.failed = video.reported = True
    return video.video_id, error


def _features(video: Passage, extractor: Extractor) -> VideoFeatures | HrproError:
    assert video.record is not None
    assert video.facts is not None
    if video.ticks != video.record.ticks:
        return HrproError(f"{video.video_id}: its decoders disagree on its frames; re-encode it")
    try:
        streams = {stream: video.rows.pop(stream).array() for stream in extractor.backbones}
    except HrproError as error:
        return error
    source = video.source | {"fps": round(video.facts.fps, 6)}
    if video.facts.frame_steps:
        source["frame_steps"] = video.facts.frame_steps
    if video.facts.first_frame:
        source["first_frame"] = video.facts.first_frame
    return VideoFeatures(streams, feature_header(video.video_id, source, video.record, streams, extractor))
