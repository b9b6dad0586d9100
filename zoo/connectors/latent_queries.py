"""Kosmos-2's connector: learned queries attend once to the projected features and to each other.

Source: Peng et al., 2023 (Kosmos-2), section 3; unilm, ``kosmos-2/unilm/models/connector.py`` (XConnector).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from zoo.attention import attend, split_heads
from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class LatentQueries(ConnectorConfig):
    """``num_queries`` soft tokens a frame, whatever the number of features. ``dropout`` is of the attention weights."""

    kind: str = "kosmos-2"
    num_queries: int = 64
    num_heads: int = 32
    dropout: float = 0.1

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "LatentQueryConnector":
        """Raises ZooError when the heads do not divide the language model's width."""
        if dim_out % self.num_heads:
            raise ZooError(
                f"connector.num_heads {self.num_heads} does not divide the language model's width {dim_out}; "
                "set it to a divisor"
            )
        return LatentQueryConnector(self, dim_in, dim_out)


class LatentQueryConnector(Connector):
    """Features are scaled to length 1, projected, and read by one multi-head attention without norms or residual.

    Queries are the latents, keys and values the projected features followed by the latents.
    """

    def __init__(self, config: LatentQueries, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.num_queries, self.num_heads, self.dropout = config.num_queries, config.num_heads, config.dropout
        self.dense = nn.Linear(dim_in, dim_out)
        self.latents = nn.Parameter(torch.randn(config.num_queries, dim_out))
        self.query, self.key, self.value, self.output = (nn.Linear(dim_out, dim_out) for _ in range(4))

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        return [frames * self.num_queries for frames in num_frames]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        seen = self.dense(functional.normalize(features.tokens, dim=-1))  # (frames, tokens, dim_out)
        latents = self.latents.expand(len(seen), -1, -1)
        sources = torch.cat([seen, latents], dim=1)
        read = attend(
            split_heads(self.query(latents), self.num_heads),
            split_heads(self.key(sources), self.num_heads),
            split_heads(self.value(sources), self.num_heads),
            dropout=self.dropout if self.training else 0.0,
        )
        return self.output(read.transpose(1, 2).flatten(2)).flatten(0, 1)
