"""Stage 1: the snippet model with its reliability-aware attention block and prototype memory (paper, Eq. 2-6)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SnippetScores(NamedTuple):
    """What the snippet model says of a video.

    Attributes:
        class_scores: S, [B, T, C].
        background: b, [B, T]; the class-agnostic attention A of the paper is 1 - b.
        fused: P = S (1 - b), [B, T, C].
        embedding: [B, T, D], the features that prototypes live among.
    """

    class_scores: Tensor
    background: Tensor
    fused: Tensor
    embedding: Tensor


class AttentionLayer(nn.Module):
    """One layer of the reliability-aware attention block, [B, L, D] -> [B, L, D]; no token attends to `padding`.

    Query and key pass a projection of their own before multi-head attention, the value does not; residuals are
    normalised afterwards; ReLU, where the paper says GELU.
    """

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.attention = nn.MultiheadAttention(dim, heads, dropout=attention_dropout, batch_first=True)
        self.expand = nn.Linear(dim, feedforward)
        self.contract = nn.Linear(feedforward, dim)
        self.norm_attention = nn.LayerNorm(dim)
        self.norm_feedforward = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        attended, _ = self.attention(
            self.query(tokens), self.key(tokens), tokens, key_padding_mask=padding, need_weights=False
        )
        tokens = self.norm_attention(tokens + self.dropout(attended))
        expanded = self.dropout(F.relu(self.expand(tokens)))
        return self.norm_feedforward(tokens + self.dropout(self.contract(expanded)))


class SnippetModel(nn.Module):
    """Features [B, T, D] of videos -> SnippetScores.

    Videos of different lengths [B] are padded to the longest; what a video's own snippets get does not depend on that.

    The C prototypes are a buffer [C, D]: not trained by gradients, but kept by `losses.update_prototypes`.
    A class that never had a point keeps a prototype of zeros.

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
        self.dropout = nn.Dropout(classifier_dropout)
        self.classify = nn.Linear(feature_dim, num_classes + 1, bias=False)
        # The published initialisation: that of a 1x1 convolution, which is a linear layer's.
        self.register_buffer("prototypes", torch.zeros(num_classes, feature_dim))

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> SnippetScores:
        num_snippets = features.shape[1]
        num_classes, dim = self.prototypes.shape
        memory = self.prototypes.reshape(dim, num_classes).T if self.scrambled_prototypes else self.prototypes
        tokens = torch.cat([features, memory.expand(len(features), -1, -1)], dim=1)  # [B, T + C, D]
        padding = beyond = None
        if lengths is not None:
            beyond = torch.arange(num_snippets, device=features.device) >= lengths[:, None]  # [B, T]
            padding = nn.functional.pad(beyond, (0, num_classes), value=False)
        for layer in self.layers:
            tokens = layer(tokens, padding)
        snippets = tokens[:, :num_snippets]
        if beyond is not None:  # the convolution must see zeros after a video's end
            snippets = snippets.masked_fill(beyond.unsqueeze(-1), 0)
        embedding = F.relu(self.embed(snippets.transpose(1, 2))).transpose(1, 2)  # [B, T, D]
        scores = torch.sigmoid(self.classify(self.dropout(embedding)))  # [B, T, C + 1]
        class_scores, background = scores[..., :-1], scores[..., -1]
        return SnippetScores(class_scores, background, class_scores * (1 - background.unsqueeze(-1)), embedding)


def video_scores(class_scores: Tensor, divisor: int, present: Tensor | None = None) -> Tensor:
    """Class scores of whole videos: the mean of the top max(1, T // divisor) snippets.

    Args:
        class_scores: S, [B, T, C].
        divisor: 8 in the published code.
        present: [B, C] of 0 and 1, when the labels are known: absent classes then get their plain mean.

    Returns:
        [B, C].
    """
    count = max(1, class_scores.shape[1] // divisor)
    top = class_scores.topk(count, dim=1).values.mean(dim=1)
    if present is None:
        return top
    return torch.where(present > 0, top, class_scores.mean(dim=1))
