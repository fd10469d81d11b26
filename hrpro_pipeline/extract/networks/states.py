"""Parameters into networks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hrpro_pipeline.extract.weights import RANDOM_SEED


@contextmanager
def seeded() -> Iterator[None]:
    """Networks that are built meanwhile draw the same random parameters each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        yield


def fill(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load parameters, all of them. Raises ValueError that names what does not fit the network called `name`."""
    given, expected = set(state), set(network.state_dict())
    if given != expected:
        missing, unexpected = sorted(expected - given)[:3], sorted(given - expected)[:3]
        raise ValueError(f"not weights of {name}: missing {missing}, unexpected {unexpected}")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"not weights of {name}: {' '.join(str(error).split())[:200]}") from None
