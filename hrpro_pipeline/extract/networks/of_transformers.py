"""Vision transformers of the library `transformers`, an extra: VideoMAE, VideoMAE V2 and V-JEPA 2."""

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.networks.network import Network
from hrpro_pipeline.extract.networks.states import fill, seeded
from hrpro_pipeline.extract.weights import Weights

# Of ViT-S, where they differ from the library's own values, which are those of ViT-B.
_SMALL = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
_V2 = {"num_labels": 710, "layer_norm_eps": 1e-6}
VIDEOMAE: dict[str, dict[str, Any]] = {
    "videomae_b": {"num_labels": 400},
    "videomae_v2_s": _V2 | _SMALL,
    "videomae_v2_b": _V2,
}
# The library's own values are those of ViT-L.
VJEPA2: dict[str, dict[str, Any]] = {"vjepa2_l": {"frames_per_clip": 16}}

# Parameters of VideoMAE V2's code in the words of the library.
_V2_NAMES = (
    (r"^patch_embed\.proj\.", "videomae.embeddings.patch_embeddings.projection."),
    (r"^blocks\.", "videomae.encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.q_bias$", ".attention.attention.query.bias"),
    (r"\.attn\.v_bias$", ".attention.attention.value.bias"),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"^head\.", "classifier."),
)


def videomae_network(name: str, weights: Weights) -> Network:
    """VideoMAE, or a distilled VideoMAE V2: the tokens averaged and normalized, as its classifier sees them.

    Raises:
        HrproError: the library is not installed.
        ValueError: weights of another network.
    """
    library = _library()
    config = library.VideoMAEConfig(attn_implementation="sdpa", **VIDEOMAE[name])
    with seeded():
        network = library.VideoMAEForVideoClassification(config)
    if name.startswith("videomae_v2"):
        network.fc_norm.eps = config.layer_norm_eps
    if weights.state is not None:
        state = _of_v2(weights.state) if any(key.startswith("blocks.") for key in weights.state) else weights.state
        fill(network, _renamed_biases(state, network.state_dict()), name)
    network.classifier = nn.Identity()
    # VideoMAE V2's authors take neighboring frames for this task; VideoMAE is trained on every fourth of 30 a second.
    rate = None if name.startswith("videomae_v2") else 7.5
    return Network(_Classified(network), config.hidden_size, config.num_frames, rate, config.image_size)


def vjepa2_network(name: str, weights: Weights) -> Network:
    """The encoder of V-JEPA 2, its tokens averaged.

    Clips are those of the authors' probes on Kinetics-400: 16 frames, every fourth of 30 a second.

    Raises:
        HrproError: the library is not installed.
        ValueError: weights of another network.
    """
    library = _library()
    config = library.VJEPA2Config(attn_implementation="sdpa", **VJEPA2[name])
    with seeded():
        network = library.VJEPA2Model(config)
    encoder = network.encoder
    if weights.state is not None:
        # The predictor, by which it was trained, is not needed.
        prefix = "encoder."
        state = {key.removeprefix(prefix): value for key, value in weights.state.items() if key.startswith(prefix)}
        fill(encoder, state, name)
    return Network(_Averaged(encoder), config.hidden_size, config.frames_per_clip, 7.5, config.crop_size)


class _Classified(nn.Module):
    """A classifier of the library whose last layer is the identity: clips [B, 3, t, H, W] -> [B, D]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.network(clips.transpose(1, 2)).logits
        return logits


class _Averaged(nn.Module):
    """An encoder of the library: clips [B, 3, t, H, W] -> the mean of its tokens [B, D]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        tokens: Tensor = self.network(clips.transpose(1, 2)).last_hidden_state  # [B, N, D]
        return tokens.mean(dim=1)


def _library() -> ModuleType:
    try:
        import transformers  # slow to import
    except ImportError:
        raise HrproError(
            "this network is one of the library transformers, which is not installed: "
            "pip install 'hrpro-pipeline[transformers]'"
        ) from None
    return transformers


def _of_v2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of VideoMAE V2's own code by the library's names; one matrix of three is taken apart."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(".attn.qkv.weight"):
            prefix = key.replace("blocks.", "videomae.encoder.layer.").removesuffix("attn.qkv.weight")
            for part, matrix in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[f"{prefix}attention.attention.{part}.weight"] = matrix
            continue
        for pattern, replacement in _V2_NAMES:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _renamed_biases(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters as the installed version calls them: `q_bias` became `query.bias`, `v_bias` became `value.bias`."""
    renamed = {}
    for key, value in state.items():
        for old, new in ((".q_bias", ".query.bias"), (".v_bias", ".value.bias")):
            for one, other in ((old, new), (new, old)):
                if key not in expected and key.endswith(one):
                    key = key.removesuffix(one) + other
        renamed[key] = value
    return renamed
