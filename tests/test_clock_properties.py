"""Files of any rate, gaps, start, edits and orientation: our clock shows what ffmpeg shows, at every moment.

`HRPRO_EXAMPLES=1000` tries so many other files; without it, the same few each time.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from make_videos import VP9, X264, X264_B, moving_square, write_video
from players import ORIENTATIONS, ffmpeg, need_ffmpeg, oriented, with_edits, with_matrix

from hrpro_pipeline.extract.options import DECODERS
from hrpro_pipeline.extract.video.clock import resample
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe

EXAMPLES = os.environ.get("HRPRO_EXAMPLES")
CLOCK = 25
WIDTH, HEIGHT = 64, 48
RATES = [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), *map(Fraction, (50, 60, 10, 7))]
MP4 = (".mp4", ".mov")


@dataclass(frozen=True)
class Made:
    """A file to make: times in milliseconds, or a rate; edits and orientation in MP4 alone."""

    suffix: str
    has_b_frames: bool
    rate: Fraction
    count: int
    milliseconds: Sequence[int] | None
    edits: Sequence[tuple[float, float | None]]
    orientation: str

    def write(self, folder: Path) -> Path:
        codec = VP9 if self.suffix == ".webm" else X264_B if self.has_b_frames else X264
        path = write_video(
            folder / f"made{self.suffix}", drawn(self.count), fps=self.rate, milliseconds=self.milliseconds, **codec
        )
        if self.edits:
            path = with_edits(path, folder / f"edited{self.suffix}", self.edits)
        if self.orientation != "as it is":
            path = with_matrix(path, folder / f"turned{self.suffix}", self.orientation)
        return path


def drawn(count: int) -> np.ndarray:
    """Frames [count, H, W, 3] that can be told apart: the square is nowhere twice."""
    return moving_square(count, WIDTH, HEIGHT, step=1)


@st.composite
def made_files(draw: st.DrawFn) -> Made:
    suffix = draw(st.sampled_from([".mp4", ".mov", ".mkv", ".webm", ".ts", ".avi"]))
    has_b_frames = suffix not in (".webm", ".avi") and draw(st.booleans())  # AVI does not know their times
    count = draw(st.integers(2 if suffix != ".ts" else 10, 40))  # nothing takes some hundred bytes for MPEG-TS
    rate = draw(st.sampled_from(RATES))
    milliseconds = None
    if suffix != ".avi" and draw(st.booleans()):
        # Mostly short intervals, some gaps: of a second or more where nothing was recorded.
        interval = st.integers(8, 90) | st.integers(8, 90) | st.integers(8, 90) | st.integers(100, 3000)
        intervals = draw(st.lists(interval, min_size=count - 1, max_size=count - 1))
        start = draw(st.sampled_from([0, 0, 40, 700, 3210]))
        milliseconds = [start + sum(intervals[:k]) for k in range(count)]
    edits: list[tuple[float, float | None]] = []
    orientation = "as it is"
    if suffix in MP4:
        orientation = draw(st.sampled_from(list(ORIENTATIONS)))
        if milliseconds is None and draw(st.booleans()):
            first = draw(st.integers(0, count - 1))
            length = draw(st.integers(1, count - first))
            edits = [(float(length / rate), float(first / rate))]
            if draw(st.booleans()):
                edits.insert(0, (draw(st.sampled_from([0.04, 0.5, 2.0])), None))
    return Made(suffix, has_b_frames, rate, count, milliseconds, edits, orientation)


def by_ffprobe(path: Path) -> tuple[np.ndarray, float]:
    """Seconds of each frame, from the first one on; and the length of the file from there, in seconds."""
    entries = "format=start_time,duration:frame=best_effort_timestamp_time"
    arguments = ["-v", "error", "-select_streams", "v:0", "-show_entries", entries, "-of", "json", path]
    output = json.loads(subprocess.run(["ffprobe", *arguments], check=True, capture_output=True, text=True).stdout)
    times = np.array([float(frame["best_effort_timestamp_time"]) for frame in output["frames"]])
    length = float(output["format"]["duration"])
    if path.suffix != ".ts":  # these count from 0, and not from their first frame
        length -= float(output["format"].get("start_time", 0))
    return times - times[0], length


def shown_on_the_clock(path: Path, height: int, width: int) -> np.ndarray:
    """What ffmpeg shows at each k / CLOCK seconds: RGB [N, H, W, 3]."""
    clock = ["-vf", f"fps={CLOCK}:round=up", "-fps_mode", "passthrough"]
    raw = ffmpeg("-i", path, *clock, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def numbers_of(frames: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of the known pictures each frame is nearest to."""
    known = known.astype(np.int16)
    return np.array([np.abs(known - frame).mean((1, 2, 3)).argmin() for frame in frames])


@settings(
    max_examples=int(EXAMPLES or 20),
    derandomize=EXAMPLES is None,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],  # shrinking takes minutes
    database=None,
    deadline=None,
    print_blob=True,
)
@given(made=made_files())
def test_our_clock_is_that_of_ffmpeg(made: Made) -> None:
    need_ffmpeg()
    with tempfile.TemporaryDirectory() as folder:
        path = made.write(Path(folder))
        info = probe(path)
        times, length = by_ffprobe(path)
        assert info.num_packets == len(times)
        half_frame = 0.5 * np.diff(times).min(initial=0.04) + 1e-6
        np.testing.assert_allclose(info.timestamps, times, atol=half_frame)
        known = np.stack([oriented(image, made.orientation) for image in drawn(made.count)])
        expected = numbers_of(shown_on_the_clock(path, *known.shape[1:3]), known)
        if made.edits:  # its header still has the length of the file before
            length = len(times) / float(made.rate)
        # Of frames out of order MP4 has the steps between decoding times, and not how long the last one is shown.
        if not (made.suffix in MP4 and made.has_b_frames and made.milliseconds):
            assert abs(info.duration_seconds - length) <= half_frame
        for decoder in DECODERS:
            frames = np.stack(list(resample(decode(path, decoder), info, CLOCK)))
            assert frames.shape[1:] == known.shape[1:]
            numbers = numbers_of(frames, known)
            assert len(numbers) >= len(expected) - 1, decoder  # of the last frame, ffmpeg shows less
            for tick, (ours, theirs) in enumerate(zip(numbers, expected, strict=False)):
                # Where they differ, a frame begins within half a frame of this moment.
                later = times[max(ours, theirs) - numbers[0]]
                assert ours == theirs or abs(later - tick / CLOCK) <= half_frame, (decoder, tick)
