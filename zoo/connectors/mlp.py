"""Token-wise projections: one linear layer (LLaVA) or an MLP (LLaVA-1.5's mlpNx_gelu)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class MLP(ConnectorConfig):
    """Linear(dim_in, dim_out), then depth - 1 times [activation, Linear(dim_out, dim_out)], all with bias.

    Source: LLaVA, llava/model/multimodal_projector/builder.py; ``gelu`` is the exact (erf) form.

    ``image_class_token``: False leaves out the class token of images, which an encoder with ``class_token`` gives of
    every frame, so that only frames of videos keep it (Video-LLaVA). ``norm_eps``: a LayerNorm with this epsilon stands
    before the first layer (ViP-LLaVA); None: none does.
    """

    kind: str = "mlp"
    depth: int = 2
    activation: str = "gelu"
    image_class_token: bool = True
    norm_eps: float | None = None

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "TokenwiseProjection":
        has_class_token = num_features == grid[0] * grid[1] + 1
        return TokenwiseProjection(
            dim_in,
            dim_out,
            num_features,
            depth=self.depth,
            activation=self.activation,
            drops_image_class_token=has_class_token and not self.image_class_token,
            norm_eps=self.norm_eps,
        )


@dataclass(frozen=True, kw_only=True)
class Linear(ConnectorConfig):
    """One linear layer with bias (LLaVA, section 4.1)."""

    kind: str = "linear"

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "TokenwiseProjection":
        return TokenwiseProjection(dim_in, dim_out, num_features, depth=1, activation="gelu")


class TokenwiseProjection(Connector):
    """Every feature becomes a soft token; the frames of a video follow one another."""

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        num_features: int,
        *,
        depth: int,
        activation: str,
        drops_image_class_token: bool = False,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.drops_image_class_token = drops_image_class_token
        self.norm = None if norm_eps is None else nn.LayerNorm(dim_in, eps=norm_eps)
        self.layers = nn.ModuleList(nn.Linear(dim_in if i == 0 else dim_out, dim_out) for i in range(depth))
        self.activation = ACT2FN[activation]

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        if not self.drops_image_class_token:
            return [frames * self.num_features for frames in num_frames]
        return [frames * (self.num_features - (not video)) for frames, video in zip(num_frames, is_video)]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        tokens = features.tokens.flatten(0, 1)  # (frames * tokens, dim_in)
        if self.drops_image_class_token:
            of_video = torch.tensor(context.is_video, device=tokens.device)
            kept = of_video.repeat_interleave(torch.tensor(context.num_frames, device=tokens.device))
            kept = kept[:, None].repeat(1, self.num_features)
            kept[:, 1:] = True
            tokens = tokens[kept.flatten()]
        return self.project(tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """(tokens, dim_in) -> (tokens, dim_out)."""
        tokens = tokens if self.norm is None else self.norm(tokens)
        for i, layer in enumerate(self.layers):
            tokens = layer(self.activation(tokens) if i else tokens)
        return tokens
