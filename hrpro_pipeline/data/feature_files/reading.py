"""The arrays in a file, by the file's suffix. Nothing that a file holds is executed."""

import csv
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hrpro_pipeline.errors import HrproError, one_line

PICKLES = (".pkl", ".pickle", ".joblib")
_WAY_ROUND = (
    "a pickle, which can run any code when it is opened; where you trust it, open it in Python and save each video by "
    'itself: np.save(f"features/{video}.npy", array)'
)


@dataclass(frozen=True)
class Stored:
    """An array in a file: its shape, and a function that reads it."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def arrays_of(file: Path) -> dict[str, Stored]:
    """The arrays of floats in a file, by their names in it; a single array without a name is called "".

    Raises:
        HrproError: not readable, a pickle, or no floats; without the file's name.
    """
    suffix = file.suffix.lower()
    if suffix in PICKLES:
        raise HrproError(_WAY_ROUND)
    try:
        arrays = READERS[suffix](file)
    except HrproError:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = one_line(error)
        if "pickle" in reason.lower() or "Python objects" in reason:
            raise HrproError(_WAY_ROUND) from None
        raise HrproError(f"not a readable {suffix} file ({reason})") from None
    if not arrays:
        raise HrproError("holds no array of floats; expected [T, D]")
    return arrays


def _npy(file: Path) -> dict[str, Stored]:
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise HrproError("an archive of arrays under the suffix of a single one; call it .npz")
    return _floats({"": array}, lambda _: np.load(file, allow_pickle=False))


def _npz(file: Path) -> dict[str, Stored]:
    def read(name: str) -> np.ndarray:
        with np.load(file, allow_pickle=False) as archive:
            return np.asarray(archive[name])

    with np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise HrproError("a single array under the suffix of an archive; call it .npy")
        return _floats({name: archive[name] for name in archive.files}, read)


def _hdf5(file: Path, is_matlab: bool = False) -> dict[str, Stored]:
    def read(name: str) -> np.ndarray:
        with h5py.File(file, "r") as content:
            array = np.asarray(content[name])
        return array.T if is_matlab else array  # MATLAB writes the last axis first

    found: dict[str, Any] = {}

    def add(name: str, item: Any) -> None:  # is called for what lies in the file itself, not for links to other files
        is_plain = isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external
        if is_plain and not name.startswith("#"):
            found[name] = item

    with h5py.File(file, "r") as content:
        if str(content.attrs.get("schema", "")).startswith("hrpro."):
            raise HrproError("a feature file of this tool already; it needs no import")
        content.visititems(add)
        stored = _floats(found, read)
    if is_matlab:
        return {name: Stored(item.shape[::-1], item.read) for name, item in stored.items()}
    return stored


def _mat(file: Path) -> dict[str, Stored]:
    if h5py.is_hdf5(file):  # version 7.3
        return _hdf5(file, is_matlab=True)
    from scipy.io import loadmat

    try:
        content = loadmat(file)
    except Exception as error:  # noqa: BLE001  scipy raises many types for damaged files
        raise HrproError(f"not a readable .mat file ({one_line(error)})") from None
    arrays = {name: value for name, value in content.items() if not name.startswith("__")}
    return _floats(arrays, arrays.__getitem__)


def _torch(file: Path) -> dict[str, Stored]:
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  torch raises many types for damaged and hostile files
        if "weights_only" in str(error) or "Weights only" in str(error):
            raise HrproError(_WAY_ROUND) from None
        raise HrproError(f"not a readable {file.suffix} file ({one_line(error)})") from None
    tensors = dict(_tensors("", content))
    arrays = {name: _as_array(tensor) for name, tensor in tensors.items()}
    return _floats(arrays, arrays.__getitem__)


def _tensors(name: str, content: Any) -> list[tuple[str, Any]]:
    """The tensors of nested dicts, by their keys joined with slashes."""
    import torch

    if isinstance(content, dict):
        parts = [(f"{name}/{key}".lstrip("/"), value) for key, value in content.items()]
        return [found for key, value in parts for found in _tensors(key, value)]
    return [(name, content)] if isinstance(content, torch.Tensor) else []


def _as_array(tensor: Any) -> np.ndarray:
    import torch

    plain = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    return np.asarray(plain.float() if plain.dtype == torch.bfloat16 else plain)  # NumPy has no bfloat16


def _safetensors(file: Path) -> dict[str, Stored]:
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> np.ndarray:
        with safe_open(file, framework="pt") as content:
            return _as_array(content.get_tensor(name))

    try:
        with safe_open(file, framework="pt") as content:
            arrays = {name: _as_array(content.get_tensor(name)) for name in content.keys()}  # noqa: SIM118  no mapping
    except SafetensorError as error:
        raise HrproError(f"not a readable .safetensors file ({one_line(error)})") from None
    return _floats(arrays, read)


def _csv(file: Path) -> dict[str, Stored]:
    """A table of numbers; a line of names, and a first column without a name as pandas writes it, are left out."""
    with file.open(newline="", encoding="utf-8-sig") as stream:
        header = next(csv.reader(stream), [])
    has_header = not all(_is_number(cell) for cell in header) or _counts(header)
    has_index = bool(header) and not header[0].strip()

    def read(_: str = "") -> np.ndarray:
        columns = range(1, len(header)) if has_index else None
        array = np.loadtxt(
            *(file, np.float32), delimiter=",", skiprows=int(has_header), usecols=columns, ndmin=2, encoding="utf-8-sig"
        )
        return np.asarray(array)

    return _floats({"": read()}, read)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _counts(header: list[str]) -> bool:
    """Whether a line is 0,1,2,... or 1,2,3,...: columns that pandas has numbered."""
    numbers = [cell.strip() for cell in header]
    return len(numbers) > 1 and any(
        numbers == [str(first + index) for index in range(len(numbers))] for first in (0, 1)
    )


def _floats(arrays: Mapping[str, Any], read: Callable[[str], np.ndarray]) -> dict[str, Stored]:
    """Of arrays with a shape and a dtype, those of floats."""
    return {
        name: Stored(tuple(array.shape), partial(read, name))
        for name, array in arrays.items()
        if getattr(getattr(array, "dtype", None), "kind", "") == "f"
    }


READERS: dict[str, Callable[[Path], dict[str, Stored]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".mat": _mat,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
    ".csv": _csv,
}
