"""Gated cross-attention (Flamingo, section 3.1.2): text reads its newest image in front of every n-th decoder layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo.connectors.resampler import PreNormMLP
from zoo.errors import ZooError, nearest
from zoo.fusion.base import FusionConfig
from zoo.fusion.gated import ATTEND_RULES, GatedFusion, Routing, decoder_layers, places_every

if TYPE_CHECKING:
    from zoo.language import LanguageModel


@dataclass(frozen=True, kw_only=True)
class GatedCrossAttention(FusionConfig):
    """Blocks in front of the decoder layers ``every`` - 1, 2 ``every`` - 1, ... counted from 0.

    Args:
        every: decoder layers for each block.
        num_heads: attention heads of a block, whatever the language model has.
        head_dim: width of a head.
        mlp_ratio: width of a block's MLP over that of the language model.
        activation: of the MLP: gelu (OpenFlamingo), relu2 (Flamingo).
        attend: ``immediate``: a position reads the newest medium at or before it (OpenFlamingo v2); ``all_previous``:
            all of them; ``previous_or_next``: as immediate, but in training a sample reads, with probability 1/2, the
            medium that comes next (Flamingo, OpenFlamingo v1).
        gate: initial value of both gates of each block; at 0 the model begins as the plain language model.
    """

    kind: str = "gated_cross_attention"
    every: int = 4
    num_heads: int = 8
    head_dim: int = 64
    mlp_ratio: int = 4
    activation: str = "gelu"
    attend: str = "immediate"
    gate: float = 0.0

    def __post_init__(self) -> None:
        if self.attend not in ATTEND_RULES:
            raise ZooError(f"unknown fusion.attend {self.attend!r}.{nearest(self.attend, ATTEND_RULES)}")

    def media_dim(self, *, dim_features: int, dim_model: int) -> int:
        return dim_features

    def build(self, *, dim_media: int, language_model: "LanguageModel") -> GatedFusion:
        places = places_every(self.every, len(decoder_layers(language_model)), first=self.every - 1)
        blocks = [GatedBlock(language_model.dim, dim_media, self) for _ in places]
        return GatedFusion(blocks, places, language_model, self.attend)


class GatedBlock(nn.Module):
    """x + tanh(attention_gate) attention(x, media), then + tanh(mlp_gate) MLP of that.

    Source: open_flamingo/src/helpers.py, GatedCrossAttentionBlock.
    """

    def __init__(self, dim: int, dim_media: int, config: GatedCrossAttention) -> None:
        super().__init__()
        self.attention = MediaAttention(dim, dim_media, config.num_heads, config.head_dim)
        self.attention_gate = nn.Parameter(torch.full((1,), config.gate))
        self.mlp = PreNormMLP(dim, config.mlp_ratio * dim, config.activation)
        self.mlp_gate = nn.Parameter(torch.full((1,), config.gate))

    def forward(self, hidden: Tensor, media: Tensor | None, is_token: Tensor | None, routing: Routing) -> Tensor:
        """hidden (rows, length, dim), media (media, tokens, dim_media) -> (rows, length, dim)."""
        hidden = hidden + self.attention_gate.tanh() * self.attention(hidden, media, is_token, routing)
        return hidden + self.mlp_gate.tanh() * self.mlp(hidden)


class MediaAttention(nn.Module):
    """Cross-attention to media, which are not normalised. Positions without a medium get zeros. No biases."""

    def __init__(self, dim: int, dim_media: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = (num_heads, head_dim)
        self.dim_media = dim_media
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.key_value = nn.Linear(dim_media, 2 * num_heads * head_dim, bias=False)
        self.output = nn.Linear(num_heads * head_dim, dim, bias=False)

    def forward(self, hidden: Tensor, media: Tensor | None, is_token: Tensor | None, routing: Routing) -> Tensor:
        # Without media the same modules run on nothing: data-parallel training waits for a gradient of each.
        media = hidden.new_zeros(0, 1, self.dim_media) if media is None else media.to(hidden.dtype)
        query = self.query(self.norm(hidden.flatten(0, 1)[routing.positions]))  # (reading, heads * head_dim)
        key, value = self.key_value(media).unflatten(-1, (2, *self.heads)).unbind(2)
        read = routing.attend(query.unflatten(-1, self.heads), key, value, is_token)
        return routing.put_back(self.output(read.flatten(1)), hidden)
