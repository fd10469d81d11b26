"""Stage 1: the snippet model with its reliability-aware attention block and prototype memory (paper, Eq. 2-6).

Videos of any length are packed: the N snippets of all videos of a batch one after the other, [N, D], with the lengths
of the videos. Nothing is padded, and no video sees another.
"""

import math
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

    def forward(
        self, tokens: Tensor, lengths: Sequence[int], asked: Sequence[Tensor | slice] | None = None, repeats: int = 1
    ) -> Tensor:
        """Attention within each video, at all of its tokens or at some.

        Args:
            tokens: [L, D]; `lengths` count those of each video.
            asked: indices, by video, of the tokens whose output is asked for; by default all.
            repeats: how many equal tokens the last one of each video stands for.

        Returns:
            [L, D], or a row for each token that is asked for.
        """
        at, at_lengths = tokens, list(lengths)
        if asked is not None:
            parts = [video[some] for video, some in zip(tokens.split(at_lengths), asked, strict=True)]
            at, at_lengths = torch.cat(parts), [len(part) for part in parts]
        attended = self._attend(at, at_lengths, tokens, list(lengths), repeats)
        tokens = self.norm_attention(at + self.dropout(attended))
        expanded = self.dropout(F.relu(self.expand(tokens)))
        return self.norm_feedforward(tokens + self.dropout(self.contract(expanded)))

    def _attend(
        self, at: Tensor, at_lengths: Sequence[int], tokens: Tensor, lengths: Sequence[int], repeats: int
    ) -> Tensor:
        """Attention of the tokens `at` [A, D] to all tokens [L, D] of their video -> [A, D]."""
        heads = self.attention.num_heads
        probability = self.attention.dropout if self.training else 0.0
        if at is tokens:
            query, *others = self._project(tokens, 0, 3)
        else:
            query, *others = *self._project(at, 0, 1), *self._project(tokens, 1, 3)
        attended = []
        for video in zip(query.split(at_lengths), *(other.split(lengths) for other in others), strict=True):
            first, second, third = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in video)  # [H, L, D / H]
            attended.append(attend(first, second, third, probability, repeats).transpose(0, 1).flatten(1))
        return self.attention.out_proj(torch.cat(attended))

    def _project(self, tokens: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        """From `first` to before `last` of query, key and value, [L, D] each."""
        weights = self.attention.in_proj_weight.chunk(3)[first:last]
        biases = self.attention.in_proj_bias.chunk(3)[first:last]
        maps = (self.query, self.key, None)[first:last]
        if len(tokens) > tokens.shape[1]:
            # Two linear maps in a row are one, which is cheaper to multiply out if there are more tokens than channels.
            pairs = list(zip(weights, biases, maps, strict=True))
            merged = torch.cat([weight if before is None else weight @ before.weight for weight, _, before in pairs])
            shifts = torch.cat(
                [bias if before is None else weight @ before.bias + bias for weight, bias, before in pairs]
            )
            return F.linear(tokens, merged, shifts).chunk(last - first, dim=1)
        inputs = [tokens if before is None else before(tokens) for before in maps]
        return tuple(F.linear(*part) for part in zip(inputs, weights, biases, strict=True))


def attend(query: Tensor, key: Tensor, value: Tensor, dropout_probability: float, repeats: int = 1) -> Tensor:
    """Softmax attention, [H, A, K], [H, L, K] twice -> [H, A, K], with dropout on the weights.

    Args:
        repeats: how many equal keys the last one stands for.
    """
    bias = None
    if repeats > 1:
        bias = F.pad(query.new_zeros(1, key.shape[1] - 1), (0, 1), value=math.log(repeats))
    if query.device.type != "cpu" or dropout_probability == 0:
        batch = query[None], key[None], value[None]
        return F.scaled_dot_product_attention(*batch, attn_mask=bias, dropout_p=dropout_probability)[0]
    # On the CPU, torch has no fused kernel with dropout, and its dropout takes longer than the products.
    products = (query * query.shape[-1] ** -0.5) @ key.transpose(1, 2)
    weights = torch.softmax(products if bias is None else products + bias, dim=-1)
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

    def embedding_at(self, features: Tensor, packing: Packing, rows: Tensor) -> Tensor:
        """The embedding of some snippets, as `forward` gives it in evaluation, with what they depend on alone.

        Of the last layer and the convolution that is these snippets and their neighbors. While no class has a
        prototype, the C tokens of the memory are equal, and stay so from layer to layer: one counts C times.

        Args:
            rows: [K], indices of the snippets in the packing, ascending.

        Returns:
            [K, D].
        """
        video = packing.video[rows]
        first, last = packing.first[video, None], packing.last[video, None]
        beside = rows[:, None] + torch.arange(-1, 2, device=rows.device)  # [K, 3]
        outside = (beside < first) | (beside > last)
        beside = beside.clamp(first, last)
        if len(self.layers):
            counts = torch.bincount(video, minlength=len(packing))
            asked = (beside - first).flatten().split((3 * counts).tolist())
            snippets = self._attended(features, packing.lengths, asked).unflatten(0, beside.shape)
        else:
            snippets = features[beside]
        return F.relu(self._convolve(snippets.masked_fill(outside[..., None], 0).flatten(1))).float()

    def _attended(self, features: Tensor, lengths: Sequence[int], asked: Sequence[Tensor] | None = None) -> Tensor:
        """Snippets after the attention block, where the prototypes join those of each video: all [N, D], or some."""
        if not len(self.layers):
            return features
        num_classes, dim = self.prototypes.shape
        memory = self.prototypes.reshape(dim, num_classes).T if self.scrambled_prototypes else self.prototypes
        repeats = 1
        if asked is not None and not bool(self.prototypes.any()):
            memory, repeats = memory[:1], num_classes
        videos = features.split(list(lengths))
        tokens = torch.cat([part for video in videos for part in (video, memory)])  # [N + B C, D]
        counts = [length + len(memory) for length in lengths]
        for layer in self.layers[:-1]:
            tokens = layer(tokens, counts, repeats=repeats)
        # What the last layer makes of the memory is not used.
        return self.layers[-1](tokens, counts, asked or [slice(length) for length in lengths], repeats)

    def _embed(self, snippets: Tensor, packing: Packing) -> Tensor:
        """The convolution over time: each snippet beside its neighbors, zeros past a video's ends."""
        before = snippets.roll(1, 0).index_fill(0, packing.first, 0)
        after = snippets.roll(-1, 0).index_fill(0, packing.last, 0)
        return self._convolve(torch.cat([before, snippets, after], dim=1))

    def _convolve(self, beside: Tensor) -> Tensor:
        """The convolution as one product, of snippets beside their neighbors, [N, 3 D] -> [N, D]."""
        weight = self.embed.weight.permute(0, 2, 1).flatten(1)  # [D, 3 D]
        return F.linear(beside, weight, self.embed.bias)


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
