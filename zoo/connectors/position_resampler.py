"""Qwen-VL's connector: learned queries on a grid read the patches once; both know where on the image they are.

Source: Bai et al., 2023 (Qwen-VL), section 2.1; the released model's ``visual.py`` (Resampler).
"""

import math
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
class PositionResampler(ConnectorConfig):
    """``num_queries`` (a square number) soft tokens a frame, whatever the number of patches."""

    kind: str = "position_resampler"
    num_queries: int = 256
    num_heads: int = 32

    def build(
        self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int
    ) -> "PositionResamplerConnector":
        """Raises ZooError for queries that are no square, a width that cannot be split, or a class token."""
        if math.isqrt(self.num_queries) ** 2 != self.num_queries:
            raise ZooError(f"connector.num_queries {self.num_queries} is no square number; queries stand on a grid")
        if dim_out % self.num_heads or dim_out % 4:
            raise ZooError(
                f"connector.num_heads {self.num_heads} and 4 have to divide the language model's width {dim_out}; "
                "set it to such a divisor"
            )
        if num_features != grid[0] * grid[1]:
            raise ZooError("encoder.class_token: this connector reads patches, which have places; set it to false")
        return PositionResamplerConnector(self, dim_in, dim_out, grid)


def position_table(side: int, dim: int) -> Tensor:
    """Sines and cosines of a square grid's places, row by row: (side * side, dim).

    The first half of the width tells the column, the second the row; in each half the sines stand before the cosines,
    and their frequencies fall from 1 by powers of 10000.
    """
    frequencies = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=-1)  # (side, dim / 2)
    columns, rows = line[None].expand(side, -1, -1), line[:, None].expand(-1, side, -1)
    return torch.cat([columns, rows], dim=-1).flatten(0, 1).float()


def resized(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """A square grid's vectors (places, dim), bicubically on another grid: (rows * columns, dim)."""
    side = math.isqrt(len(table))
    if grid == (side, side):
        return table
    image = table.float().unflatten(0, (side, side)).permute(2, 0, 1)[None]
    image = functional.interpolate(image, size=grid, mode="bicubic", align_corners=False)
    return image[0].flatten(1).T.to(table.dtype)


class PositionResamplerConnector(Connector):
    """One cross-attention. Positions are added to queries and keys, not to values; there is no residual."""

    def __init__(self, config: PositionResampler, dim_in: int, dim_out: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.queries = nn.Parameter(nn.init.trunc_normal_(torch.empty(config.num_queries, dim_out), std=0.02))
        self.features = nn.Linear(dim_in, dim_out, bias=False)
        self.query_norm, self.feature_norm, self.norm = (nn.LayerNorm(dim_out, eps=1e-6) for _ in range(3))
        self.query, self.key, self.value, self.output = (nn.Linear(dim_out, dim_out) for _ in range(4))
        self.projection = nn.Linear(dim_out, dim_out, bias=False)
        nn.init.normal_(self.projection.weight, std=dim_out**-0.5)
        table = position_table(math.isqrt(config.num_queries), dim_out)
        self.register_buffer("query_positions", table, persistent=False)
        self.register_buffer("key_positions", resized(table, grid), persistent=False)

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        return [frames * len(self.queries) for frames in num_frames]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        return self.projection(self.norm(self.read(features.tokens))).flatten(0, 1)

    def read(self, tokens: Tensor) -> Tensor:
        """What the queries find: (frames, patches, dim_in) -> (frames, num_queries, dim_out)."""
        seen = self.feature_norm(self.features(tokens))
        queries = (self.query_norm(self.queries) + self.query_positions).expand(len(tokens), -1, -1)
        found = attend(
            split_heads(self.query(queries), self.num_heads),
            split_heads(self.key(seen + self.key_positions), self.num_heads),
            split_heads(self.value(seen), self.num_heads),
        )
        return self.output(found.transpose(1, 2).flatten(2))
