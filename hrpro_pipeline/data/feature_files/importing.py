"""Feature files of other programs into the feature store: recognized, checked, then written."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.feature_files.axes import AmbiguousError, Axes, axes_of
from hrpro_pipeline.data.feature_files.choices import ClockChoice, Crops, ReadAs
from hrpro_pipeline.data.feature_files.clocks import Sidecar, clocks_of
from hrpro_pipeline.data.feature_files.facts import Facts, read_facts
from hrpro_pipeline.data.feature_files.layout import FPS, TIMESTAMPS, Layout, recognize
from hrpro_pipeline.data.feature_files.listing import list_arrays
from hrpro_pipeline.data.feature_files.reading import Stored
from hrpro_pipeline.data.features import (
    OWN_CLOCK,
    STREAMS,
    feature_path,
    ordered_streams,
    stream_name_problem,
    write_features,
)
from hrpro_pipeline.data.resampling import resample
from hrpro_pipeline.data.snippets import SnippetClock, in_words
from hrpro_pipeline.errors import HrproError, ProblemsError, UsageError

log = logging.getLogger(__name__)

_ANNOTATIONS = "gt_full.json"
# Of the published archives: RGB in the first half, flow in the second.
_BOTH_STREAMS = 2048
# Flow has a frame less than RGB, so that some programs give it a row less.
_SMALL_DIFFERENCE = 1
# Files that are on their way at once: each waits for the disk to have it.
_FILES_AT_ONCE = 4


@dataclass(frozen=True)
class _Plan:
    """What is done with the arrays of a folder.

    Attributes:
        axes: by stream of the layout.
        parts: the streams that an array of a stream of the layout becomes, side by side, in equal parts.
        lengths: T by video. trimmed: videos in which a stream has one row more than another.
    """

    arrays: Mapping[str, Stored]
    layout: Layout
    axes: dict[str, Axes]
    parts: dict[str, tuple[str, ...]]
    lengths: dict[str, int]
    trimmed: tuple[str, ...]
    crops: Crops | None

    def streams(self, video_id: str) -> Iterator[tuple[str, np.ndarray]]:
        """Names of arrays of a video, with what they hold: streams [T, D] or [T, crops, D] side by side."""
        for stream, name in self.layout.videos[video_id].items():
            if stream in self.parts:
                yield stream, self.axes[stream].arranged(self.arrays[name].read())

    def read(self, video_id: str) -> dict[str, np.ndarray]:
        """The streams of a video, [T, D] each."""
        rows: dict[str, np.ndarray] = {}
        for stream, array in self.streams(video_id):
            names = self.parts[stream]
            for name, part in zip(names, np.split(array[: self.lengths[video_id]], len(names), axis=-1), strict=True):
                rows[name] = self._fused(part)
        return rows

    def _fused(self, part: np.ndarray) -> np.ndarray:
        if part.ndim == 3:
            part = part.mean(axis=1) if self.crops == "mean" else part.reshape(len(part), -1)
        return np.ascontiguousarray(part if part.dtype.itemsize <= 4 else part.astype(np.float32))


def import_files(
    source: Path, out: Path, read_as: ReadAs, choice: ClockChoice, preset: SnippetClock, common_clock: bool = False
) -> list[str]:
    """Convert feature files of other programs to the feature store; the log says what was recognized.

    Args:
        source: folder of feature files, or one file.
        out: FEATURES folder to write.
        read_as, choice: what the files do not say.
        preset: the clock of a published archive.
        common_clock: resample all features to the clock of the preset.

    Returns:
        The ids of the videos, in order.

    Raises:
        HrproError: two readings are possible; the line says what to give.
        ProblemsError: every file that is unusable; nothing is written then.
    """
    if problem := next(filter(None, map(stream_name_problem, read_as.streams)), ""):
        raise UsageError(problem)
    facts = _facts(source, choice)
    try:
        plan, problems = _plan(source, read_as, facts)
        if problems:
            raise ProblemsError(str(source), problems)
        sidecars, problems = _sidecars(plan)
        clocks, clock_problems = clocks_of(plan.lengths, facts, sidecars, choice, preset, plan.layout.is_archive)
        problems += clock_problems + _value_problems(plan)
    except (ProblemsError, UsageError):
        raise
    except HrproError as error:
        raise HrproError(f"{source}: {error}") from None
    if problems:
        raise ProblemsError(str(source), problems)
    log.info("recognized %s", _in_words(plan, clocks))
    own_clocks = choice.fps == "native" or choice.rescaled or (bool(sidecars) and choice.fps is None)
    common = None if own_clocks and not common_clock else preset if common_clock else next(iter(clocks.values()))
    settings = _settings(plan, common)

    def convert(video_id: str) -> None:
        of_video = facts.get(video_id, Facts())
        target = preset if common_clock else clocks[video_id]
        _write(out, video_id, plan.read(video_id), clocks[video_id], of_video, target, settings)

    with progress("importing", len(clocks), "videos") as task:
        for _ in task.each(_several_at_once(convert, list(plan.lengths))):
            pass
    return list(plan.lengths)


def _several_at_once(work: Callable[[str], None], video_ids: Sequence[str]) -> Iterator[str]:
    """Videos in order, as they are done. After an error no other video is begun."""
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        try:
            futures = [pool.submit(work, video_id) for video_id in video_ids]
            for video_id, future in zip(video_ids, futures, strict=True):
                future.result()
                yield video_id
        finally:
            pool.shutdown(cancel_futures=True)


def _facts(source: Path, choice: ClockChoice) -> dict[str, Facts]:
    beside = source / _ANNOTATIONS
    path = choice.annotations or (beside if beside.is_file() else None)
    return read_facts(path) if path is not None else {}


def _plan(source: Path, read_as: ReadAs, facts: Mapping[str, Facts]) -> tuple[_Plan, list[str]]:
    """What to do with the arrays, and a line for each that does not fit."""
    arrays, problems = list_arrays(source, read_as.streams, read_as.key)
    if not arrays:
        raise ProblemsError(str(source), problems)
    layout = recognize(
        arrays, streams=read_as.streams, prefix=read_as.prefix, suffix=read_as.suffix, known_ids=facts.keys()
    )
    problems += layout.problems
    for video_id in [name for name in layout.clocks if _is_empty(layout.videos.get(name, {}), arrays)]:
        log.warning("%s: shorter than a stack, left out", video_id)
        del layout.videos[video_id]
    if not layout.videos:
        raise HrproError("no video has features")
    axes, parts, shape_problems = _axes(arrays, layout, read_as)
    lengths, trimmed = {}, []
    for video_id, names in layout.videos.items():
        missing = [stream for stream in parts if stream not in names]
        if missing:
            log.warning("%s: no %s: left out", video_id, " or ".join(missing))
            continue
        of_video = {stream: name for stream, name in names.items() if stream in parts}
        wrong = [shape_problems[name] for name in of_video.values() if name in shape_problems]
        problems += wrong
        if not wrong:
            rows = {stream: axes[stream].shape(arrays[name].shape)[0] for stream, name in of_video.items()}
            lengths[video_id] = min(rows.values())
            if max(rows.values()) > lengths[video_id] + _SMALL_DIFFERENCE:
                problems.append(f"{video_id}: streams of different lengths: {rows}")
            elif max(rows.values()) > lengths[video_id]:
                trimmed.append(video_id)
    if not lengths and not problems:
        raise HrproError(f"no video has all streams ({', '.join(parts)})")
    return _Plan(arrays, layout, axes, parts, lengths, tuple(trimmed), read_as.crops), problems


def _is_empty(names: Mapping[str, str], arrays: Mapping[str, Stored]) -> bool:
    """Whether video_features found no whole stack in a video."""
    return bool(names) and all(0 in arrays[name].shape for name in names.values())


def _axes(
    arrays: Mapping[str, Stored], layout: Layout, read_as: ReadAs
) -> tuple[dict[str, Axes], dict[str, tuple[str, ...]], dict[str, str]]:
    """Axes by stream of the layout, the streams that each becomes, and problems by name of an array."""
    names_of: dict[str, list[str]] = {}
    for streams in layout.videos.values():
        for stream, name in streams.items():
            names_of.setdefault(stream, []).append(name)
    selected = _selected(list(names_of), read_as.streams)
    axes: dict[str, Axes] = {}
    problems: dict[str, str] = {}
    unclear: dict[str, AmbiguousError] = {}
    known = read_as.layout
    # A stream whose shapes do not say which axis is time is as the others are.
    for stream in (*selected, *selected):
        shapes = {name: arrays[name].shape for name in names_of[stream]}
        if stream not in axes:
            try:
                axes[stream], found = axes_of(shapes, known, read_as.crops, layout.is_archive)
            except AmbiguousError as error:
                unclear[stream] = error
            else:
                problems |= found
                known = known or axes[stream].orientation
    if left := [stream for stream in selected if stream not in axes]:
        raise unclear[left[0]]
    parts = {}
    for stream, name in selected.items():
        shapes = {name: arrays[name].shape for name in names_of[stream] if name not in problems}
        widths = Counter(axes[stream].shape(shape)[1] for shape in shapes.values())
        width = widths.most_common(1)[0][0]
        for array, shape in shapes.items():
            if (other := axes[stream].shape(shape)[1]) != width:
                problems[array] = f"{array}: {other} wide, but others {width}"
        parts[stream] = (name,) if name else _parts(width, read_as.streams, layout.is_archive)
    return axes, parts, problems


def _selected(found: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """Streams of the layout that are taken, and what they are called; "" for one that is to be named by its width."""
    if list(found) == [""]:
        return {"": ""}
    if not given:
        return {stream: stream for stream in ordered_streams(found)}
    if set(given) <= set(found):
        return {stream: stream for stream in given}
    if len(given) == len(found) == 1:
        return {found[0]: given[0]}
    raise HrproError(f"has the streams {', '.join(ordered_streams(found))}, but `streams` names {', '.join(given)}")


def _parts(width: int, given: Sequence[str], is_archive: bool) -> tuple[str, ...]:
    """The streams that arrays without a name hold, side by side and equally wide."""
    if given:
        if width % len(given):
            raise HrproError(f"{width} channels are not {len(given)} equal parts; `streams` names {', '.join(given)}")
        return tuple(given)
    if width != _BOTH_STREAMS:
        return (STREAMS[0],)
    if is_archive:
        return STREAMS
    raise HrproError(
        f"{width} channels may be RGB and flow side by side, or one network's; give `streams=rgb,flow`, or the name of "
        "the one stream, as in `streams=rgb`"
    )


def _sidecars(plan: _Plan) -> tuple[dict[str, Sidecar], list[str]]:
    """What video_features wrote beside the features, by video; a line for what is not usable."""
    sidecars, problems = {}, []
    for video_id, names in plan.layout.clocks.items():
        if video_id not in plan.lengths or FPS not in names or TIMESTAMPS not in names:
            continue
        fps, ends = (np.asarray(plan.arrays[names[part]].read(), np.float64).ravel() for part in (FPS, TIMESTAMPS))
        if len(fps) != 1 or not len(ends) or not fps[0] > 0 or not np.isfinite([*fps, *ends]).all():
            problems.append(f"{names[FPS]}: not a frame rate, or {names[TIMESTAMPS]} not times")
        else:
            sidecars[video_id] = Sidecar(float(fps[0]), ends)
    return sidecars, problems


def _value_problems(plan: _Plan) -> list[str]:
    """A line for each array that has values which are no numbers."""
    problems = []
    with progress("checking", len(plan.lengths), "videos", minor=True) as task:
        for video_id in task.each(list(plan.lengths)):
            for stream, array in plan.streams(video_id):
                if not np.isfinite(array).all():
                    problems.append(f"{plan.layout.videos[video_id][stream]}: NaN or infinite values")
    return problems


def _in_words(plan: _Plan, clocks: Mapping[str, SnippetClock]) -> str:
    """What was recognized, in a line."""
    first = next(iter(plan.lengths))
    streams = [f"{name} {rows.shape[1]}" for name, rows in _ordered(plan.read(first))]
    axes = ", ".join(dict.fromkeys(axes.text(plan.crops) for axes in plan.axes.values()))
    trimmed = f"; a row more of one stream than of others is left out in {len(plan.trimmed)}" if plan.trimmed else ""
    return (
        f"{plan.layout.title}: {len(plan.lengths)} videos, {' + '.join(streams)} wide, {axes}, "
        f"{in_words(clocks.values())}{trimmed}"
    )


def _ordered(streams: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    return [(name, streams[name]) for name in ordered_streams(streams)]


def _settings(plan: _Plan, clock: SnippetClock | None) -> dict[str, Any]:
    """What must be the same in features that are used together; `clock` is the common one, if there is one."""
    settings: dict[str, Any] = {"imported": "published archive" if plan.layout.is_archive else "features"}
    if any(axes.crops is not None for axes in plan.axes.values()):
        settings["imported_crops"] = plan.crops
    if clock is None:
        return settings | {OWN_CLOCK: True}
    return settings | {"fps": clock.fps, "stride": clock.stride}


def _write(
    out: Path,
    video_id: str,
    streams: dict[str, np.ndarray],
    clock: SnippetClock,
    facts: Facts,
    target: SnippetClock,
    settings: dict[str, Any],
) -> None:
    """Write one video's features, on the clock `target`."""
    num_rows = len(next(iter(streams.values())))
    num_frames = num_rows * clock.stride + clock.snippet_frames - clock.stride
    duration = facts.duration_seconds or num_frames / clock.fps
    if target != clock:
        num_frames = round(duration * target.fps)
        num_snippets = target.num_snippets(num_frames)
        streams = {name: resample(rows, clock, target, num_snippets) for name, rows in streams.items()}
        clock = target
    write_features(
        feature_path(out, video_id),
        streams,
        clock=clock,
        video_id=video_id,
        duration_seconds=duration,
        num_frames=num_frames,
        source={} if facts.fps is None else {"fps": facts.fps},
        settings=settings,
    )
