"""Token-wise projections: one linear layer (LLaVA) or an MLP (LLaVA-1.5's mlpNx_gelu)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn
from transformers.activations import ACT2FN

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class MLP(ConnectorConfig):
    """Linear(dim_in, dim_out), then depth - 1 times [activation, Linear(dim_out, dim_out)], all with bias.

    Source: LLaVA, llava/model/multimodal_projector/builder.py; ``gelu`` is the exact (erf) form.
    """

    kind: str = "mlp"
    depth: int = 2
    activation: str = "gelu"

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "TokenwiseProjection":
        return TokenwiseProjection(dim_in, dim_out, num_features, depth=self.depth, activation=self.activation)


@dataclass(frozen=True, kw_only=True)
class Linear(ConnectorConfig):
    """One linear layer with bias (LLaVA, section 4.1)."""

    kind: str = "linear"

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "TokenwiseProjection":
        return TokenwiseProjection(dim_in, dim_out, num_features, depth=1, activation="gelu")


class TokenwiseProjection(Connector):
    """Every feature becomes a soft token; the frames of a video follow one another."""

    def __init__(self, dim_in: int, dim_out: int, num_features: int, *, depth: int, activation: str) -> None:
        super().__init__()
        self.num_features = num_features
        self.layers = nn.ModuleList(nn.Linear(dim_in if i == 0 else dim_out, dim_out) for i in range(depth))
        self.activation = ACT2FN[activation]

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        return [frames * self.num_features for frames in num_frames]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        tokens = features.tokens.flatten(0, 1)  # (frames * tokens, dim_in)
        for i, layer in enumerate(self.layers):
            tokens = layer(self.activation(tokens) if i else tokens)
        return tokens
