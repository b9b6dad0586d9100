"""Florence-2's connector: patches with places of their row and column, and their mean before them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class MeanAndPatches(ConnectorConfig):
    """Each patch plus learned embeddings of its column (first half of the width) and row (second half) and the place of
    the first frame; their mean, then the patches, through a linear layer without bias and a LayerNorm. The frames of a
    video are images, one after another.

    Source: Florence-2 (Xiao et al., 2024), section 3.2; the released modeling_florence2.py, ``_encode_image``.

    Args:
        max_side: most patches along a side.
        max_frames: rows of the sinusoidal table of frames that checkpoints hold; the first is used.
    """

    kind: str = "mean_and_patches"
    max_side: int = 50
    max_frames: int = 100

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "PlacedPatches":
        """Raises ZooError for more patches along a side than there are places, and beside a class token."""
        if max(grid) > self.max_side:
            raise ZooError(f"{grid[0]} x {grid[1]} patches are more than connector.max_side {self.max_side}; raise it")
        if num_features != grid[0] * grid[1]:
            raise ZooError("connector mean_and_patches has no place for a class token; set encoder.class_token=false")
        return PlacedPatches(self, dim_in, dim_out, grid)


class PlacedPatches(Connector):
    """One soft token more than there are patches, of each frame."""

    def __init__(self, config: MeanAndPatches, dim_in: int, dim_out: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.rows = nn.Embedding(config.max_side, dim_in // 2)
        self.columns = nn.Embedding(config.max_side, dim_in - dim_in // 2)
        self.register_buffer("times", sinusoids(config.max_frames, dim_in))
        self.projection = nn.Linear(dim_in, dim_out, bias=False)
        self.norm = nn.LayerNorm(dim_out)

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        return [frames * (1 + self.grid[0] * self.grid[1]) for frames in num_frames]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        """(frames, patches, dim_in) -> (sum of num_tokens, dim_out)."""
        height, width = self.grid
        columns = self.columns.weight[:width].expand(height, -1, -1)
        rows = self.rows.weight[:height, None].expand(-1, width, -1)
        places = torch.cat([columns, rows], dim=-1).flatten(0, 1)
        patches = features.tokens + places + self.times[0]
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        return self.norm(self.projection(tokens)).flatten(0, 1)


def sinusoids(length: int, dim: int) -> Tensor:
    """(length, dim): sine at even and cosine at odd places, of wavelengths from 2 pi to 10000 times that."""
    pairs = torch.arange(-(-dim // 2), dtype=torch.float32)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * torch.exp(-math.log(10000) / (dim // 2) * pairs)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :dim]
