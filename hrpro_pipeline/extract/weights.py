"""Published weights: a local cache of checked copies."""

import http.client
import logging
import os
import pickle
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.files import git_blob_sha1, replacing, sha256, write_text
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.weight_entries import ALTERNATIVES, ENTRIES, I3D_ENTRIES, WeightEntry

logger = logging.getLogger(__name__)

RANDOM_SEED = 0
_TIMEOUT_SECONDS = 60
_NOT_IN_CACHE = "not downloaded"
_SUFFIXES = (".safetensors", ".pt", ".pth", ".pyth")


@dataclass(frozen=True)
class Weights:
    """Parameters of a network, and their digest.

    Attributes:
        state: by name; None for random weights, which the network draws itself.
        digest: as feature files keep it; for random weights, words that say so.
    """

    state: dict[str, Tensor] | None
    digest: str


@dataclass(frozen=True)
class WeightRow:
    """One line of `hrpro weights`: an entry, its file in the cache, and the file's state."""

    name: str
    stream: str
    license: str
    path: Path
    status: str
    ok: bool

    @property
    def text(self) -> str:
        """The row as a line."""
        return f"{self.name} ({self.stream}, {self.license}): {self.status}; {self.path}"


def cache_folder() -> Path:
    """`$HRPRO_CACHE`, else `~/.cache/hrpro/weights`."""
    folder = os.environ.get("HRPRO_CACHE")
    return Path(folder) if folder else Path.home() / ".cache" / "hrpro" / "weights"


def load_weights(weights: str, stream: str, backbone: str = "i3d") -> Weights:
    """Weights for one network.

    Args:
        weights: "kinetics" (downloaded once), "random" (for tests and demonstrations), or a folder with files
            such as `rgb*.pt`, `flow*.safetensors` or `model_rgb.pth`.
        stream: as it is called in the feature files.
        backbone: as in the settings.

    Raises:
        HrproError: weights that cannot be had or have another digest; says what to do.
    """
    if weights == "random":
        _warn_random()
        return Weights(None, f"random (seed {RANDOM_SEED}), NOT Kinetics")
    if weights == "kinetics":
        return cached_weights(_entry(backbone, "flow" if stream == "flow" else "rgb"))
    return _read_weights(_file_in_folder(Path(weights), stream))


def cached_weights(entry: WeightEntry, folder: Path | None = None) -> Weights:
    """The entry's weights from the cache; downloaded and converted to safetensors if they are not in it.

    Raises:
        HrproError: as `fetch`, or a copy that has changed since it was converted.
    """
    folder = folder or cache_folder()
    converted, recorded = _converted_files(entry, folder)
    if not converted.is_file() or not recorded.is_file():
        _convert(entry, fetch(entry, folder), folder)
    if (actual := sha256(converted)) != recorded.read_text().strip():
        raise HrproError(f"{converted}: digest {actual[:12]}... is not the recorded one; delete it and run again")
    return Weights(_read_safetensors(converted), _source_digest(converted))


def fetch(entry: WeightEntry, folder: Path) -> Path:
    """The published file in the cache, downloaded if absent, its digest checked.

    Raises:
        HrproError: offline, refused, cut short or changed; a file that fails the check is not used.
    """
    path = folder / entry.file_name
    if path.is_file():
        _check_digest(entry, path, path)
        return path
    request = urllib.request.Request(entry.url, headers={"User-Agent": "hrpro"})
    try:
        with replacing(path) as temporary:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response, temporary.open("wb") as out:
                expected = response.headers.get("Content-Length")
                with progress(f"downloading {entry.name}", int(expected or 0) / 1e6, "MB") as task:
                    while chunk := response.read(1 << 20):
                        out.write(chunk)
                        task.update(task.done + len(chunk) / 1e6)
            if expected is not None and temporary.stat().st_size != int(expected):
                raise OSError(f"cut short at {temporary.stat().st_size} of {expected} bytes")
            _check_digest(entry, temporary, path)
    except (OSError, http.client.HTTPException) as error:  # URLError and HTTPError are OSErrors
        raise HrproError(
            f"{entry.name}: cannot be downloaded ({error}); fetch {entry.url} on a machine with network, "
            f"put it at {path}, and run the same command again"
        ) from None
    return path


def list_all(folder: Path | None = None, entries: tuple[WeightEntry, ...] = ENTRIES) -> list[WeightRow]:
    """Every entry and whether it is in the cache; no digest is checked."""
    rows = []
    for entry in entries:
        path = _converted_files(entry, folder or cache_folder())[0]
        status = "in the cache" if path.is_file() else f"not downloaded, from {entry.url}"
        rows.append(WeightRow(entry.name, entry.stream, entry.license, path, status, ok=True))
    return rows


def download_all(folder: Path | None = None, entries: tuple[WeightEntry, ...] = I3D_ENTRIES) -> list[WeightRow]:
    """Download I3D's weights that are not in the cache; one that fails does not stop the others.

    Weights of other networks are downloaded when they are used.
    """
    return [_checked_row(entry, folder or cache_folder(), download=True) for entry in entries]


def verify_all(folder: Path | None = None, entries: tuple[WeightEntry, ...] = ENTRIES) -> list[WeightRow]:
    """Check, without network, that I3D's weights are in the cache, and the digest of every file in it."""
    rows = [_checked_row(entry, folder or cache_folder(), download=False) for entry in entries]
    return [
        row for row, entry in zip(rows, entries, strict=True) if entry.backbone == "i3d" or row.status != _NOT_IN_CACHE
    ]


def _checked_row(entry: WeightEntry, folder: Path, download: bool) -> WeightRow:
    path = _converted_files(entry, folder)[0]
    present = path.is_file() or (folder / entry.file_name).is_file()
    if not present and not download:
        return WeightRow(entry.name, entry.stream, entry.license, path, _NOT_IN_CACHE, ok=False)
    try:
        digest = cached_weights(entry, folder).digest
    except HrproError as error:
        return WeightRow(entry.name, entry.stream, entry.license, path, str(error), ok=False)
    return WeightRow(entry.name, entry.stream, entry.license, path, f"verified, {digest}", ok=True)


def _entry(backbone: str, stream: str) -> WeightEntry:
    for entry in ENTRIES:
        if (entry.backbone, entry.stream) == (backbone, stream):
            return entry
    raise HrproError(f"no Kinetics weights for backbone {backbone!r}, stream {stream!r}")


def _converted_files(entry: WeightEntry, folder: Path) -> tuple[Path, Path]:
    """The safetensors file, and the file that records its SHA-256."""
    return folder / f"{entry.name}.safetensors", folder / f"{entry.name}.safetensors.sha256"


def _check_digest(entry: WeightEntry, path: Path, final: Path) -> None:
    """Raise HrproError unless `path`, which is to be `final`, is the published file."""
    if entry.sha256 is not None:
        actual, expected = sha256(path)[: len(entry.sha256)], entry.sha256
    elif entry.git_sha1 is None:
        recorded = final.with_name(final.name + ".sha256")
        actual = sha256(path)
        if not recorded.is_file():
            logger.warning("%s: no digest is published; its SHA-256 %s is recorded now", entry.name, actual)
            write_text(recorded, actual + "\n")
        expected = recorded.read_text().strip()
    else:
        actual, expected = git_blob_sha1(path), entry.git_sha1
    if actual != expected:
        raise HrproError(
            f"{final}: digest {actual}, expected {expected}: not the published file, and not used; "
            f"delete it if it is there, and fetch {entry.url} again"
        )


def _convert(entry: WeightEntry, published: Path, folder: Path) -> None:
    converted, recorded = _converted_files(entry, folder)
    if published == converted:
        write_text(recorded, sha256(converted) + "\n")
        return
    digest = f"git-sha1:{entry.git_sha1}" if entry.git_sha1 else f"sha256:{sha256(published)}"
    metadata = {"origin": entry.origin, "license": entry.license, "url": entry.url, "source_digest": digest}
    tensors = {name: tensor.contiguous() for name, tensor in _read_pickle(published).items()}
    with replacing(converted) as temporary:
        save_file(tensors, temporary, metadata=metadata)
    write_text(recorded, sha256(converted) + "\n")


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError) as error:
        first = " ".join(str(error).split())[:120]
        raise HrproError(f"{path}: not a weight file that can be read safely ({first}); not used") from None
    # The wrappers of the checkpoints of pytorchvideo, of VideoMAE V2, and of many others.
    for key in ("model_state", "module", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise HrproError(f"{path}: not a state dict of tensors; not used")
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, OSError) as error:
        raise HrproError(f"{path}: not a safetensors file ({error}); delete it and run again") from None


def _source_digest(path: Path) -> str:
    """The published file's digest where the metadata has it, so that it is the same on every machine."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    return metadata.get("source_digest") or f"sha256:{sha256(path)}"


def _file_in_folder(folder: Path, stream: str) -> Path:
    """The one weight file of a stream in a folder of the user. Raises HrproError if there is none, or several."""
    if not folder.is_dir():
        raise HrproError(f"`weights` {folder}: no such folder; expected kinetics, random, or a folder of weight files")
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _SUFFIXES and re.search(rf"(^|[_-]){stream}", path.stem.lower())
    )
    if not files:
        raise HrproError(f"{folder}: no {stream} weights; expected {stream}*.pt, model_{stream}.pth or .safetensors")
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise HrproError(f"{folder}: {len(files)} files for stream {stream} ({names}); leave one of them")
    return files[0]


def _read_weights(path: Path) -> Weights:
    if path.suffix == ".safetensors":
        return Weights(_read_safetensors(path), _source_digest(path))
    published = {entry.git_sha1 for entry in (*ENTRIES, *ALTERNATIVES)} & {git_blob_sha1(path)}
    digest = f"git-sha1:{published.pop()}" if published else f"sha256:{sha256(path)}"
    return Weights(_read_pickle(path), digest)


@cache
def _warn_random() -> None:
    logger.warning("random weights, NOT Kinetics: these features are for tests and demonstrations only")
