"""Perceiver resampler: learned latents read all features of a medium, so that every medium becomes as many tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from zoo.attention import attend, split_heads
from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class Resampler(ConnectorConfig):
    """Flamingo's resampler (section 3.1.1) as OpenFlamingo writes it; its frames are read as one sequence.

    Args:
        num_latents: soft tokens of each medium, image or video.
        depth: number of layers, each attention of the latents to features and latents, then an MLP.
        num_heads: attention heads.
        head_dim: width of a head; heads times width need not be the width of the features.
        mlp_ratio: width of the MLP over that of the features.
        activation: of the MLP: gelu (OpenFlamingo), relu (IDEFICS), relu2 (Flamingo).
        qk_norm: LayerNorm on each head's queries and keys (IDEFICS).
        fused_key_value: keys and values come from one matrix (OpenFlamingo's checkpoints) or from two (IDEFICS').
        num_frame_embeddings: a learned vector is added to the features of each of so many frames (Otter's video
            models); 0 for none.
        project: a linear layer to the width asked for stands at the end even where the widths agree.
    """

    kind: str = "resampler"
    num_latents: int = 64
    depth: int = 6
    num_heads: int = 8
    head_dim: int = 64
    mlp_ratio: int = 4
    activation: str = "gelu"
    qk_norm: bool = False
    fused_key_value: bool = True
    num_frame_embeddings: int = 0
    project: bool = False

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "PerceiverResampler":
        return PerceiverResampler(dim_in, dim_out, self)


class PerceiverResampler(Connector):
    """Keeps the width of the features; ``projection`` is there only where ``dim_out`` differs or the config asks.

    Source: open_flamingo/src/helpers.py, PerceiverResampler; for ``qk_norm`` transformers' IdeficsPerceiverResampler.
    """

    def __init__(self, dim_in: int, dim_out: int, config: Resampler) -> None:
        super().__init__()
        self.dim_out = dim_out
        self.latents = nn.Parameter(torch.randn(config.num_latents, dim_in))
        self.frame_embeddings = (
            nn.Parameter(torch.randn(config.num_frame_embeddings, dim_in)) if config.num_frame_embeddings else None
        )
        self.layers = nn.ModuleList(ResamplerLayer(dim_in, config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim_in)
        self.projection = nn.Linear(dim_in, dim_out) if config.project or dim_out != dim_in else None

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        return [len(self.latents)] * len(num_frames)

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        media = features.tokens.split(list(context.num_frames))
        outputs: list[Tensor] = [features.tokens] * len(media)
        # Media of as many frames are resampled together: their features have one shape and need no mask.
        for num_frames in dict.fromkeys(context.num_frames):
            chosen = [index for index, frames in enumerate(context.num_frames) if frames == num_frames]
            for index, output in zip(chosen, self.resample(torch.stack([media[i] for i in chosen])), strict=True):
                outputs[index] = output
        return torch.cat(outputs) if outputs else features.tokens.new_zeros(0, self.dim_out)

    def resample(self, media: Tensor) -> Tensor:
        """media (media, frames, tokens, dim_in) -> (media, num_latents, dim_out)."""
        if self.frame_embeddings is not None:
            if media.shape[1] > len(self.frame_embeddings):
                raise ZooError(
                    f"a video of {media.shape[1]} frames for connector.num_frame_embeddings "
                    f"{len(self.frame_embeddings)}; sample fewer frames or raise it"
                )
            media = media + self.frame_embeddings[: media.shape[1], None]
        sequence = media.flatten(1, 2)  # (media, frames * tokens, dim_in)
        latents = self.latents.expand(len(media), -1, -1)
        for layer in self.layers:
            latents = layer(latents, sequence)
        latents = self.norm(latents)
        return latents if self.projection is None else self.projection(latents)


class ResamplerLayer(nn.Module):
    """Attention of the latents to features and latents, then an MLP, each added to the latents."""

    def __init__(self, dim: int, config: Resampler) -> None:
        super().__init__()
        self.attention = LatentAttention(dim, config)
        self.mlp = PreNormMLP(dim, config.mlp_ratio * dim, config.activation)

    def forward(self, latents: Tensor, media: Tensor) -> Tensor:
        latents = latents + self.attention(latents, media)
        return latents + self.mlp(latents)


class LatentAttention(nn.Module):
    """Queries from the latents; keys and values from the features and the latents behind them. No biases."""

    def __init__(self, dim: int, config: Resampler) -> None:
        super().__init__()
        inner = config.num_heads * config.head_dim
        self.num_heads = config.num_heads
        self.media_norm = nn.LayerNorm(dim)
        self.latent_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, inner, bias=False)
        self.fused = config.fused_key_value
        if self.fused:
            self.key_value = nn.Linear(dim, 2 * inner, bias=False)
        else:
            self.key = nn.Linear(dim, inner, bias=False)
            self.value = nn.Linear(dim, inner, bias=False)
        self.query_norm = nn.LayerNorm(config.head_dim) if config.qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(config.head_dim) if config.qk_norm else nn.Identity()
        self.output = nn.Linear(inner, dim, bias=False)

    def forward(self, latents: Tensor, media: Tensor) -> Tensor:
        """latents (media, latents, dim), media (media, features, dim) -> (media, latents, dim)."""
        latents = self.latent_norm(latents)
        sequence = torch.cat([self.media_norm(media), latents], dim=1)
        key, value = self.key_value(sequence).chunk(2, -1) if self.fused else (self.key(sequence), self.value(sequence))
        query, key, value = (split_heads(tensor, self.num_heads) for tensor in (self.query(latents), key, value))
        attended = attend(self.query_norm(query), self.key_norm(key), value)
        return self.output(attended.transpose(1, 2).flatten(2))


class PreNormMLP(nn.Module):
    """LayerNorm, Linear, activation, Linear; no biases in the linear layers."""

    def __init__(self, dim: int, dim_hidden: int, activation: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.input = nn.Linear(dim, dim_hidden, bias=False)
        self.activation = ACT2FN[activation]
        self.output = nn.Linear(dim_hidden, dim, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.output(self.activation(self.input(self.norm(hidden))))
