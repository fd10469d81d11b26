"""The feature store: one HDF5 file a video, complete or absent.

Layout of `<video id>.h5`: a dataset [T, D] for each stream, such as `rgb` and `flow`; attributes `schema`, `video_id`,
`fps`, `duration`, `frames`, `snippet_frames`, `stride`, and as JSON `source` (name, size, sha256, fps), `settings` (all
that shaped the numbers), `weights` (digest by stream) and `record` (how it went: decoder, fall-backs, versions).
"""

import io
import json
import logging
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hrpro_pipeline.data.files import holds_videos, is_safe_id, replacing, video_id_of
from hrpro_pipeline.data.frame_times import checked_steps
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.data.storage import Location, exists, is_url, joined, opened, upload
from hrpro_pipeline.errors import HrproError, ProblemsError, one_line

log = logging.getLogger(__name__)

SCHEMA = "hrpro.features/1"
# The streams that are extracted here come first, in this order; others follow by name.
STREAMS = ("rgb", "flow")
_STREAM_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}", re.ASCII)
# Key in `settings` of imported features whose videos differ in their clocks.
OWN_CLOCK = "own_clock"
_ATTRIBUTES = ("schema", "video_id", "fps", "snippet_frames", "stride", "duration", "frames")
_JSON_ATTRIBUTES = ("source", "settings", "weights", "record")


@dataclass(frozen=True)
class FeatureHeader:
    """The description of a feature file, without its arrays.

    Attributes:
        num_snippets: T, the same for all streams.
        widths: channels D by stream, in the order of `ordered_streams`.
        duration_seconds: length of the video on the clock.
        num_frames: frames on the clock.
        source: name, size, sha256 and fps of the video, `frame_steps` of one whose rate is not constant (see
            `data.frame_times`), `first_frame` in seconds of one that starts with sound alone; empty for imported
            features.
        settings: everything that shaped the numbers.
        weights: digest of the network's weights by stream.
        record: decoder, device, fall-backs, versions: facts that did not shape the numbers.
    """

    video_id: str
    num_snippets: int
    widths: dict[str, int]
    clock: SnippetClock
    duration_seconds: float
    num_frames: int
    source: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def has_own_clock(self) -> bool:
        """Whether this video was imported with a frame rate or a number of steps of its own."""
        return bool(self.settings.get(OWN_CLOCK))

    @property
    def partial_reason(self) -> str | None:
        """Why the features end before the video does; None if they do not."""
        return self.record.get("partial_reason")


@dataclass(frozen=True)
class VideoFeatures:
    """Features of one video: `streams[name]` is [T, D], any float type, the same T for all."""

    streams: dict[str, np.ndarray]
    header: FeatureHeader

    @property
    def video_id(self) -> str:
        return self.header.video_id

    def joined(self, streams: Collection[str] | None = None) -> np.ndarray:
        """The named streams (by default all), as far as the video has them, side by side, RGB first: float32 [T, D]."""
        names = [name for name in ordered_streams(self.streams) if streams is None or name in streams]
        parts = [self.streams[name] for name in names]
        return np.concatenate(parts, axis=1, dtype=np.float32)


@dataclass(frozen=True)
class StoredFeatures:
    """T rows of a video's joined features, [T, D], left in their file: `np.asarray` reads them each time."""

    path: Path
    streams: tuple[str, ...]
    num_snippets: int
    first: int = 0

    def __len__(self) -> int:
        return self.num_snippets

    def __getitem__(self, rows: slice) -> "StoredFeatures":
        """Some of the rows, left in the file as well; a slice without a step."""
        start, stop, _ = rows.indices(self.num_snippets)
        return replace(self, num_snippets=stop - start, first=self.first + start)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        rows = slice(self.first, self.first + self.num_snippets)
        return np.asarray(read_features(self.path, rows).joined(self.streams), dtype)


def ordered_streams(names: Iterable[str]) -> list[str]:
    """Names of streams in the order in which they are joined: rgb, flow, and others by name.

    Examples:
        >>> ordered_streams(["videomae", "flow", "clip", "rgb"])
        ['rgb', 'flow', 'clip', 'videomae']
    """
    return sorted(names, key=lambda name: (STREAMS.index(name) if name in STREAMS else len(STREAMS), name))


def stream_name_problem(name: str) -> str:
    """Why a stream cannot be called so; empty if it can."""
    if _STREAM_NAME.fullmatch(name):
        return ""
    return f"stream {name!r}; expected a name of letters, digits and _ . + -, such as rgb or videomae"


def feature_path(folder: Path, video_id: str) -> Path:
    """The path of a video's features in a folder."""
    return folder / feature_name(video_id)


def feature_name(video_id: str) -> str:
    """The name of a video's feature file."""
    return f"{video_id}.h5"


def store_features(folder: Location, features: VideoFeatures) -> None:
    """Write one video's features into a folder, or a remote one; complete or not at all. Errors: `write_features`."""
    _check_streams(features.video_id, features.streams)
    with tempfile.TemporaryDirectory(prefix="hrpro-") if is_url(folder) else nullcontext(folder) as local_folder:
        path = feature_path(Path(local_folder), features.video_id)
        _write_file(path, features)
        if is_url(folder):
            upload(path, str(joined(folder, path.name)))


def write_features(
    path: Path,
    streams: dict[str, np.ndarray],
    *,
    clock: SnippetClock,
    video_id: str,
    duration_seconds: float,
    num_frames: int,
    source: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    weights: dict[str, str] | None = None,
    record: dict[str, Any] | None = None,
) -> None:
    """Write one video's features atomically.

    Args:
        streams: arrays [T, D] by stream name, stored in their own float type.
        clock, video_id, duration_seconds, num_frames, source, settings, weights, record: as in `FeatureHeader`.

    Raises:
        ProblemsError: empty, NaN, or streams of different lengths; nothing is written then.
    """
    _check_streams(video_id, streams)
    widths = {name: streams[name].shape[1] for name in ordered_streams(streams)}
    header = FeatureHeader(
        video_id=video_id,
        num_snippets=len(next(iter(streams.values()))),
        widths=widths,
        clock=clock,
        duration_seconds=duration_seconds,
        num_frames=num_frames,
        source=source or {},
        settings=settings or {},
        weights=weights or {},
        record=record or {},
    )
    _write_file(path, VideoFeatures(streams, header))


def _check_streams(video_id: str, streams: Mapping[str, np.ndarray]) -> None:
    if problems := _array_problems(streams):
        raise ProblemsError(f"features of {video_id}", problems)


def _write_file(path: Path, features: VideoFeatures) -> None:
    header = features.header
    with replacing(path) as temporary, _deferring_errors(temporary) as stream, h5py.File(stream, "w") as file:
        for name in ordered_streams(features.streams):
            file.create_dataset(name, data=features.streams[name])
        file.attrs["schema"] = SCHEMA
        file.attrs["video_id"] = header.video_id
        file.attrs["fps"] = header.clock.fps
        file.attrs["snippet_frames"] = header.clock.snippet_frames
        file.attrs["stride"] = header.clock.stride
        file.attrs["duration"] = header.duration_seconds
        file.attrs["frames"] = header.num_frames
        for name in _JSON_ATTRIBUTES:
            file.attrs[name] = json.dumps(getattr(header, name), sort_keys=True)


@contextmanager
def _deferring_errors(path: Path) -> Iterator["_DeferringFile"]:
    """A file to write whose first error is raised when the block ends.

    HDF5 crashes the process where a write fails while it closes a file: on a full disk, say.
    """
    with _DeferringFile(path, "r+") as stream:
        try:
            yield stream
        finally:
            if stream.error is not None:
                raise stream.error


class _DeferringFile(io.FileIO):
    error: BaseException | None = None

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        try:
            while view and self.error is None:
                view = view[super().write(view) :]
        except BaseException as error:  # noqa: BLE001  an interrupt, too: HDF5 is underway, and it is raised later
            self.error = error
        return memoryview(content).nbytes

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except BaseException as error:  # noqa: BLE001
            self.error = self.error or error
            return size or 0


def read_header(path: Location) -> FeatureHeader:
    """Read a feature file's attributes and shapes. Raises HrproError naming the file and what is wrong."""
    with _open(path) as file:
        return _header(path, file)


def read_features(path: Path, rows: slice = slice(None)) -> VideoFeatures:
    """Read one video's features, checked.

    Args:
        rows: the snippets to read.

    Raises:
        HrproError or ProblemsError: not a feature file, empty, NaN or infinite values, streams of different lengths.

    Examples:
        >>> features = read_features(Path("features/kitchen_01.h5"))
        >>> {name: array.shape for name, array in features.streams.items()}
        {'rgb': (7, 1024)}
        >>> features.header.clock
        SnippetClock(fps=25.0, snippet_frames=16, stride=16)
        >>> features.header.duration_seconds, features.header.num_frames
        (4.8, 120)
        >>> features.joined().dtype
        dtype('float32')
    """
    with _open(path) as file:
        header = _header(path, file)
        streams = {name: np.asarray(file[name][rows]) for name in header.widths}
    if problems := _array_problems(streams):
        raise ProblemsError(str(path), problems)
    return VideoFeatures(streams=streams, header=header)


def list_features(folder: Path) -> dict[str, Path]:
    """Video id -> file for every feature file in a folder, in order of id.

    Raises:
        HrproError: no such folder, or no feature file in it.
    """
    if not folder.is_dir():
        raise HrproError(
            f"{folder}: no such folder; expected features made by `hrpro extract` or `hrpro import features`"
        )
    files = [path for path in sorted(folder.glob("*.h5")) if not path.name.startswith(".") and is_safe_id(path.stem)]
    if not files:
        raise HrproError(f"{folder}: no feature files (*.h5); {_hint_for_folder(folder)}")
    by_id: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: (video_id_of(path.stem) != path.stem, path)):
        video_id = video_id_of(path.stem)
        if video_id in by_id:
            log.warning("%s: left out, %s has the features of %s", path, by_id[video_id].name, video_id)
        else:
            by_id[video_id] = path
    return dict(sorted(by_id.items()))


def _hint_for_folder(folder: Path) -> str:
    """The remedy for a folder without features."""
    if holds_videos(folder):
        return f"it holds videos: extract their features first, hrpro extract {folder} --out features"
    if any(next(folder.glob(pattern), None) for pattern in ("*.npy", "*/*.npy", "features/*/*.npy")):
        return f"it holds .npy arrays: convert them first, hrpro import features {folder} --out features"
    if (folder / "model.pt").exists():
        return "it holds a trained model; give the folder of the features"
    return "make them with `hrpro extract` or `hrpro import features`"


@contextmanager
def _open(path: Location) -> Iterator[h5py.File]:
    if not exists(path):
        raise HrproError(f"{path}: no such feature file")
    with opened(path) as stream:
        try:
            file = h5py.File(path if isinstance(path, Path) else stream, "r")
        except OSError as error:
            raise HrproError(
                f"{path}: not a readable HDF5 file ({error}); delete it and extract the video again"
            ) from None
        with file:
            try:
                yield file
            except (RuntimeError, KeyError, OSError, ValueError, TypeError) as error:  # what h5py makes of damage
                reason = one_line(error)
                raise HrproError(f"{path}: damaged ({reason}); delete it and extract the video again") from None


def _header(path: Location, file: h5py.File) -> FeatureHeader:
    problem = _attribute_problem(file.attrs) or _dataset_problem(file)
    if problem:
        raise HrproError(f"{path}: {problem}")
    try:
        return _build_header(file)
    except (ValueError, TypeError) as error:
        raise HrproError(f"{path}: damaged attributes ({error}); extract the video again") from None


def _attribute_problem(attributes: Mapping[str, Any]) -> str:
    """Why a file is not one of ours, or not of this version; empty if it is."""
    if missing := [name for name in _ATTRIBUTES if name not in attributes]:
        return f"not a feature file of this tool: attribute {', '.join(missing)} missing"
    if attributes["schema"] != SCHEMA:
        number = str(attributes["schema"]).removeprefix("hrpro.features/")
        is_newer = number.isdecimal() and int(number) > int(SCHEMA.rpartition("/")[2])
        remedy = "a newer hrpro made it: update hrpro, or extract" if is_newer else "extract"
        return f"schema {attributes['schema']!r}, expected {SCHEMA!r}; {remedy} the video again"
    video_id = str(attributes["video_id"])
    return "" if is_safe_id(video_id) else f"video_id {video_id!r} is not a plain name"


def _dataset_problem(file: h5py.File) -> str:
    """Why the streams of a file are not usable; empty if they are. No array is read."""
    lengths: dict[str, int] = {}
    for name in file:
        if problem := stream_name_problem(name):
            return problem
        # Links and virtual data sets would read other files.
        is_linked = not isinstance(file.get(name, getlink=True), h5py.HardLink)
        dataset = file[name] if not is_linked else None
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            return f"{name} is not a data set of this file"
        if dataset.ndim != 2 or dataset.dtype.kind != "f":
            return f"{name} is {dataset.dtype} {list(dataset.shape)}; expected floats [T, D]"
        lengths[name] = len(dataset)
    if not lengths:
        return "no data set; expected one for each stream, such as rgb"
    if len(set(lengths.values())) != 1:
        return f"streams of different lengths: {lengths}"
    return ""


def _build_header(file: h5py.File) -> FeatureHeader:
    """The header of a file without problems. Raises ValueError or TypeError for attributes of a wrong kind."""
    attributes = file.attrs
    shapes = {name: file[name].shape for name in ordered_streams(file)}
    records = {name: json.loads(attributes[name]) if name in attributes else {} for name in _JSON_ATTRIBUTES}
    if wrong := [name for name, value in records.items() if not isinstance(value, dict)]:
        raise ValueError(f"{', '.join(wrong)}: not a JSON object")
    checked_steps(records["source"].get("frame_steps", []))
    float(records["source"].get("first_frame", 0))
    return FeatureHeader(
        video_id=video_id_of(str(attributes["video_id"])),
        num_snippets=next(iter(shapes.values()))[0],
        widths={name: width for name, (_, width) in shapes.items()},
        clock=SnippetClock(float(attributes["fps"]), int(attributes["snippet_frames"]), int(attributes["stride"])),
        duration_seconds=float(attributes["duration"]),
        num_frames=int(attributes["frames"]),
        **records,
    )


def _array_problems(streams: Mapping[str, np.ndarray]) -> list[str]:
    problems = []
    if not streams:
        return ["no streams; expected one or more, such as rgb"]
    for name, array in streams.items():
        if problem := stream_name_problem(name):
            problems.append(problem)
        elif array.ndim != 2:
            problems.append(f"{name}: shape {list(array.shape)}; expected [T, D]")
        elif 0 in array.shape:
            problems.append(f"{name}: empty, shape {list(array.shape)}")
        elif not np.isfinite(array).all():
            rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
            problems.append(
                f"{name}: NaN or infinite values in {len(rows)} of {len(array)} snippets, first at {rows[0]}"
            )
    lengths = {name: len(array) for name, array in streams.items()}
    if not problems and len(set(lengths.values())) != 1:
        problems.append(f"streams of different lengths: {lengths}")
    return problems
