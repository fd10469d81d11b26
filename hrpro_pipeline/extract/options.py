"""Choices of a user for an extraction, beside the settings. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal, get_args

Decoder = Literal["auto", "decord", "pyav", "torchcodec"]
FlowBackend = Literal["auto", "torch", "opencv"]
EngineName = Literal["local", "ray"]

DECODERS: tuple[str, ...] = get_args(Decoder)
FLOW_BACKENDS: tuple[str, ...] = get_args(FlowBackend)
ENGINES: tuple[str, ...] = get_args(EngineName)


@dataclass(frozen=True)
class ExtractOptions:
    """How frames are read and networks are loaded; the settings say what is computed.

    Attributes:
        weights: "kinetics", "random", or a folder of weight files.
        flow: who computes TV-L1.
        decoder: which one is tried first.
        device: "auto", "cpu", "cuda" (all visible GPUs) or "cuda:N".
        keep_partial: keep what can be decoded of a damaged video, marked as partial.
        own: networks of the user's own that may be run, PATH.py:FUNCTION.
    """

    weights: str = "kinetics"
    flow: FlowBackend = "auto"
    decoder: Decoder = "auto"
    device: str = "auto"
    keep_partial: bool = False
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workers:
    """The workers of an extraction.

    Attributes:
        engine: they are processes of this machine, or actors of a Ray cluster.
        count: of workers; by default one for each GPU, one in all on the CPU, on Ray as many as fit.
        ray_address: of a running cluster; one is started on this machine otherwise.
    """

    engine: EngineName = "local"
    count: int | None = None
    ray_address: str | None = None
