"""Networks of RGB frames: each against its library's own forward, and the weights that they take."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model, get_model_weights

from hrpro_pipeline.configs.schema import NETWORKS, ExtractSettings
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.backbones import Backbone, load_backbone
from hrpro_pipeline.extract.networks import of_transformers
from hrpro_pipeline.extract.networks.network import Network, clip_ticks
from hrpro_pipeline.extract.networks.of_torchvision import TORCHVISION
from hrpro_pipeline.extract.networks.states import seeded
from hrpro_pipeline.extract.preprocess import crop_views
from hrpro_pipeline.extract.weight_entries import ENTRIES

CPU = torch.device("cpu")
# Frames of a test's clip and side of its crop, small where the network takes it.
CLIPS = {"mvit_v2_s": (16, 224), "s3d": (14, 224), "r2plus1d_18": (16, 112)} | dict.fromkeys(
    ("swin3d_t", "swin3d_s", "swin3d_b"), (4, 64)
)


def frames_of(count: int, height: int, width: int) -> Tensor:
    """Smooth uint8 frames [t, 3, H, W]."""
    coarse = torch.rand(1, 3, count, 8, 8, generator=torch.Generator().manual_seed(0))
    fine = F.interpolate(coarse, (count, height, width), mode="trilinear")
    return (fine[0].transpose(0, 1) * 255).to(torch.uint8)


def assert_alike(features: Tensor, expected: Tensor, backbone: Backbone) -> None:
    assert features.dtype == torch.float32
    assert features.shape == expected.shape == (1, backbone.width)
    assert (features - expected).abs().max() < 1e-3 * expected.abs().max()


def assert_close_in_bf16(name: str, levels: Tensor, expected: Tensor) -> None:
    backbone = load_backbone("rgb", name, "random", CPU, torch.bfloat16)
    assert backbone.dtype == torch.bfloat16
    features = backbone.features(levels)
    assert features.dtype == torch.float32
    assert torch.cosine_similarity(features, expected).item() > 0.999


@pytest.mark.parametrize("name", TORCHVISION)
@torch.inference_mode()
def test_torchvision(name: str) -> None:
    """The features of frames that torchvision's own transform prepares, and what its own classifier makes of them."""
    count, side = CLIPS[name]
    frames = frames_of(count, side + 8, side + 24)
    with seeded():
        library = get_model(name, weights=None).eval()
    transform = get_model_weights(name).DEFAULT.transforms(crop_size=(side, side), resize_size=frames.shape[-2:])
    head = TORCHVISION[name].head
    seen: list[Tensor] = []
    getattr(library, head).register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    logits = library(transform(frames)[None])

    backbone = load_backbone("rgb", name, "random", CPU)
    levels = crop_views(frames, side, "center")[0].transpose(0, 1)[None]  # [1, 3, t, side, side]
    features = backbone.features(levels)
    assert_alike(features, seen[0].flatten(2).mean(dim=2) if seen[0].ndim == 5 else seen[0], backbone)
    if name != "s3d":
        assert torch.allclose(getattr(library, head)(features), logits, atol=1e-3)
    assert_close_in_bf16(name, levels, features)


def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of each transformer: the others are alike."""
    for table in (of_transformers.VIDEOMAE, of_transformers.VJEPA2):
        for name, values in table.items():
            monkeypatch.setitem(table, name, values | {"num_hidden_layers": 2})


@pytest.mark.parametrize("name", ["videomae_b", "videomae_v2_s", "vjepa2_l"])
@torch.inference_mode()
def test_transformers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    shallow(monkeypatch)
    backbone = load_backbone("rgb", name, "random", CPU)
    side = backbone.network.side
    assert side is not None
    frames = frames_of(16, side, side)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((frames / 255 - mean[:, None, None]) / std[:, None, None])[None]
    if name == "vjepa2_l":
        values = of_transformers.VJEPA2[name] | {"pred_num_hidden_layers": 1}
        library = transformers.VJEPA2Model(transformers.VJEPA2Config(**values)).eval()
        library.encoder.load_state_dict(backbone.module.network.state_dict())
        expected = library.get_vision_features(pixels).mean(dim=1)
    else:
        config = transformers.VideoMAEConfig(**of_transformers.VIDEOMAE[name])
        with seeded():
            library = transformers.VideoMAEForVideoClassification(config).eval()
        expected = library.fc_norm(library.videomae(pixels).last_hidden_state.mean(dim=1))
    levels = frames.transpose(0, 1)[None]
    assert_alike(backbone.features(levels), expected, backbone)
    assert_close_in_bf16(name, levels, expected)


class PlainViT(nn.Module):
    """VideoMAE V2's network as its paper and its published parameters have it: ViT-S over tubes of 2 x 16 x 16."""

    def __init__(self, depth: int, classes: int = 710, width: int = 384) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, width, (2, 16, 16), (2, 16, 16))})
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(width, eps=1e-6),
                    "attn": nn.ModuleDict({"qkv": nn.Linear(width, 3 * width, False), "proj": nn.Linear(width, width)}),
                    "norm2": nn.LayerNorm(width, eps=1e-6),
                    "mlp": nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)}),
                }
            )
            for _ in range(depth)
        )
        for block in self.blocks:
            block["attn"].register_parameter("q_bias", nn.Parameter(torch.randn(width)))
            block["attn"].register_parameter("v_bias", nn.Parameter(torch.randn(width)))
        self.fc_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.patch_embed["proj"](clips).flatten(2).transpose(1, 2)  # [B, N, D]
        _, count, width = x.shape
        places = torch.arange(count, dtype=torch.float64)[:, None]
        angles = places / 10000 ** (torch.arange(width) // 2 * 2 / width)
        angles[:, 0::2], angles[:, 1::2] = angles[:, 0::2].sin(), angles[:, 1::2].cos()
        x = x + angles.float()
        for block in self.blocks:
            attention, y = block["attn"], block["norm1"](x)
            bias = torch.cat([attention.q_bias, torch.zeros(width), attention.v_bias])
            query, key, value = (
                F.linear(y, attention["qkv"].weight, bias).view(-1, count, 3, 6, 64).permute(2, 0, 3, 1, 4)
            )
            shares = (query @ key.transpose(-1, -2) / math.sqrt(64)).softmax(dim=-1)
            x = x + attention["proj"]((shares @ value).transpose(1, 2).flatten(2))
            x = x + block["mlp"]["fc2"](F.gelu(block["mlp"]["fc1"](block["norm2"](x))))
        return self.fc_norm(x.mean(dim=1))


@torch.inference_mode()
def test_published_files_of_videomae_v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own names, one matrix for queries, keys and values, and half precision, in a wrapper."""
    shallow(monkeypatch)
    plain = PlainViT(depth=2).eval().half().float()
    torch.save({"module": {key: value.half() for key, value in plain.state_dict().items()}}, tmp_path / "rgb.pth")
    backbone = load_backbone("rgb", "videomae_v2_s", str(tmp_path), CPU)
    frames = frames_of(16, 224, 224).transpose(0, 1)[None]
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (backbone.network.mean, backbone.network.std))
    assert_alike(backbone.features(frames), plain((frames / 255 - mean) / std), backbone)
    torch.save(plain.state_dict() | {"other": torch.zeros(1)}, tmp_path / "rgb.pth")
    with pytest.raises(HrproError, match=r"not weights of videomae_v2_s: missing \[\], unexpected \['other'\]"):
        load_backbone("rgb", "videomae_v2_s", str(tmp_path), CPU)


def test_published_files_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of VideoMAE have its biases by an older name; those of V-JEPA 2 hold a predictor as well."""
    import transformers
    from safetensors.torch import save_file

    shallow(monkeypatch)
    config = transformers.VideoMAEConfig(**of_transformers.VIDEOMAE["videomae_b"])
    state = transformers.VideoMAEForVideoClassification(config).state_dict()
    old = {key.replace(".query.bias", ".q_bias").replace(".value.bias", ".v_bias"): state[key] for key in state}
    assert any(key.endswith("q_bias") for key in old)
    save_file(old, tmp_path / "rgb.safetensors")
    loaded = load_backbone("rgb", "videomae_b", str(tmp_path), CPU).module.network.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state if not key.startswith("classifier"))
    values = of_transformers.VJEPA2["vjepa2_l"] | {"pred_num_hidden_layers": 1}
    state = transformers.VJEPA2Model(transformers.VJEPA2Config(**values)).state_dict()
    assert any(key.startswith("predictor.") for key in state)
    save_file(state, tmp_path / "rgb.safetensors")
    loaded = load_backbone("rgb", "vjepa2_l", str(tmp_path), CPU).module.network.state_dict()
    assert all(torch.equal(loaded[key], state[f"encoder.{key}"]) for key in loaded)


def test_entries_are_those_that_torchvision_names() -> None:
    by_name = {entry.backbone: entry for entry in ENTRIES if entry.stream == "rgb"}
    assert set(by_name) == set(NETWORKS)
    for name in TORCHVISION:
        (published,) = (weights for weights in get_model_weights(name) if weights.url == by_name[name].url)
        assert f"-{by_name[name].sha256}.pth" in published.url
        facts, stated = TORCHVISION[name], published.meta["_docs"]
        assert f"`frame_rate={facts.rate:g}`" in stated
        assert f"`clip_len={facts.frames}`" in stated or name == "s3d"


def test_weights_of_torchvision_from_a_folder(tmp_path: Path) -> None:
    with seeded():
        network = get_model("r2plus1d_18", weights=None)
    torch.nn.init.ones_(network.stem[0].weight)
    torch.save(network.state_dict(), tmp_path / "r2plus1d_18-made.pth")
    backbone = load_backbone("r2plus1d_18", "r2plus1d_18", str(tmp_path), CPU)
    assert torch.equal(backbone.module.stem[0].weight, network.stem[0].weight)
    assert backbone.digest == "sha256:" + hashlib.sha256((tmp_path / "r2plus1d_18-made.pth").read_bytes()).hexdigest()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(HrproError, match=r"not installed: pip install 'hrpro-pipeline\[transformers\]'"):
        load_backbone("rgb", "videomae_v2_s", "random", CPU)


def test_libraries_load_only_for_their_networks() -> None:
    code = "import sys, hrpro_pipeline.extract.backbones; print({'transformers', 'torchvision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_clips_lie_around_the_middle_of_their_snippet() -> None:
    assert clip_ticks(None, None, 25, 16) == clip_ticks(16, None, 25, 16) == tuple(range(16))
    assert clip_ticks(16, 30, 25, 16) == tuple(range(16)), "a clock slower than the network gives neighboring frames"
    mvit = clip_ticks(16, 7.5, 30, 16)
    assert {later - earlier for earlier, later in zip(mvit, mvit[1:], strict=False)} == {4}
    assert abs((mvit[0] + mvit[-1]) / 2 - 7.5) <= 0.5
    at_25 = clip_ticks(16, 7.5, 25, 16)
    assert at_25[-1] - at_25[0] == 50, "15 steps of 1 / 7.5 s"


def test_names_of_networks() -> None:
    settings = ExtractSettings(backbones=("mvit_v2_s", "i3d", "mine.py:build"))
    assert settings.networks() == {"mvit_v2_s": "mvit_v2_s", "i3d": "i3d", "mine": "mine.py:build", "flow": "i3d"}
    assert ExtractSettings(streams=("rgb",), backbone="s3d").networks() == {"rgb": "s3d"}
    wrong: list[dict[str, Any]] = [
        *({"backbone": name} for name in ("mvit", "../mine.py:build", "mine.py", "mine.py:a.b")),
        {"backbones": ("s3d", "s3d")},
        {"backbones": ("rgb.py:build", "s3d")},
        {"backbones": ("flow.py:build", "s3d")},
    ]
    for values in wrong:
        with pytest.raises(ValidationError):
            ExtractSettings(**values)


def test_networks_that_cannot_be() -> None:
    for values, problem in (
        ({"module": 3}, "module is a int"),
        ({"width": 0}, "width is 0"),
        ({"frames": 2.5}, "frames is 2.5"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"side": True}, "side is True"),
        ({"mean": (0.5, 0.5)}, "mean is"),
        ({"std": 0}, "std is 0"),
    ):
        with pytest.raises(ValueError, match=problem):
            Network(**{"module": nn.Identity(), "width": 3} | values)
    backbone = Backbone(Network(nn.Flatten(), width=3), "")
    with pytest.raises(ValueError, match=r"gave features \[1, 96\], expected \[1, 3\]"):
        backbone.features(torch.zeros(1, 3, 2, 4, 4, dtype=torch.uint8))
