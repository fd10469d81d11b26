"""The snippet clock: the one owner of the conversion between seconds, frames and snippets."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SnippetClock:
    """Frames at a constant rate, cut into windows of `snippet_frames` every `stride` frames.

    Positions on the snippet axis are continuous: snippet t owns the interval [t, t + 1), whose middle
    is the middle of the window of frames that the snippet was computed from.

    Attributes:
        fps: frames a second of the clock, whatever the video's own rate.
        snippet_frames: frames that a snippet is computed from.
        stride: frames from one snippet to the next.

    Examples:
        >>> clock = SnippetClock()
        >>> clock.seconds_per_snippet
        0.64
        >>> clock.num_snippets(290)  # 11.6 s at 25 fps: 18 whole windows, 2 frames are left over
        18
        >>> clock.to_seconds(np.array([0, 1, 18])).tolist()
        [0.0, 0.64, 11.52]
        >>> clock.to_positions(np.array([0.32, 11.52])).tolist()
        [0.5, 18.0]
        >>> clock.index_at(np.array([0.64, 11.6]), num_snippets=18).tolist()
        [1, 17]

        With a stride of 4, windows overlap: snippet 0 is computed from the first 0.64 s, and stands for the 0.16 s in
        their middle.

        >>> dense = SnippetClock(stride=4)
        >>> dense.window_seconds(0), dense.to_seconds(np.array([0, 1])).tolist()
        ((0.0, 0.64), [0.24, 0.4])
    """

    fps: float = 25.0
    snippet_frames: int = 16
    stride: int = 16

    @property
    def seconds_per_snippet(self) -> float:
        """From one snippet to the next."""
        return self.stride / self.fps

    @property
    def _offset_frames(self) -> float:
        """Windows longer than the stride start before the interval that they stand for."""
        return (self.snippet_frames - self.stride) / 2

    def num_snippets(self, num_frames: int) -> int:
        """Whole windows in `num_frames`; at least one (a short video repeats its last frame)."""
        return max(1, (num_frames - self.snippet_frames) // self.stride + 1)

    def to_seconds(self, positions: np.ndarray) -> np.ndarray:
        """Positions on the snippet axis (any shape) -> seconds."""
        return (np.asarray(positions, np.float64) * self.stride + self._offset_frames) / self.fps

    def to_positions(self, seconds: np.ndarray) -> np.ndarray:
        """Seconds (any shape) -> positions on the snippet axis."""
        return (np.asarray(seconds, np.float64) * self.fps - self._offset_frames) / self.stride

    def index_at(self, seconds: np.ndarray, num_snippets: int) -> np.ndarray:
        """Index of the snippet that owns each time; times in the dropped tail belong to the last one."""
        # The small term keeps a time that lies exactly on a border (48 / 30 s, say) out of the snippet before.
        index = np.floor(self.to_positions(seconds) + 1e-9).astype(np.int64)
        return np.clip(index, 0, num_snippets - 1)

    def window_seconds(self, index: int) -> tuple[float, float]:
        """First and last second of the frames that snippet `index` was computed from."""
        first = index * self.stride
        return first / self.fps, (first + self.snippet_frames) / self.fps


def in_words(clocks: Iterable[SnippetClock]) -> str:
    """The clocks of several videos in a few words.

    Examples:
        >>> in_words([SnippetClock(25), SnippetClock(29.97), SnippetClock(30)])
        '16 frames every 16 at 25 to 30 fps'
        >>> in_words([SnippetClock(100 / seconds, 1, 1) for seconds in (20, 64)])  # 100 rows, however long the video
        'one every 0.2 to 0.64 s'
    """
    clocks = list(clocks)
    rates, steps = [clock.fps for clock in clocks], [clock.seconds_per_snippet for clock in clocks]
    frames = sorted({(clock.snippet_frames, clock.stride) for clock in clocks})
    if frames == [(1, 1)] and len(set(rates)) > 1:
        return f"one every {min(steps):.3g} to {max(steps):.3g} s"
    rate = f"{rates[0]:g}" if len(set(rates)) == 1 else f"{min(rates):.4g} to {max(rates):.4g}"
    return " or ".join(f"{size} frames every {stride}" for size, stride in frames) + f" at {rate} fps"
