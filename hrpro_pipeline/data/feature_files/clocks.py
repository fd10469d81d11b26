"""The clock of each video: features do not say which frames their rows were computed from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hrpro_pipeline.data.feature_files.choices import ClockChoice
from hrpro_pipeline.data.feature_files.facts import Facts
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError

# Videos of fewer snippets say little about the clock: what is left over at their ends is a large part of them.
_LONG = 10
_TOLERANCE = 0.1
# So many videos of one length were rescaled to it.
_MANY = 3


@dataclass(frozen=True)
class Sidecar:
    """What video_features writes beside the features of a video: its rate, and when each stack ends in ms, [T]."""

    fps: float
    timestamps_ms: np.ndarray

    def clock(self) -> tuple[int, int | None]:
        """Frames of a stack, and from one stack to the next; None for a single stack."""
        frames = np.round(self.timestamps_ms * self.fps / 1000)
        steps = np.diff(frames)
        return max(1, int(frames[0])), int(np.median(steps)) if len(steps) else None


def clocks_of(
    lengths: Mapping[str, int],
    facts: Mapping[str, Facts],
    sidecars: Mapping[str, Sidecar],
    choice: ClockChoice,
    preset: SnippetClock,
    is_archive: bool,
) -> tuple[dict[str, SnippetClock], list[str]]:
    """The clock of each video, and a line for each video whose clock is not known.

    Args:
        lengths: T by video. facts: what is known of videos. sidecars: of the output of video_features.
        preset: the clock of a published archive, and of others whose durations agree with it.

    Raises:
        HrproError: nothing says what the clock is, or it does not fit the durations; the line says what to give.
    """
    if choice.rescaled:
        return _rescaled(lengths, facts)
    if sidecars and (choice.fps, choice.stride, choice.snippet_frames) == (None, None, None):
        clocks, problems = _by_sidecars(lengths, sidecars)
    else:
        rates, problems = _rates(lengths, facts, choice, preset)
        stride, snippet_frames = _frames(choice, preset)
        clocks = {video_id: SnippetClock(fps, snippet_frames, stride) for video_id, fps in rates.items()}
    said = choice.fps is not None and choice.stride is not None
    if not problems:
        ratios = _ratios(clocks, lengths, facts)
        if ratios and abs(np.median(list(ratios.values())) - 1) >= _TOLERANCE:
            raise HrproError(_misfit(clocks, lengths, facts, ratios, is_archive))
        if not (ratios or sidecars or is_archive or said):
            raise HrproError(_unknown(lengths, choice))
    return clocks, problems


def _rescaled(lengths: Mapping[str, int], facts: Mapping[str, Facts]) -> tuple[dict[str, SnippetClock], list[str]]:
    """A row is one frame of a clock that has T frames in the video's duration."""
    durations = {video_id: fact.duration_seconds for video_id, fact in facts.items() if fact.duration_seconds}
    missing = [video_id for video_id in lengths if video_id not in durations]
    problems = [f"{video_id}: no duration; give it with `annotations`" for video_id in missing]
    known = lengths.keys() & durations.keys()
    return {video_id: SnippetClock(lengths[video_id] / durations[video_id], 1, 1) for video_id in known}, problems


def _by_sidecars(
    lengths: Mapping[str, int], sidecars: Mapping[str, Sidecar]
) -> tuple[dict[str, SnippetClock], list[str]]:
    parts = {video_id: sidecars[video_id].clock() for video_id in lengths if video_id in sidecars}
    steps = [step for _, step in parts.values() if step]
    # A video of a single stack does not say what the step is; it was the same in all.
    usual = int(np.median(steps)) if steps else None
    clocks = {
        video_id: SnippetClock(sidecars[video_id].fps, stack, step or usual or stack)
        for video_id, (stack, step) in parts.items()
    }
    problems = [f"{video_id}: no {video_id}_fps.npy and _timestamps_ms.npy" for video_id in lengths.keys() - clocks]
    return clocks, sorted(problems)


def _rates(
    lengths: Mapping[str, int], facts: Mapping[str, Facts], choice: ClockChoice, preset: SnippetClock
) -> tuple[dict[str, float], list[str]]:
    """Frames a second by video."""
    if choice.fps != "native":
        return dict.fromkeys(lengths, choice.fps or preset.fps), []
    rates = {video_id: fps for video_id in lengths if (fps := facts.get(video_id, Facts()).fps)}
    missing = [video_id for video_id in lengths if video_id not in rates]
    return rates, [f"{video_id}: no fps; give it with `annotations`" for video_id in missing]


def _frames(choice: ClockChoice, preset: SnippetClock) -> tuple[int, int]:
    """Stride and frames of a snippet."""
    stride = choice.stride or preset.stride
    if choice.snippet_frames is None and stride != preset.stride:
        raise HrproError(
            f"`stride={stride}` does not say how many frames a row was computed from; give `snippet_frames` as well: "
            f"16 for I3D on clips of 16 frames, {stride} where clips follow each other without overlap"
        )
    return stride, choice.snippet_frames or preset.snippet_frames


def _ratios(
    clocks: Mapping[str, SnippetClock], lengths: Mapping[str, int], facts: Mapping[str, Facts]
) -> dict[str, float]:
    """What part of each known duration the rows of a video cover."""
    return {
        video_id: length * clocks[video_id].seconds_per_snippet / duration
        for video_id, length in lengths.items()
        if length >= _LONG and (duration := facts.get(video_id, Facts()).duration_seconds)
    }


def _misfit(
    clocks: Mapping[str, SnippetClock],
    lengths: Mapping[str, int],
    facts: Mapping[str, Facts],
    ratios: Mapping[str, float],
    is_archive: bool,
) -> str:
    first = next(iter(ratios))
    clock, ratio = clocks[first], float(np.median(list(ratios.values())))
    text = f"T x {clock.stride} frames at {clock.fps:g} fps is {ratio:.2f} of the durations in the annotations; "
    if len(set(lengths.values())) == 1 and len(lengths) >= _MANY:
        return f"{text}all videos have T = {lengths[first]}: give `rescaled` if they were rescaled to that"
    if is_archive:
        return f"{text}choose the preset whose frame rate the features were made with (`preset`)"
    rate = facts[first].fps
    stride = max(1, round((rate or clock.fps) * (facts[first].duration_seconds or 0) / lengths[first]))
    given = "each video's own rate (`fps=native`)" if rate else f"{clock.fps:g} fps"
    return f"{text}at {given}, `stride={stride}` would fit {first}; give `fps` and `stride`"


def _unknown(lengths: Mapping[str, int], choice: ClockChoice) -> str:
    if len(set(lengths.values())) == 1 and len(lengths) >= _MANY:
        return (
            f"all videos have T = {next(iter(lengths.values()))}: give `rescaled` and `annotations` with their "
            "durations if they were rescaled to that, or else `fps` and `stride`"
        )
    missing = [name for name, value in (("fps", choice.fps), ("stride", choice.stride)) if value is None]
    example = {"fps": "`fps=25` (or `fps=native` for each video's own, with `annotations`)", "stride": "`stride=16`"}
    return (
        "the arrays do not say which frames their rows were computed from; give "
        + " and ".join(example[name] for name in missing)
        + ", or `annotations` with durations that agree with the preset"
    )
