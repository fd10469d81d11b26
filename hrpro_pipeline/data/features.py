"""The feature store: one HDF5 file a video, complete or absent.

Layout of `<video id>.h5`: datasets `rgb` and `flow`, [T, D] each; attributes `schema`, `video_id`, `fps`,
`duration`, `frames`, `snippet_frames`, `stride`, and as JSON `source` (name, size, sha256, fps), `settings` (all
that shaped the numbers), `weights` (digest by stream) and `record` (how it went: decoder, fall-backs, versions).
"""

import io
import json
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hrpro_pipeline.data.files import holds_videos, is_safe_id, replacing
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.data.storage import Location, exists, is_url, joined, opened, upload
from hrpro_pipeline.errors import HrproError, ProblemsError

SCHEMA = "hrpro.features/1"
STREAMS = ("rgb", "flow")


@dataclass(frozen=True)
class FeatureHeader:
    """What a feature file says of itself, without its arrays.

    Attributes:
        num_snippets: T, the same for all streams.
        widths: channels D by stream, in the order rgb, flow.
        duration_seconds: length of the video on the clock.
        num_frames: frames on the clock.
        source: name, size, sha256 and fps of the video; empty for imported features.
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

    def joined(self, streams: Collection[str] = STREAMS) -> np.ndarray:
        """The named streams that there are, side by side, RGB first: float32 [T, D]."""
        parts = [self.streams[name] for name in STREAMS if name in self.streams and name in streams]
        return np.concatenate(parts, axis=1, dtype=np.float32)


@dataclass(frozen=True)
class StoredFeatures:
    """Stands for a video's joined features [T, D] in their file: `np.asarray` reads them anew each time, `len` is T."""

    path: Path
    streams: tuple[str, ...]
    num_snippets: int

    def __len__(self) -> int:
        return self.num_snippets

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(read_features(self.path).joined(self.streams), dtype)


def feature_path(folder: Path, video_id: str) -> Path:
    """Where a video's features are kept in a folder."""
    return folder / feature_name(video_id)


def feature_name(video_id: str) -> str:
    """The name of a video's feature file."""
    return f"{video_id}.h5"


def store_features(folder: Location, features: VideoFeatures) -> None:
    """Write one video's features into a folder, or a remote one; complete or not at all. Errors: `write_features`."""
    header = features.header
    with tempfile.TemporaryDirectory(prefix="hrpro-") if is_url(folder) else nullcontext(folder) as here:
        path = feature_path(Path(here), header.video_id)
        write_features(
            path,
            features.streams,
            clock=header.clock,
            video_id=header.video_id,
            duration_seconds=header.duration_seconds,
            num_frames=header.num_frames,
            source=header.source,
            settings=header.settings,
            weights=header.weights,
            record=header.record,
        )
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

    Raises:
        ProblemsError: empty, NaN, or streams of different lengths; nothing is written then.
    """
    if problems := _array_problems(streams):
        raise ProblemsError(f"features of {video_id}", problems)
    with replacing(path) as temporary, _outlasting(temporary) as stream, h5py.File(stream, "w") as file:
        for name in STREAMS:
            if name in streams:
                file.create_dataset(name, data=streams[name])
        file.attrs["schema"] = SCHEMA
        file.attrs["video_id"] = video_id
        file.attrs["fps"] = clock.fps
        file.attrs["snippet_frames"] = clock.snippet_frames
        file.attrs["stride"] = clock.stride
        file.attrs["duration"] = duration_seconds
        file.attrs["frames"] = num_frames
        for name, value in (("source", source), ("settings", settings), ("weights", weights), ("record", record)):
            file.attrs[name] = json.dumps(value or {}, sort_keys=True)


@contextmanager
def _outlasting(path: Path) -> Iterator["_Outlasting"]:
    """A file to write whose first error is raised when the block ends.

    HDF5 crashes the process where a write fails while it closes a file: on a full disk, say.
    """
    with _Outlasting(path, "r+") as stream:
        try:
            yield stream
        finally:
            if stream.error is not None:
                raise stream.error


class _Outlasting(io.FileIO):
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


def read_features(path: Path) -> VideoFeatures:
    """Read one video's features, checked.

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
        try:
            streams = {name: np.asarray(file[name]) for name in header.widths}
        except OSError as error:
            raise HrproError(f"{path}: damaged ({error}); delete it and extract the video again") from None
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
    paths = {path.stem: path for path in sorted(folder.glob("*.h5")) if not path.name.startswith(".")}
    if not paths:
        raise HrproError(f"{folder}: no feature files (*.h5); {_instead(folder)}")
    return paths


def _instead(folder: Path) -> str:
    """What to do with a folder without features."""
    if holds_videos(folder):
        return f"it holds videos: extract their features first, hrpro extract {folder} --out features"
    if next(folder.glob("*/*.npy"), None) or next(folder.glob("features/*/*.npy"), None):
        return f"it holds .npy arrays: convert them first, hrpro import features {folder} --out features"
    if (folder / "model.pt").exists():
        return "it holds a trained model; give the folder of the features"
    return "make them with `hrpro extract` or `hrpro import features`"


def check_uniform(headers: Iterable[tuple[Path, FeatureHeader]], streams: Collection[str] = STREAMS) -> None:
    """Check that files were made alike: clock, settings, and widths and weights of the streams to be used.

    Raises:
        ProblemsError: files that differ from the first; features of different settings must not be mixed.
    """
    others: dict[str, list[str]] = {}  # names of files by what is different in them
    first: tuple[Path, dict[str, Any]] | None = None
    for path, header in headers:
        traits = {
            **{name: value for name, value in header.settings.items() if name not in ("streams", "dtype")},
            **{name: getattr(header.clock, name) for name in ("fps", "snippet_frames", "stride")},
            **{f"width of {name}": width for name, width in header.widths.items() if name in streams},
            **{f"weights of {name}": digest for name, digest in header.weights.items() if name in streams},
        }
        if first is None:
            first = (path, traits)
        for name in dict.fromkeys([*first[1], *traits]):
            own, its = traits.get(name, "none"), first[1].get(name, "none")
            if own != its:
                others.setdefault(f"{name} {own}, but {first[0].name} has {its}", []).append(path.name)
    if first is not None and others:
        problems = [f"{names[0]}{_more(names)}: {difference}" for difference, names in others.items()]
        raise ProblemsError(f"{first[0].parent}: features that were not made alike; extract all the same way", problems)


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


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
            yield file


def _header(path: Location, file: h5py.File) -> FeatureHeader:
    attributes = file.attrs
    required = ("schema", "video_id", "fps", "snippet_frames", "stride", "duration", "frames")
    if missing := [name for name in required if name not in attributes]:
        raise HrproError(f"{path}: not a feature file of this tool: attribute {', '.join(missing)} missing")
    if attributes["schema"] != SCHEMA:
        number = str(attributes["schema"]).removeprefix("hrpro.features/")
        newer = number.isdecimal() and int(number) > int(SCHEMA.rpartition("/")[2])
        do = "a newer hrpro made it: update hrpro, or extract" if newer else "extract"
        raise HrproError(f"{path}: schema {attributes['schema']!r}, expected {SCHEMA!r}; {do} the video again")
    video_id = str(attributes["video_id"])
    if not is_safe_id(video_id):
        raise HrproError(f"{path}: video_id {video_id!r} is not a plain name")
    widths: dict[str, int] = {}
    lengths: dict[str, int] = {}
    for name in STREAMS:
        if name in file:
            # Links and virtual data sets would read other files.
            linked = not isinstance(file.get(name, getlink=True), h5py.HardLink)
            if linked or not isinstance(file[name], h5py.Dataset) or file[name].is_virtual or file[name].external:
                raise HrproError(f"{path}: {name} is not a data set of this file")
            if file[name].ndim != 2 or file[name].dtype.kind != "f":
                raise HrproError(
                    f"{path}: {name} is {file[name].dtype} {list(file[name].shape)}; expected floats [T, D]"
                )
            lengths[name], widths[name] = file[name].shape
    if not widths:
        raise HrproError(f"{path}: no rgb or flow data set")
    if len(set(lengths.values())) != 1:
        raise HrproError(f"{path}: streams of different lengths: {lengths}")
    try:
        extra = {
            name: json.loads(attributes[name]) if name in attributes else {}
            for name in ("source", "settings", "weights", "record")
        }
        if wrong := [name for name, value in extra.items() if not isinstance(value, dict)]:
            raise ValueError(f"{', '.join(wrong)}: not a JSON object")
        clock = SnippetClock(float(attributes["fps"]), int(attributes["snippet_frames"]), int(attributes["stride"]))
        return FeatureHeader(
            video_id=video_id,
            num_snippets=next(iter(lengths.values())),
            widths=widths,
            clock=clock,
            duration_seconds=float(attributes["duration"]),
            num_frames=int(attributes["frames"]),
            **extra,
        )
    except (ValueError, TypeError) as error:
        raise HrproError(f"{path}: damaged attributes ({error}); extract the video again") from None


def _array_problems(streams: dict[str, np.ndarray]) -> list[str]:
    problems = []
    if not streams:
        return ["no streams; expected rgb, flow or both"]
    for name, array in streams.items():
        if name not in STREAMS:
            problems.append(f"stream {name!r}; expected one of {', '.join(STREAMS)}")
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
