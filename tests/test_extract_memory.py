"""Memory of extraction does not grow with the length of a video; a GPU that is full takes smaller batches."""

import mmap
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_videos import moving_square, write_video
from small_extraction import CPU, RGB_ONLY, SMALL, extract

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.backbones import Backbone, load_backbones
from hrpro_pipeline.extract.rows import Rows
from hrpro_pipeline.extract.stages import inputs
from hrpro_pipeline.extract.video.frames import FrameChunk, frame_chunks

PEAK = r"""
import re, sys
from pathlib import Path
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
path, what = Path(sys.argv[1]), sys.argv[2]
if what == "probe":
    probe(path)
else:
    decoding = decode(path, what)
    assert sum(1 for _ in decoding) > 1000
    assert decoding.decoder == what, decoding.fallback_reason
# Not `ru_maxrss`, which counts the process that started this one.
print(int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """1 and 7 minutes of raw frames: 7 and 48 MB of file, 14 and 97 MB decoded. (decord grows: it gets short ones.)"""
    square = moving_square(50, step=5)
    short = write_video(tmp_path / "short.avi", np.tile(square, (30, 1, 1, 1)), codec="rawvideo")
    long = write_video(tmp_path / "long.avi", np.tile(square, (210, 1, 1, 1)), codec="rawvideo")
    assert long.stat().st_size > 48e6

    def peak(path: Path, what: str) -> float:
        command = [sys.executable, "-c", PEAK, str(path), what]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    growth = {what: peak(long, what) - peak(short, what) for what in ("probe", "pyav")}
    assert all(megabytes < 20 for megabytes in growth.values()), growth


@pytest.fixture(scope="module")
def backbones() -> dict[str, Backbone]:
    return load_backbones(SMALL, "random", CPU)


def test_memory_is_bounded(tmp_path: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    """While the networks are slow, what comes before them waits after a few chunks, however long the video is."""
    path = write_video(tmp_path / "long.mp4", moving_square(1500, width=32, height=32))
    prepared, used, ahead = 0, 0, []
    chunk_inputs = inputs._chunk_inputs

    def counting(video: Any, chunk: FrameChunk, *rest: Any) -> Any:
        nonlocal prepared
        prepared += sum(chunk.ticks)
        return chunk_inputs(video, chunk, *rest)

    def slow(self: Backbone, levels: torch.Tensor) -> torch.Tensor:
        nonlocal used
        used += len(levels) * 16
        time.sleep(0.01)
        ahead.append(prepared - used)
        return torch.zeros(len(levels), 1024)

    monkeypatch.setattr(inputs, "_chunk_inputs", counting)
    monkeypatch.setattr(Backbone, "features", slow)
    features = extract(path, backbones, RGB_ONLY)
    assert features.header.num_snippets == 93
    # The chunk in hand, two that wait, and one that waits to wait.
    assert max(ahead) <= 64 * 5
    assert max(ahead) > 64, "stages overlap"


def test_chunks_of_large_frames_are_small() -> None:
    frames = (np.full((1000, 4000, 3), k, np.uint8) for k in range(7))
    assert [len(chunk.ticks) for chunk in frame_chunks(frames, (4000, 1000))] == [2, 2, 2, 1]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
def test_rows_beyond_a_block_lie_in_a_file(count: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrpro_pipeline.extract.rows._BLOCK", 4)
    expected = np.random.default_rng(0).random((count, 6)).astype(dtype)
    rows = Rows()
    for row in expected:
        rows.append(row)
    array = rows.array()
    del rows
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, expected)
    owner = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    assert isinstance(owner, mmap.mmap) == (count >= 4)


def test_rows_in_a_file_are_the_same_features(
    tmp_path: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(100))
    expected = extract(path, backbones, SMALL, flow="torch").streams
    monkeypatch.setattr("hrpro_pipeline.extract.rows._BLOCK", 4)
    found = extract(path, backbones, SMALL, flow="torch").streams
    for stream in ("rgb", "flow"):
        np.testing.assert_array_equal(found[stream], expected[stream])


def test_out_of_memory_takes_half_of_a_batch(
    tmp_path: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "made.mp4", moving_square(70))
    expected = extract(path, backbones, RGB_ONLY, batch=4)
    features = Backbone.features

    def small(self: Backbone, levels: torch.Tensor) -> torch.Tensor:
        if len(levels) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(self, levels)

    monkeypatch.setattr(Backbone, "features", small)
    most = 1
    found = extract(path, backbones, RGB_ONLY, batch=4)
    np.testing.assert_allclose(found.streams["rgb"], expected.streams["rgb"], rtol=1e-4, atol=1e-5)
    assert "out of GPU memory with 4 clips at once: 2 from here on" in caplog.text
    most = 0
    with pytest.raises(HrproError, match="made: OutOfMemoryError: CUDA out of memory"):
        extract(path, backbones, RGB_ONLY, batch=4)
