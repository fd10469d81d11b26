"""The arrays of a folder of feature files, or of one file, by name."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.feature_files.reading import PICKLES, READERS, Stored, arrays_of
from hrpro_pipeline.data.features import STREAMS
from hrpro_pipeline.errors import HrproError


def list_arrays(
    source: Path, streams: Iterable[str] = (), key: str | None = None
) -> tuple[dict[str, Stored], list[str]]:
    """The arrays of floats in a folder, or in a file.

    Args:
        source: folder of .npy, .npz, .mat, .h5, .pt, .safetensors or .csv files in any depth, or one such file.
        streams: names of streams beside rgb and flow.
        key: of the array to take from each file of several.

    Returns:
        Arrays by name: the path in the folder without suffix, and behind it the name in a file of several; and a line
        for each file that cannot be read.

    Raises:
        HrproError: no such files, files of several kinds, or several arrays in a file without a key.
    """
    known = {name.lower() for name in (*STREAMS, *streams)}
    if not source.is_dir():
        if source.suffix.lower() not in (*READERS, *PICKLES):
            raise HrproError(f"{source}: not a file of arrays; expected {', '.join(READERS)}")
        try:
            return _of_one_file(source, known, key), []
        except HrproError as error:
            raise HrproError(f"{source}: {error}") from None
    arrays: dict[str, Stored] = {}
    files_by_problem: dict[str, list[str]] = {}
    files = _files(source)
    with progress("reading", len(files), "files", minor=True) as task:
        for file in files:
            name = file.relative_to(source).as_posix()
            try:
                arrays |= _of_file(file, name[: -len(file.suffix)], known, key)
            except HrproError as error:
                files_by_problem.setdefault(str(error), []).append(name)
            task.advance()
    return arrays, [f"{_first_of(names)}: {problem}" for problem, names in files_by_problem.items()]


def _first_of(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def _files(folder: Path) -> list[Path]:
    """The files of arrays in a folder, of one kind."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path.relative_to(folder))]
    inner = folder / "features"
    if any(inner in path.parents and path.suffix.lower() in READERS for path in paths):
        paths = [path for path in paths if inner in path.parents]
    kinds = Counter(path.suffix.lower() for path in paths if path.suffix.lower() in READERS)
    if len(kinds) > 1:
        del kinds[".csv"]  # annotations and points beside the features
    if not kinds:
        pickle = next((path for path in paths if path.suffix.lower() in PICKLES), None)
        if pickle is not None:
            arrays_of(pickle)
        raise HrproError(
            f"no feature files; expected {', '.join(READERS)}, or the layout of the published archives, "
            "features/{train,test}/VIDEO.npy"
        )
    if len(kinds) > 1:
        listed = " and ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        raise HrproError(f"holds {listed} files; put the features into a folder of their own, and give that")
    return [path for path in paths if path.suffix.lower() in kinds]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _of_file(file: Path, name: str, streams: set[str], key: str | None) -> dict[str, Stored]:
    """Arrays of a file in a folder: of one video, or of all videos in a file that is named as a stream."""
    arrays = arrays_of(file)
    if set(arrays) == {""}:
        return {name: arrays[""]}
    arrays = _with_axes(arrays, key)
    if len(arrays) == 1:
        return {name: next(iter(arrays.values()))}
    if file.stem.lower() in streams or _are_streams(arrays, streams):
        return {f"{name}/{inner}": array for inner, array in arrays.items()}
    names = ", ".join(list(arrays)[:4])
    raise HrproError(f"holds several arrays ({names}); say which, as in `key={next(iter(arrays))}`")


def _of_one_file(file: Path, streams: set[str], key: str | None) -> dict[str, Stored]:
    """Arrays of a file that is all there is: of one video, or of a video for each name."""
    arrays = arrays_of(file)
    if set(arrays) != {""}:
        arrays = _with_axes(arrays, key)
    if len(arrays) == 1:
        return {file.stem: next(iter(arrays.values()))}
    if _are_streams(arrays, streams):
        return {f"{file.stem}/{inner}": array for inner, array in arrays.items()}
    return arrays


def _with_axes(arrays: Mapping[str, Stored], key: str | None) -> dict[str, Stored]:
    """Arrays of two axes or more, or the one of the key: others are rates, durations and the like."""
    if key is not None:
        if key not in arrays:
            raise HrproError(f"no array {key!r} (`key`), but {_listed(arrays)}")
        return {key: arrays[key]}
    selected = {name: array for name, array in arrays.items() if len(array.shape) >= 2}
    if not selected:
        raise HrproError(f"holds no array [T, D], but {_listed(arrays)}")
    return selected


def _are_streams(names: Iterable[str], streams: set[str]) -> bool:
    return all(name.lower() in streams for name in names)


def _listed(arrays: Mapping[str, Stored]) -> str:
    items = [f"{name} {list(array.shape)}" for name, array in arrays.items()]
    return ", ".join(items[:4]) + (", ..." if len(items) > 4 else "")
