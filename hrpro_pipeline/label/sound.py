"""The sound of a video: its wave form, and its packets as browsers play them."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from hrpro_pipeline.extract.video.probe import open_video
from hrpro_pipeline.extract.video.streams import sound_stream

PEAKS_PER_SECOND = 100
_RATE = 8000  # of the wave form; nobody sees higher ones
_MOST_HOURS = 100


def sound_peaks(path: Path, start_seconds: float, duration: float) -> np.ndarray:
    """The loudest sample of each hundredth of a second, uint8 [duration * 100], 255 for full scale; 0 for no sound.

    Args:
        start_seconds: the container's time of second 0.
    """
    count = int(np.ceil(min(duration, _MOST_HOURS * 3600) * PEAKS_PER_SECOND)) + 1
    peaks = np.zeros(count, np.float32)
    samples_per_peak = _RATE // PEAKS_PER_SECOND
    for frame in _decoded(path, av.AudioResampler("fltp", "mono", _RATE)):
        samples = np.abs(frame.to_ndarray()[0])
        first = round(((frame.time or 0.0) - start_seconds) * _RATE)
        places = (first + np.arange(len(samples))) // samples_per_peak
        fits = (places >= 0) & (places < count)
        np.maximum.at(peaks, places[fits], samples[fits])
    return np.round(np.clip(peaks, 0, 1) * 255).astype(np.uint8)


class AacSound:
    """The sound of a video as AAC, encoded piece by piece into another file.

    Args:
        output: gets a stream for it.
        start_seconds: the time of the video at which `output` begins.
    """

    def __init__(self, path: Path, output: "av.container.OutputContainer", start_seconds: float) -> None:
        self._output, self._start = output, start_seconds
        self._stream = output.add_stream("aac", rate=48000, layout="stereo")
        self._frames = _decoded(path, av.AudioResampler("fltp", "stereo", 48000))
        self._last = -1

    def copy_until(self, seconds: float) -> None:
        """Encode the sound up to a time of `output`."""
        for frame in self._frames:
            place = round(((frame.time or 0.0) - self._start) * 48000)
            if place < 0 or place <= self._last:  # before the picture, or a clock that starts again
                continue
            self._last = place
            frame.pts, frame.time_base = place, Fraction(1, 48000)
            self._output.mux(self._stream.encode(frame))
            if place >= seconds * 48000:
                return

    def finish(self) -> None:
        """Encode what is left."""
        self._output.mux(self._stream.encode())


def _decoded(path: Path, resampler: av.AudioResampler) -> Iterator[av.AudioFrame]:
    """The best sound track, decoded; damaged sound ends early."""
    with open_video(path) as container:
        stream = sound_stream(container)
        if stream is None:
            return
        frames = container.decode(stream)
        while True:
            try:
                frame = next(frames, None)
            except (av.FFmpegError, OSError, ValueError):
                frame = None
            yield from resampler.resample(frame)
            if frame is None:
                return
