"""torchvision's video networks, as its classifiers see their features."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hrpro_pipeline.extract.networks.network import Network
from hrpro_pipeline.extract.networks.states import fill, seeded
from hrpro_pipeline.extract.weights import Weights


@dataclass(frozen=True)
class _Facts:
    """What torchvision's documentation states of a network.

    Attributes:
        head: name of its last module, the classifier.
        side: of its input, for networks that take no other.
        frames, rate: of the clips by which its accuracy was measured; of s3d fewer than those 128, which are 8 seconds.
    """

    head: str
    width: int
    frames: int
    rate: float
    side: int | None = None


TORCHVISION = {
    "mvit_v2_s": _Facts("head", 768, 16, 7.5, 224),
    "swin3d_t": _Facts("head", 768, 32, 15.0),
    "swin3d_s": _Facts("head", 768, 32, 15.0),
    "swin3d_b": _Facts("head", 1024, 32, 15.0),
    "s3d": _Facts("classifier", 1024, 32, 15.0, 224),
    "r2plus1d_18": _Facts("fc", 512, 16, 15.0, 112),
}


def torchvision_network(name: str, weights: Weights) -> Network:
    """One of torchvision's networks without its classifier. Raises ValueError for weights of another one."""
    from torchvision.models import get_model, get_model_weights  # slow to import

    facts = TORCHVISION[name]
    with seeded():
        network = get_model(name, weights=None)
    if weights.state is not None:
        fill(network, weights.state, name)
    transform = get_model_weights(name).DEFAULT.transforms()
    setattr(network, facts.head, nn.Identity())
    if name == "s3d":  # its pool has no bf16 version for CPUs
        network.avgpool = nn.Sequential(_Float32(), network.avgpool)
    return Network(
        network.to(memory_format=torch.channels_last_3d),
        facts.width,
        facts.frames,
        facts.rate,
        facts.side,
        tuple(transform.mean),
        tuple(transform.std),
    )


class _Float32(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()
