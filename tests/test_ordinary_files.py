"""The peculiar files of ../shared/cases: from each decoder what ffmpeg shows, as long as it shows it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from players import decoded_by_each, ffmpeg, levels_apart, need_ffmpeg

from hrpro_pipeline.extract.video.clock import resample
from hrpro_pipeline.extract.video.probe import probe

ROOT = Path(__file__).resolve().parents[1]
CLOCK = 25


def shown_on_the_clock(path: Path, stream_index: int, height: int, width: int) -> np.ndarray:
    """What ffmpeg shows of a stream at each k / CLOCK seconds from second 0 on: RGB [N, H, W, 3]."""
    clock = ["-vf", f"fps={CLOCK}:round=up:start_time=0", "-fps_mode", "passthrough"]
    raw = ffmpeg("-i", path, "-map", f"0:{stream_index}", *clock, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


@pytest.mark.shared
def test_every_decoder_shows_what_ffmpeg_shows(shared: Path, tmp_path: Path) -> None:
    need_ffmpeg()
    make = [sys.executable, shared / "cases" / "make_inputs.py", tmp_path]
    subprocess.run([*map(str, make)], check=True, cwd=ROOT, capture_output=True)
    files = [*tmp_path.iterdir(), *(tmp_path / "suffixes").iterdir(), tmp_path / "names" / "John's clip.mp4"]
    for path in sorted(file for file in files if file.is_file()):
        info = probe(path)
        results = decoded_by_each(path)
        _, seconds, frames = results["pyav"]
        for name, (_, other_seconds, other_frames) in results.items():
            assert np.array_equal(seconds, other_seconds), (path.name, name)
            assert levels_apart(frames, other_frames) <= 3, (path.name, name)
        ours = np.stack(list(resample(zip(seconds, frames, strict=True), info, CLOCK)))
        theirs = shown_on_the_clock(path, info.stream_index, *frames.shape[1:3])
        # The last frame is shown as long as the container says; ffmpeg's filter differs, most of all for a GIF.
        assert abs(len(ours) - len(theirs)) <= 2 + info.last_frame_seconds * CLOCK, path.name
        for moment in (0.1, 0.5, 0.9):
            tick = int(moment * len(theirs))
            assert levels_apart(ours[tick], theirs[tick]) <= 3, (path.name, moment)
