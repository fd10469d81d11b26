"""From decoded frames to the inputs of the networks: chunks, sizes, gray, crops and windows."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from make_videos import moving_square

from hrpro_pipeline.extract.preprocess import Windows, crop_views, gray
from hrpro_pipeline.extract.video.frames import frame_chunks
from hrpro_pipeline.extract.video.resize import resize_frame, resized_size


@pytest.mark.parametrize("size", [1, 7, 64])
def test_chunks_hold_each_frame_once(size: int) -> None:
    frames = list(moving_square(20, width=64, height=48))
    times = [1, 3, 1, 5] * 5
    shown = [frame for frame, count in zip(frames, times, strict=True) for _ in range(count)]
    chunks = list(frame_chunks(iter(shown), 48, size))
    assert [len(chunk.ticks) for chunk in chunks] == [size] * (20 // size) + ([20 % size] if 20 % size else [])
    assert [ticks for chunk in chunks for ticks in chunk.ticks] == times
    np.testing.assert_array_equal(np.concatenate([chunk.frames for chunk in chunks]), np.stack(frames))


@pytest.mark.parametrize(
    ("width", "height", "resize", "expected"),
    [
        (320, 240, 256, (341, 256)),
        (240, 320, 256, (256, 341)),
        (1280, 720, (340, 256), (340, 256)),
        (50, 50, 64, (64, 64)),
    ],
)
def test_resized_size(width: int, height: int, resize: Any, expected: tuple[int, int]) -> None:
    assert resized_size(width, height, resize) == expected


def test_gray_and_resize_on_a_device_are_opencv_s() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 90, 120, 3), dtype=np.uint8)
    expected = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    np.testing.assert_array_equal(gray(torch.from_numpy(frames)).numpy(), expected)
    smooth = cv2.GaussianBlur(frames[0], (0, 0), 2)
    for size in ((60, 45), (53, 40), (200, 150), (120, 90)):
        found = resize_frame(torch.from_numpy(smooth), size).numpy().astype(int)
        assert found.shape == (size[1], size[0], 3)
        assert np.abs(found - resize_frame(smooth, size)).max() <= 1


def test_crop_views() -> None:
    image = torch.arange(5 * 6).view(1, 5, 6)
    center = crop_views(image, 3, "center")
    assert [view.tolist() for view in center] == [[[[7, 8, 9], [13, 14, 15], [19, 20, 21]]]]
    five = crop_views(image, 3, "five")
    assert [int(view[0, 0, 0]) for view in five] == [0, 3, 12, 15, 7]
    ten = crop_views(image, 3, "ten")
    assert [int(view[0, 0, 0]) for view in ten] == [0, 3, 12, 15, 7, 2, 5, 14, 17, 9]


@pytest.mark.parametrize(
    ("count", "length", "stride", "expected"),
    [
        (0, 3, 3, []),
        (2, 3, 3, [[0, 1, 1]]),
        (3, 3, 3, [[0, 1, 2]]),
        (7, 3, 3, [[0, 1, 2], [3, 4, 5]]),
        (6, 3, 2, [[0, 1, 2], [2, 3, 4]]),
        (9, 3, 4, [[0, 1, 2], [4, 5, 6]]),
        (30, 3, 12, [[0, 1, 2], [12, 13, 14], [24, 25, 26]]),
    ],
)
def test_windows(count: int, length: int, stride: int, expected: list[list[int]]) -> None:
    assert windows_of(Windows(length, stride), count) == expected
    before, after = 2, 3
    wider = windows_of(Windows(length, stride, before, after), count)
    assert len(wider) == len(expected), "the same windows, with what is around them"
    for index, window in enumerate(wider):
        ticks = [index * stride + tick for tick in range(-before, length + after)]
        assert window == [min(max(tick, 0), count - 1) for tick in ticks]


def windows_of(windows: Windows[int], count: int) -> list[list[int]]:
    found = [window for item in range(count) if (window := windows.push(item))]
    return found + windows.final()
