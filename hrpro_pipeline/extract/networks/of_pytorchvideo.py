"""pytorchvideo's networks."""

from torch import Tensor, nn

from hrpro_pipeline.extract.networks.network import Network
from hrpro_pipeline.extract.networks.states import fill, seeded
from hrpro_pipeline.extract.weights import Weights

# Feature widths of the networks without their heads.
_WIDTHS = {"i3d_r50": 2048, "slow_r50": 2048, "x3d_m": 192}


class PooledTrunk(nn.Module):
    """A network without its head: the last stage averaged over time and space, [B, D]."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, clips: Tensor) -> Tensor:
        x = clips
        for block in list(self.blocks)[:-1]:  # the last one is the classifier
            x = block(x)
        return x.mean(dim=(2, 3, 4))


def pytorchvideo_network(name: str, weights: Weights) -> Network:
    """One of pytorchvideo's networks. Raises ValueError for weights of another one."""
    from pytorchvideo.models import hub  # slow to import

    with seeded():
        network = getattr(hub, name)(pretrained=False)
    if weights.state is not None:
        fill(network, weights.state, name)
    return Network(PooledTrunk(network.blocks), _WIDTHS[name], mean=0.45, std=0.225, bf16=False)
