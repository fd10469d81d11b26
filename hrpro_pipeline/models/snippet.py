"""Stage 1: the snippet model with its reliability-aware attention block and prototype memory (paper, Eq. 2-6).

Videos of any length are packed: the N snippets of all videos of a batch one after the other, [N, D], with the lengths
of the videos. Nothing is padded, and no video sees another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Packing:
    """Places of the videos in packed snippets; the tensors are on the device of the snippets.

    Attributes:
        lengths: snippets of each video, [B], on the host.
        video: index of each snippet's video, [N].
        first, last: index of each video's first and last snippet, [B].
        count: `lengths` as a tensor, [B].
    """

    lengths: tuple[int, ...]
    video: Tensor
    first: Tensor
    last: Tensor
    count: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Packing":
        """Packing of videos of these lengths; copied to the device at once, and nothing waits for the copy."""
        count = np.asarray(lengths, np.int64)
        last = np.cumsum(count) - 1
        video = np.repeat(np.arange(len(count)), count)
        joined = torch.from_numpy(np.concatenate([video, last - count + 1, last, count]))
        if device.type == "cuda":
            joined = joined.pin_memory()
        sizes = [len(video), len(count), len(count), len(count)]
        return cls(tuple(count.tolist()), *joined.to(device, non_blocking=True).split(sizes))

    def __len__(self) -> int:
        return len(self.lengths)


class SnippetScores(NamedTuple):
    """Scores and embedding of packed snippets.

    Attributes:
        class_scores: S, [N, C].
        background: b, [N]; the class-agnostic attention A of the paper is 1 - b.
        fused: P = S (1 - b), [N, C].
        embedding: [N, D], in the space of the prototypes.
    """

    class_scores: Tensor
    background: Tensor
    fused: Tensor
    embedding: Tensor


class Dropout(nn.Dropout):
    """`nn.Dropout` by the function `dropout`."""

    def forward(self, values: Tensor) -> Tensor:
        return dropout(values, self.p) if self.training else values


def dropout(values: Tensor, probability: float) -> Tensor:
    """Zero elements with a probability and scale the others up, as `F.dropout(values, probability)`.

    On the CPU, 16 random bits an element are drawn: torch's own takes longer there than a layer's products. The
    probability is rounded to a multiple of 2^-16.
    """
    if values.device.type != "cpu" or probability == 0:
        return F.dropout(values, probability)
    count = values.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    draws = words.view(torch.int16)[:count].view(values.shape)
    mask = draws >= min(round(probability * 2**16), 2**16 - 1) - 2**15
    return values * mask.to(values.dtype).mul_(1 / (1 - probability))


class AttentionLayer(nn.Module):
    """One layer of the reliability-aware attention block, packed tokens [L, D] -> [L, D].

    Query and key each pass another projection before multi-head attention, the value does not. Normalization follows
    the residual sums. As in the published code, ReLU instead of the paper's GELU.
    """

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        # Only its parameters are used: its forward does not take packed sequences.
        self.attention = nn.MultiheadAttention(dim, heads, dropout=attention_dropout, batch_first=True)
        self.expand = nn.Linear(dim, feedforward)
        self.contract = nn.Linear(feedforward, dim)
        self.norm_attention = nn.LayerNorm(dim)
        self.norm_feedforward = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        tokens = self.norm_attention(tokens + self.dropout(self._attend(tokens, lengths)))
        expanded = self.dropout(F.relu(self.expand(tokens)))
        return self.norm_feedforward(tokens + self.dropout(self.contract(expanded)))

    def _attend(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """Self-attention within each video; `lengths` count its tokens."""
        heads = self.attention.num_heads
        probability = self.attention.dropout if self.training else 0.0
        projected = self._project(tokens).unflatten(1, (3, heads, -1))  # [L, 3, H, D / H]
        attended = []
        for video in projected.split(list(lengths)):
            query, key, value = video.permute(1, 2, 0, 3)  # [H, L, D / H]
            attended.append(attend(query, key, value, probability).transpose(0, 1).flatten(1))
        return self.attention.out_proj(torch.cat(attended))

    def _project(self, tokens: Tensor) -> Tensor:
        """Query, key and value side by side, [L, 3 D]."""
        weight, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        first, second, third = weight.chunk(3)
        if len(tokens) > len(first):
            # Two linear maps in a row are one, which is cheaper to multiply out if there are more tokens than channels.
            merged = torch.cat([first @ self.query.weight, second @ self.key.weight, third])
            shifts = [first @ self.query.bias, second @ self.key.bias, bias.new_zeros(len(third))]
            return F.linear(tokens, merged, bias + torch.cat(shifts))
        parts = zip((self.query(tokens), self.key(tokens), tokens), weight.chunk(3), bias.chunk(3), strict=True)
        return torch.cat([F.linear(*part) for part in parts], dim=1)


def attend(query: Tensor, key: Tensor, value: Tensor, dropout_probability: float) -> Tensor:
    """Softmax attention, [H, L, K] each -> [H, L, K], with dropout on the weights."""
    if query.device.type != "cpu" or dropout_probability == 0:
        batch = F.scaled_dot_product_attention(query[None], key[None], value[None], dropout_p=dropout_probability)
        return batch[0]
    # On the CPU, torch has no fused kernel with dropout, and its dropout takes longer than the products.
    weights = torch.softmax((query * query.shape[-1] ** -0.5) @ key.transpose(1, 2), dim=-1)
    return dropout(weights, dropout_probability) @ value


class SnippetModel(nn.Module):
    """Packed features [N, D] of videos -> SnippetScores.

    The C prototypes are a buffer [C, D]: not trained by gradients, but updated by `losses.moving_prototypes`.
    The prototype of a class without points stays zero.

    Args:
        scrambled_prototypes: re-view the [C, D] memory as [D, C] instead of transposing it before its columns join
            the tokens, as the published code does: attention then sees C interleaved mixtures of all prototypes.
    """

    prototypes: Tensor

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        *,
        attention_layers: int = 2,
        heads: int = 8,
        feedforward: int = 128,
        dropout: float = 0.3,
        attention_dropout: float = 0.1,
        classifier_dropout: float = 0.7,
        scrambled_prototypes: bool = True,
    ) -> None:
        super().__init__()
        if feature_dim % heads:
            raise ValueError(f"feature width {feature_dim} is not divisible by {heads} attention heads")
        self.scrambled_prototypes = scrambled_prototypes
        self.layers = nn.ModuleList(
            AttentionLayer(feature_dim, heads, feedforward, dropout, attention_dropout) for _ in range(attention_layers)
        )
        self.embed = nn.Conv1d(feature_dim, feature_dim, kernel_size=3, padding=1)
        self.dropout = Dropout(classifier_dropout)
        self.classify = nn.Linear(feature_dim, num_classes + 1, bias=False)
        # The published initialization: that of a 1x1 convolution, which is a linear layer's.
        self.register_buffer("prototypes", torch.zeros(num_classes, feature_dim))

    def forward(self, features: Tensor, packing: Packing) -> SnippetScores:
        embedding = F.relu(self._embed(self._attended(features, packing.lengths), packing))  # [N, D]
        scores = torch.sigmoid(self.classify(self.dropout(embedding)).float())  # [N, C + 1]
        class_scores, background = scores[:, :-1], scores[:, -1]
        return SnippetScores(class_scores, background, class_scores * (1 - background[:, None]), embedding.float())

    def _attended(self, features: Tensor, lengths: Sequence[int]) -> Tensor:
        """Snippets [N, D] after the attention block, where the prototypes join the snippets of each video."""
        if not len(self.layers):
            return features
        num_classes, dim = self.prototypes.shape
        memory = self.prototypes.reshape(dim, num_classes).T if self.scrambled_prototypes else self.prototypes
        videos = features.split(list(lengths))
        tokens = torch.cat([part for video in videos for part in (video, memory)])  # [N + B C, D]
        token_counts = [length + num_classes for length in lengths]
        for layer in self.layers:
            tokens = layer(tokens, token_counts)
        return torch.cat([video[:-num_classes] for video in tokens.split(token_counts)])

    def _embed(self, snippets: Tensor, packing: Packing) -> Tensor:
        """The convolution over time as one product: each snippet beside its neighbors, zeros past a video's ends."""
        before = snippets.roll(1, 0).index_fill(0, packing.first, 0)
        after = snippets.roll(-1, 0).index_fill(0, packing.last, 0)
        weight = self.embed.weight.permute(0, 2, 1).flatten(1)  # [D, 3 D]
        return F.linear(torch.cat([before, snippets, after], dim=1), weight, self.embed.bias)


def video_scores(class_scores: Tensor, lengths: Sequence[int], divisor: int, present: Tensor | None = None) -> Tensor:
    """Class scores of whole videos: the mean of the top max(1, T // divisor) snippets.

    Args:
        class_scores: S of packed videos, [N, C].
        divisor: 8 in the published code.
        present: [B, C] of 0 and 1, when the labels are known: absent classes then get their plain mean.

    Returns:
        [B, C].
    """
    counts = [max(1, length // divisor) for length in lengths]
    top = [
        video.topk(count, dim=0).values.mean(dim=0)
        for video, count in zip(class_scores.split(list(lengths)), counts, strict=True)
    ]
    if present is None:
        return torch.stack(top)
    plain = torch.stack([video.mean(dim=0) for video in class_scores.split(list(lengths))])
    return torch.where(present > 0, torch.stack(top), plain)


def prototype_similarity(prototypes: Tensor) -> np.ndarray:
    """Cosines of prototypes [C, D] with each other, [C, C]; 0 for a class that has no prototype yet."""
    directions = F.normalize(prototypes.detach(), dim=1)
    return (directions @ directions.T).cpu().numpy()
