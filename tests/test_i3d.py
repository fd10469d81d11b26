"""Inception-I3D against two published ports, and its own edges."""

import json
import zlib

import numpy as np
import pytest
import torch
from conftest import GOLDEN

from hrpro_pipeline.extract.i3d import InceptionI3D, fold_batch_norm, load_i3d, random_i3d, same_padding

CHANNELS = {"rgb": 3, "flow": 2}


@pytest.fixture(scope="module")
def shapes() -> dict[str, dict[str, list[int]]]:
    """Parameter names and shapes of each port and stream."""
    return json.loads((GOLDEN / "i3d" / "shapes.json").read_text())


def made_weights(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """The weights of the golden features: each drawn from a generator that its name seeds."""
    return {name: torch.from_numpy(made_weight(name, shape)) for name, shape in shapes.items()}


def made_weight(name: str, shape: list[int]) -> np.ndarray:
    """Convolutions keep the scale of what they are given; batch norm is near the identity."""
    if name.endswith("num_batches_tracked"):
        return np.array(0)
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        drawn = 1 + 0.1 * np.abs(drawn)
    elif len(shape) == 5:  # of a convolution: [out, in, t, H, W]
        drawn *= np.sqrt(2 / np.prod(shape[1:]))
    else:
        drawn = 0.1 * drawn + (1 if name.endswith(".weight") else 0)
    return drawn.astype(np.float32)


def made_clip(stream: str, frames: int) -> torch.Tensor:
    """The golden features' input [1, C, N, H, W], in [-1, 1]."""
    values = np.random.default_rng(5).uniform(-1, 1, (1, CHANNELS[stream], frames, 224, 224))
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize("port", ["pytorch-i3d", "kinetics_i3d_pytorch"])
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_features_equal_the_published_ports(shapes: dict[str, dict[str, list[int]]], port: str, stream: str) -> None:
    golden = np.load(GOLDEN / "i3d" / "features.npz")
    model = load_i3d(made_weights(shapes[f"{port}/{stream}"]), stream)
    for frames in (16, 24):
        with torch.inference_mode():
            features = model(made_clip(stream, frames))[0].numpy()
        expected = golden[f"{port}/{stream}/{frames}/features"]
        assert features.shape == expected.shape == ({16: 1, 24: 2}[frames], 1024)
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_wrong_weights_are_named(shapes: dict[str, dict[str, list[int]]]) -> None:
    weights = made_weights(shapes["pytorch-i3d/flow"])
    with pytest.raises(ValueError, match="input of 2 channels, but stream 'rgb' has 3"):
        load_i3d(weights, "rgb")
    del weights["Mixed_4c.b1b.conv3d.weight"]
    weights["Mixed_9z.conv3d.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"1 missing: Mixed_4c.b1b.conv3d.weight; 1 unexpected: Mixed_9z") as caught:
        load_i3d(weights, "flow")
    assert "num_batches_tracked" not in str(caught.value)
    with pytest.raises(ValueError, match="stream 'depth'; expected rgb or flow"):
        load_i3d(weights, "depth")


def test_a_wrong_shape_is_named() -> None:
    weights = dict(random_i3d("rgb", 0).state_dict())
    weights["Mixed_3b.b0.bn.bias"] = torch.zeros(7)
    with pytest.raises(ValueError, match=r"Mixed_3b.b0.bn.bias \[7\], expected \[64\]"):
        load_i3d(weights, "rgb")


def test_random_weights_repeat_and_keep_the_scale() -> None:
    torch.manual_seed(1)
    first = random_i3d("flow", 3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second, other = random_i3d("flow", 3), random_i3d("flow", 4)
    clips = torch.rand(1, 2, 9, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        one, two, three = first(clips), second(clips), other(clips)
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert 0.01 < one.std() < 10
    assert torch.equal(torch.get_rng_state(), before), "drawing the weights leaves the global generator alone"
    assert not first.training
    weights = dict(second.state_dict())
    assert torch.equal(load_i3d(weights, "flow")(clips), one), "our own names load again"


@pytest.mark.parametrize(("frames", "steps"), [(9, 1), (16, 1), (17, 2), (24, 2), (32, 3)])
def test_frames_to_steps(frames: int, steps: int) -> None:
    with torch.inference_mode():
        features = random_i3d("rgb", 0)(torch.zeros(2, 3, frames, 32, 32))
    assert features.shape == (2, steps, 1024)


def test_too_few_frames_and_wrong_channels_are_named() -> None:
    model = InceptionI3D(3)
    with pytest.raises(ValueError, match="8 frames; I3D needs at least 9"):
        model(torch.zeros(1, 3, 8, 32, 32))
    with pytest.raises(ValueError, match=r"\[1, 2, 16, 32, 32\]; expected \[B, 3, t, H, W\]"):
        model(torch.zeros(1, 2, 16, 32, 32))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (224, 7, 2, (2, 3)),
        (225, 7, 2, (3, 3)),
        (112, 3, 2, (0, 1)),
        (56, 3, 1, (1, 1)),
        (7, 2, 2, (0, 1)),
        (8, 1, 1, (0, 0)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, pads: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == pads


def test_folded_batch_norm_is_the_same_function() -> None:
    network = random_i3d("flow", seed=3)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):  # as after training: neither mean 0 nor variance 1
            for value in (module.running_mean, module.running_var, module.weight, module.bias):
                assert value is not None
                with torch.no_grad():
                    value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    clips = torch.rand(1, 2, 16, 64, 64, generator=generator) * 2 - 1
    with torch.inference_mode():
        expected = network(clips)
        found = fold_batch_norm(network)(clips)
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in network.modules())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
