"""A network of the user's own: a function in a Python file, which is run because the user names it.

No settings, feature file or model file ever makes it run: they hold its label alone, `module.py:build`.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch

from hrpro_pipeline.configs.schema import is_own_network
from hrpro_pipeline.data.files import sha256
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.networks.network import Network
from hrpro_pipeline.extract.networks.states import seeded

_MOST_LETTERS = 200


def is_path(name: str) -> bool:
    """Whether the name of a network is a path with a function, not one of ours."""
    return ":" in name or "/" in name or name.endswith(".py")


def label_of(path: str) -> str:
    """`folder/module.py:build` -> `module.py:build`, as settings and files hold it. Raises HrproError for others."""
    label = Path(path).name
    if not is_own_network(label):
        raise HrproError(f"`backbone` {path}: expected PATH.py:FUNCTION, such as networks/mine.py:build")
    return label


def own_network(label: str, paths: Sequence[str]) -> tuple[Network, str]:
    """Run the user's function -> its network, and the digest of its file and parameters.

    Args:
        label: as in the settings.
        paths: the files and functions that the user has named, `folder/module.py:build`.

    Raises:
        HrproError: the user has not named it, it fails, or it returns anything but a `Network`.
    """
    named = [path for path in paths if label_of(path) == label]
    if not named:
        raise HrproError(
            f"the network {label} is not one of ours, and its code runs only when you name it: "
            f"give its file with `backbone=PATH/{label}`"
        )
    file, _, function = named[-1].rpartition(":")
    if not Path(file).is_file():
        raise HrproError(f"`backbone` {named[-1]}: no such file {file}")
    network = _run(Path(file), function)
    return network, f"own sha256:{_digest(Path(file), network)}"


def _run(file: Path, function: str) -> Network:
    spec = importlib.util.spec_from_file_location(f"hrpro_own_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        with seeded():
            spec.loader.exec_module(module)
            network = getattr(module, function)()
    except Exception as error:  # noqa: BLE001  the user's code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_MOST_LETTERS]
        raise HrproError(f"{file}: {function}() failed ({reason})") from error
    if not isinstance(network, Network):
        raise HrproError(f"{file}: {function}() returned a {type(network).__name__}, expected a hrpro_pipeline.Network")
    return network


def _digest(file: Path, network: Network) -> str:
    """Of the file's bytes and of all parameters, so that other weights are another network."""
    digest = hashlib.sha256(sha256(file).encode())
    for name, tensor in sorted(network.module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
