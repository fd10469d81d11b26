"""Copies of videos that browsers play: H.264 with every frame of the decoder at its own time, and AAC."""

from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.extract.video.orientation import upright
from hrpro_pipeline.extract.video.probe import open_video, probe
from hrpro_pipeline.extract.video.pyav import numbered_frames
from hrpro_pipeline.extract.video.streams import sound_stream
from hrpro_pipeline.label.sound import AacSound
from hrpro_pipeline.show.encoder import TICKS

# For the eye that labels: small enough to be made fast; a key frame every dozen, so that stepping is quick.
_MOST_WIDTH, _MOST_HEIGHT = 1280, 720
_OPTIONS = {"preset": "superfast", "crf": "23", "bf": "0", "g": "12"}


def write_copy(path: Path, out: Path, on_frame: Callable[[int, int], None] = lambda done, total: None) -> str:
    """Write a copy as MP4 -> what is missing at its end, in words; empty for nothing.

    Args:
        on_frame: called after each frame with how many are done and how many there are.

    Raises:
        HrproError: not a video, or none of its frames can be decoded or encoded.
    """
    info = probe(path)
    missing = info.incomplete or ""
    try:
        with av.open(str(out), "w", format="mp4", container_options={"movflags": "+faststart"}) as output:
            writer = _Writer(info, output)
            with closing(numbered_frames(info)) as frames:  # type: ignore[type-var]
                try:
                    for number, frame in frames:
                        writer.write(number, frame)
                        on_frame(number + 1, info.num_packets)
                except (av.FFmpegError, OSError) as error:
                    missing = f"decoding stopped after frame {writer.last_number + 1}: {one_line(error)}"
            writer.finish()
    except (av.FFmpegError, ValueError, OSError) as error:
        raise HrproError(f"{path.name}: cannot be copied for the browser ({one_line(error)})") from None
    if writer.last_number < 0:
        raise HrproError(f"{path.name}: no frame can be decoded; re-encode or remove it")
    return missing


class _Writer:
    """Encodes frames with their times, and the sound beside them."""

    def __init__(self, info: VideoInfo, output: "av.container.OutputContainer") -> None:
        self.last_number = -1
        self._info, self._output = info, output
        rate = Fraction(min(info.fps, 240.0)).limit_denominator(1001)
        stream = output.add_stream("libx264", rate=rate, options=_OPTIONS)
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        stream.width, stream.height = _size(info)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        self._ends = [*info.timestamps[1:].tolist(), info.duration_seconds]
        self._sound = AacSound(info.path, output, info.start_seconds) if _has_sound(info) else None

    def write(self, number: int, frame: av.VideoFrame) -> None:
        """Encode a frame at the time that its number has; one that is there already is left out."""
        if number <= self.last_number:
            return
        width, height = self._stream.width, self._stream.height
        if self._info.rotation or self._info.mirrored:
            image = upright(frame.to_ndarray(format="rgb24"), self._info.rotation, self._info.mirrored)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        picture = frame.reformat(width=width, height=height, format="yuv420p")
        picture.pts, picture.time_base = self._tick(float(self._info.timestamps[number])), Fraction(1, TICKS)
        picture.pict_type = av.video.frame.PictureType.NONE
        self.last_number = number
        self._mux(self._stream.encode(picture))
        if self._sound is not None:
            self._sound.copy_until(float(self._info.timestamps[number]))

    def finish(self) -> None:
        """Encode what is left."""
        if self.last_number < 0:
            return
        self._mux(self._stream.encode())
        if self._sound is not None:
            self._sound.copy_until(self._info.duration_seconds)
            self._sound.finish()

    def _tick(self, seconds: float) -> int:
        return round(seconds * TICKS)

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            if packet.pts is not None:
                index = int(np.searchsorted(self._info.timestamps, packet.pts / TICKS - 0.5 / TICKS))
                packet.duration = max(1, self._tick(self._ends[min(index, len(self._ends) - 1)]) - packet.pts)
            self._output.mux(packet)


def _size(info: VideoInfo) -> tuple[int, int]:
    """Width and height of the copy, with square pixels, even."""
    with open_video(info.path) as container:
        stream: Any = container.streams[info.stream_index]
        aspect = float(stream.sample_aspect_ratio or 1)
    width, height = info.width * (aspect if 0.1 < aspect < 10 else 1.0), float(info.height)
    if info.rotation % 180:
        width, height = height, width
    scale = min(1.0, _MOST_WIDTH / width, _MOST_HEIGHT / height)
    return max(16, round(width * scale / 2) * 2), max(16, round(height * scale / 2) * 2)


def _has_sound(info: VideoInfo) -> bool:
    if info.num_parts > 1:  # its clock starts again as well, elsewhere
        return False
    with open_video(info.path) as container:
        return sound_stream(container) is not None


def frames_at(info: VideoInfo, numbers: list[int], tolerance_seconds: float = 0.0) -> Iterator[av.VideoFrame]:
    """Frames by their numbers, ascending, by seeking; or frames that are earlier by at most a tolerance, if quicker."""
    with open_video(info.path) as container:
        stream: Any = container.streams[info.stream_index]
        tick = float(stream.time_base)
        frames: Iterator[av.VideoFrame] = iter(())
        position, frame = -np.inf, None
        for number in numbers:
            wanted = info.start_seconds + float(info.timestamps[min(number, info.num_packets - 1)])
            if not position <= wanted < position + max(2.0, 2 * tolerance_seconds):
                container.seek(int(np.floor(wanted / tick)), stream=stream)
                frames, position = container.decode(stream), -np.inf
            while position < wanted - max(tick, tolerance_seconds):
                following = next(frames, None)
                if following is None:
                    break
                frame, position = following, following.time or 0.0
            if frame is not None:
                yield frame
