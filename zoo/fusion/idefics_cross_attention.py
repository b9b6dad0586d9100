"""Gated cross-attention as IDEFICS has it: the language model's own head layout, RMSNorm and gated MLP."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from zoo.errors import ZooError, nearest
from zoo.fusion.base import FusionConfig
from zoo.fusion.gated import ATTEND_RULES, GatedFusion, Routing, decoder_layers, places_every

if TYPE_CHECKING:
    from zoo.language import LanguageModel

GATE_SHAPES = ("float", "vector")


@dataclass(frozen=True, kw_only=True)
class IdeficsCrossAttention(FusionConfig):
    """Blocks in front of the decoder layers 0, ``every``, 2 ``every``, ...; heads and MLP are the language model's.

    Args:
        every: decoder layers for each block.
        qk_norm: RMSNorm on each head's queries and keys.
        gate_shape: ``float``: one number a gate; ``vector``: one for each feature.
        gate: initial value of the gates; at 0 the model begins as the plain language model.
        attend: see ``GatedCrossAttention``.
    """

    kind: str = "idefics_cross_attention"
    every: int = 4
    qk_norm: bool = True
    gate_shape: str = "float"
    gate: float = 0.0
    attend: str = "immediate"

    def __post_init__(self) -> None:
        for name, value, known in (("gate_shape", self.gate_shape, GATE_SHAPES), ("attend", self.attend, ATTEND_RULES)):
            if value not in known:
                raise ZooError(f"unknown fusion.{name} {value!r}.{nearest(value, known)}")

    def media_dim(self, *, dim_features: int, dim_model: int) -> int:
        return dim_features

    def build(self, *, dim_media: int, language_model: "LanguageModel") -> GatedFusion:
        places = places_every(self.every, len(decoder_layers(language_model)), first=0)
        architecture = language_model.model.config
        if missing := [name for name in ("intermediate_size", "rms_norm_eps") if not hasattr(architecture, name)]:
            raise ZooError(
                f"fusion idefics_cross_attention: {architecture.model_type} has no {missing[0]}; choose a language "
                "model with RMSNorm and gated MLP (llama, mistral, qwen2)"
            )
        blocks = [
            IdeficsBlock(
                language_model.dim,
                dim_media,
                self,
                num_heads=architecture.num_attention_heads,
                dim_hidden=architecture.intermediate_size,
                activation=architecture.hidden_act,
                eps=architecture.rms_norm_eps,
            )
            for _ in places
        ]
        return GatedFusion(blocks, places, language_model, self.attend)


class IdeficsBlock(nn.Module):
    """x + tanh(attention_gate) attention(norm(x), media), then + tanh(mlp_gate) MLP(norm) of that.

    Source: transformers, models/idefics/modeling_idefics.py, IdeficsGatedCrossAttentionLayer.
    """

    def __init__(
        self,
        dim: int,
        dim_media: int,
        config: IdeficsCrossAttention,
        *,
        num_heads: int,
        dim_hidden: int,
        activation: str,
        eps: float,
    ) -> None:
        super().__init__()
        shape = (1,) if config.gate_shape == "float" else (1, 1, dim)
        self.attention_norm = nn.RMSNorm(dim, eps=eps)
        self.attention = HeadwiseMediaAttention(dim, dim_media, num_heads, eps if config.qk_norm else None)
        self.attention_gate = nn.Parameter(torch.full(shape, config.gate))
        self.mlp_norm = nn.RMSNorm(dim, eps=eps)
        self.mlp = GatedMLP(dim, dim_hidden, activation)
        self.mlp_gate = nn.Parameter(torch.full(shape, config.gate))

    def forward(self, hidden: Tensor, media: Tensor | None, is_token: Tensor | None, routing: Routing) -> Tensor:
        """hidden (rows, length, dim), media (media, tokens, dim_media) -> (rows, length, dim)."""
        read = self.attention(self.attention_norm(hidden), media, is_token, routing)
        hidden = hidden + self.attention_gate.tanh() * read
        return hidden + self.mlp_gate.tanh() * self.mlp(self.mlp_norm(hidden))


class HeadwiseMediaAttention(nn.Module):
    """Cross-attention of the language model's width. Positions without a medium get zeros. No biases."""

    def __init__(self, dim: int, dim_media: int, num_heads: int, norm_eps: float | None) -> None:
        super().__init__()
        self.heads = (num_heads, dim // num_heads)
        self.dim_media = dim_media
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim_media, dim, bias=False)
        self.value = nn.Linear(dim_media, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.query_norm, self.key_norm = (
            nn.Identity() if norm_eps is None else nn.RMSNorm(self.heads[1], eps=norm_eps) for _ in range(2)
        )

    def forward(self, hidden: Tensor, media: Tensor | None, is_token: Tensor | None, routing: Routing) -> Tensor:
        # Without media the same modules run on nothing: data-parallel training waits for a gradient of each.
        media = hidden.new_zeros(0, 1, self.dim_media) if media is None else media.to(hidden.dtype)
        query = self.query(hidden.flatten(0, 1)[routing.positions]).unflatten(-1, self.heads)
        key, value = (layer(media).unflatten(-1, self.heads) for layer in (self.key, self.value))
        read = self.output(routing.attend(self.query_norm(query), self.key_norm(key), value, is_token).flatten(1))
        return routing.put_back(read, hidden)


class GatedMLP(nn.Module):
    """down(activation(gate x) up x), without biases."""

    def __init__(self, dim: int, dim_hidden: int, activation: str) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, dim_hidden, bias=False)
        self.up = nn.Linear(dim, dim_hidden, bias=False)
        self.down = nn.Linear(dim_hidden, dim, bias=False)
        self.activation = ACT2FN[activation]

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down(self.activation(self.gate(hidden)) * self.up(hidden))
