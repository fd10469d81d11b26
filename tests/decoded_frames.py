"""Frames of a decoder as arrays, and compared."""

import numpy as np

from hrpro_pipeline.extract.video.decoding import Decoding


def all_frames(decoding: Decoding) -> tuple[list[float], np.ndarray]:
    """Times, and frames [N, H, W, 3]."""
    times, frames = zip(*decoding, strict=True)
    return list(times), np.stack(frames)


def assert_same_frames(decoding: Decoding, expected: tuple[list[float], np.ndarray]) -> None:
    times, frames = all_frames(decoding)
    assert times == expected[0]
    assert frames.dtype == np.uint8
    assert frames.shape == expected[1].shape
    assert np.array_equal(frames, expected[1])
