"""A network of RGB frames with all that its input needs: what the libraries and users hand over."""

import math
from dataclasses import dataclass

from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Of all channels, or of red, green and blue.
Levels = float | tuple[float, float, float]


@dataclass(frozen=True)
class Network:
    """A network that turns clips into features, and how its clips are made.

    Attributes:
        module: clips [B, 3, frames, side, side], scaled -> features [B, D], or [B, t', D], whose steps are averaged.
            It is set to eval mode and moved to the device.
        width: D.
        frames: of a clip; None for the frames of the snippet. A clip lies around the middle of its snippet; at the
            ends of the video the first and the last frame are repeated.
        rate: frames a second of a clip, at most those of the clock; None for neighboring frames of the clock.
        side: of its input in pixels: crops of another size are resized. None where it takes crops as they are.
        mean, std: input is (levels / 255 - mean) / std, of all channels or of red, green and blue.
        bf16: whether it may compute in bf16 where the hardware multiplies it.

    Raises:
        ValueError: a value that no network can have.
    """

    module: nn.Module
    width: int
    frames: int | None = None
    rate: float | None = None
    side: int | None = None
    mean: Levels = IMAGENET_MEAN
    std: Levels = IMAGENET_STD
    bf16: bool = True

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.module, nn.Module):
            problems.append(f"module is a {type(self.module).__name__}, expected a torch.nn.Module")
        for name in ("width", "frames", "rate", "side"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float if name == "rate" else int) and not isinstance(value, bool)
            is_positive = is_number and math.isfinite(value) and value > 0
            if not (is_positive or (value is None and name != "width")):
                problems.append(f"{name} is {value!r}, expected a positive number")
        for name in ("mean", "std"):
            value = getattr(self, name)
            channels = value if isinstance(value, tuple | list) else (value,)
            if len(channels) not in (1, 3) or not all(isinstance(channel, int | float) for channel in channels):
                problems.append(f"{name} is {value!r}, expected a number, or three of them")
            elif name == "std" and not all(channel > 0 for channel in channels):
                problems.append(f"std is {value!r}, expected positive numbers")
        if problems:
            raise ValueError("; ".join(problems))


def clip_ticks(frames: int | None, rate: float | None, fps: float, snippet_frames: int) -> tuple[int, ...]:
    """The frames of a clip around the middle of its snippet, as ticks of the clock from the snippet's first frame.

    Args:
        frames, rate: of the clip, as in `Network`.
        fps: of the clock.

    Examples:
        >>> clip_ticks(None, None, fps=25, snippet_frames=4)
        (0, 1, 2, 3)
        >>> clip_ticks(4, 12.5, fps=25, snippet_frames=4)
        (-1, 1, 3, 5)
    """
    if frames is None:
        return tuple(range(snippet_frames))
    step = max(1.0, fps / rate) if rate is not None else 1.0
    first = (snippet_frames - 1) / 2 - step * (frames - 1) / 2
    return tuple(math.floor(first + step * index + 0.5) for index in range(frames))
