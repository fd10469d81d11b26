"""Timecodes of video editors: hours, minutes, seconds and frames."""

import re

_TIMECODE = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})([:;.])(\d{2,3})")


def seconds_of(text: str, fps: float) -> float:
    """Seconds of `HH:MM:SS:FF`. With a semicolon before the frames, numbers are dropped at each minute but the tenth.

    Raises:
        ValueError: not a timecode at this rate.
    """
    match = _TIMECODE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"time is {text[:40]!r}; expected a timecode such as 00:01:02:03")
    hours, minutes, seconds, frames = (int(match[index]) for index in (1, 2, 3, 5))
    rate = round(fps)
    if frames >= rate:
        raise ValueError(f"time is {text[:40]!r}, but there are {fps:g} frames a second; give another `fps`")
    count = ((hours * 60 + minutes) * 60 + seconds) * rate + frames
    if match[4] == ";":
        count -= (hours * 60 + minutes - (hours * 60 + minutes) // 10) * round(rate / 15)
    return count / fps


def timecode(seconds: float, fps: float) -> str:
    """`HH:MM:SS:FF` of the nearest frame, no number dropped."""
    rate = round(fps)
    whole, frames = divmod(round(seconds * fps), rate)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{frames:02d}"
