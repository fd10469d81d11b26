"""Stage 3: a small detector over a pyramid of time scales, which finds segments and their classes in one pass.

Each level halves the length of the one below it, so that short and long actions meet filters of about their size.
Every position says, for each class, how likely it lies in an action, and how far the action reaches to both sides.
The layout is that of anchor-free detectors (FCOS, Tian et al., ICCV 2019; ActionFormer, Zhang et al., ECCV 2022), with
convolutions over time in place of attention.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Probability of a class at the start of training: nearly all positions are background.
_FIRST_PROBABILITY = 0.01
_KERNEL = 5
_NUM_STEM_BLOCKS = 2
_NUM_HEAD_LAYERS = 2


@dataclass(frozen=True)
class LevelScores:
    """What one level says of a batch; L positions, each of `stride` snippets.

    Attributes:
        logits: of the classes, [B, C, L].
        reach: distances from a position's middle to the start and the end of its action, in strides, [B, 2, L].
        valid: positions inside the videos, bool [B, L].
    """

    logits: Tensor
    reach: Tensor
    valid: Tensor
    stride: int


class Block(nn.Module):
    """A convolution over time in each channel, then a small network in each position, added to the input [B, C, L].

    Args:
        halves: take the maximum of neighbors first, which halves the length.
    """

    def __init__(self, channels: int, dropout: float, halves: bool = False) -> None:
        super().__init__()
        self.halves = halves
        self.mix = nn.Conv1d(channels, channels, _KERNEL, padding=_KERNEL // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.reduce = nn.Linear(2 * channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.weight = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Values [B, C, L] and valid positions [B, 1, L] -> both for the block's own length."""
        if self.halves:
            lowest = torch.finfo(values.dtype).min
            values = F.max_pool1d(values.masked_fill(~valid, lowest), kernel_size=3, stride=2, padding=1)
            valid = valid[:, :, ::2]
            values = values.masked_fill(~valid, 0)
        mixed = self.norm(self.mix(values).transpose(1, 2))
        change = self.dropout(self.reduce(F.gelu(self.expand(mixed)))).transpose(1, 2)
        return (values + self.weight[:, None] * change).masked_fill(~valid, 0), valid


class Head(nn.Module):
    """Convolutions that all levels share, [B, C, L] -> [B, K, L]."""

    def __init__(self, channels: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(channels, channels, 3, padding=1) for _ in range(_NUM_HEAD_LAYERS))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(_NUM_HEAD_LAYERS))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Conv1d(channels, outputs, 3, padding=1)

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            values = F.relu(norm(layer(values).transpose(1, 2))).transpose(1, 2).masked_fill(~valid, 0)
        return self.output(self.dropout(values))


class PyramidModel(nn.Module):
    """Features of videos -> LevelScores of each level.

    Args:
        feature_dropout: share of the feature channels that a video loses in a training step.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        *,
        channels: int = 128,
        levels: int = 6,
        dropout: float = 0.1,
        feature_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.feature_dropout = feature_dropout
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("std", torch.ones(feature_dim))
        self.embed = nn.Conv1d(feature_dim, channels, 3, padding=1)
        self.norm = nn.LayerNorm(channels)
        self.stem = nn.ModuleList(Block(channels, dropout) for _ in range(_NUM_STEM_BLOCKS))
        self.levels = nn.ModuleList(Block(channels, dropout, halves=True) for _ in range(levels - 1))
        self.classify = Head(channels, num_classes, dropout)
        self.regress = Head(channels, 2, dropout)
        self.scale = nn.Parameter(torch.ones(levels))
        assert self.classify.output.bias is not None
        nn.init.constant_(self.classify.output.bias, -math.log((1 - _FIRST_PROBABILITY) / _FIRST_PROBABILITY))

    @property
    def num_levels(self) -> int:
        return len(self.levels) + 1

    def forward(self, features: Tensor, valid: Tensor) -> list[LevelScores]:
        """Score padded videos.

        Args:
            features: [B, T, D]; T is a multiple of the last level's stride (see `pad`).
            valid: snippets of the videos, bool [B, T].
        """
        valid = valid[:, None]
        values = ((features - self.mean) / self.std).transpose(1, 2)
        values = F.dropout1d(values, self.feature_dropout, self.training).masked_fill(~valid, 0)
        values = F.relu(self.norm(self.embed(values).transpose(1, 2))).transpose(1, 2).masked_fill(~valid, 0)
        for block in self.stem:
            values, valid = block(values, valid)
        scores = [self._scores(values, valid, 0)]
        for level, block in enumerate(self.levels, start=1):
            values, valid = block(values, valid)
            scores.append(self._scores(values, valid, level))
        return scores

    def _scores(self, values: Tensor, valid: Tensor, level: int) -> LevelScores:
        reach = F.softplus(self.regress(values, valid).float() * self.scale[level])
        return LevelScores(self.classify(values, valid).float(), reach, valid[:, 0], 2**level)


def pad(videos: Sequence[Tensor], num_levels: int) -> tuple[Tensor, Tensor]:
    """Videos [T_i, D] -> features [B, T, D] and valid snippets [B, T], T a multiple of the last level's stride."""
    multiple = 2 ** (num_levels - 1)
    length = -(-max(len(video) for video in videos) // multiple) * multiple
    features = videos[0].new_zeros(len(videos), length, videos[0].shape[1])
    valid = torch.zeros(len(videos), length, dtype=torch.bool, device=features.device)
    for row, video in enumerate(videos):
        features[row, : len(video)] = video
        valid[row, : len(video)] = True
    return features, valid


@torch.inference_mode()
def segments_of(model: PyramidModel, features: Tensor, lowest: float, most: int) -> Tensor:
    """The segments that a model in eval mode sees in one video.

    Args:
        features: [T, D].
        lowest: probability of a segment at least.
        most: segments at most; the best ones are taken.

    Returns:
        [M, 4] rows of start, end, class, probability on the snippet axis.
    """
    rows = []
    for scores in model(*pad([features], model.num_levels)):
        probability = torch.sigmoid(scores.logits[0]).masked_fill(~scores.valid[0], 0)  # [C, L]
        label, position = torch.nonzero(probability >= lowest, as_tuple=True)
        reach = scores.reach[0, :, position] * scores.stride  # [2, M]
        middle = (position + 0.5) * scores.stride
        start = (middle - reach[0]).clamp(0, len(features))
        end = (middle + reach[1]).clamp(0, len(features))
        rows.append(torch.stack([start, end, label.to(start.dtype), probability[label, position]], dim=1))
    joined = torch.cat(rows)
    return joined[joined[:, 3].topk(min(most, len(joined))).indices]
