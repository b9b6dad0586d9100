"""Tiles of an image as one map: whole image first, then the tiles' patches, padding left out and rows ended.

Source: LLaVA ``llava/model/llava_arch.py``, ``prepare_inputs_labels_for_multimodal`` with ``spatial_unpad``; for videos
LLaVA-NeXT ``llavavid/model/llava_arch.py`` and LLaVA-OneVision (Li et al., 2024), section 3.2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from einops import rearrange
from torch import Tensor, nn

from zoo.connectors.base import ConnectorConfig, ConnectorContext
from zoo.connectors.mlp import TokenwiseProjection
from zoo.errors import ZooError, nearest

if TYPE_CHECKING:
    from zoo.data.tiles import TileGrid
    from zoo.encoders import Features

VIDEO_POOLS = ("none", "average", "max", "bilinear")


@dataclass(frozen=True, kw_only=True)
class AnyResolutionMLP(ConnectorConfig):
    """LLaVA-1.5's MLP on every patch, and a learned vector that ends the rows of an image cut into tiles.

    Args:
        depth: linear layers, as in ``MLP``.
        activation: between them.
        unpad_digits: rounding before the cut to whole patches (``TileGrid.unpadded``). The official code does not
            round; transformers' classes round to 7 digits.
        max_tiles: a map of tiles with over 1.21 times the patches of so many is shrunk to about as many, bilinearly
            (LLaVA-OneVision's "anyres_max_9"); None never shrinks.
        video_pool: what is done to frames of videos. ``average`` and ``max`` pool 2 x 2 patches before the MLP
            (LLaVA-NeXT-Video); ``bilinear`` halves the map behind it, and the learned vector ends the video
            (LLaVA-OneVision); ``none`` leaves them.
        pool_drops_edge: the last row and column of an odd map are left out of ``average`` and ``max``, as in
            transformers' class; published maps are even.

    Raises:
        ZooError: for an unknown ``video_pool``.
    """

    kind: str = "anyres"
    depth: int = 2
    activation: str = "gelu"
    unpad_digits: int | None = None
    max_tiles: int | None = None
    video_pool: str = "none"
    pool_drops_edge: bool = False

    def __post_init__(self) -> None:
        if self.video_pool not in VIDEO_POOLS:
            raise ZooError(f"unknown connector.video_pool {self.video_pool!r}.{nearest(self.video_pool, VIDEO_POOLS)}")

    def build(
        self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int
    ) -> "AnyResolutionProjection":
        """Raises ZooError for an encoder that keeps its class token: it has no place on the map of the tiles."""
        if num_features != grid[0] * grid[1]:
            raise ZooError(
                f"connector {self.kind}: the class token has no place on a map; set encoder.class_token=false"
            )
        return AnyResolutionProjection(self, dim_in, dim_out, grid)


class AnyResolutionProjection(TokenwiseProjection):
    """An image that was not cut is its patches and one ``newline``, except frames of videos."""

    def __init__(self, config: AnyResolutionMLP, dim_in: int, dim_out: int, grid: tuple[int, int]) -> None:
        super().__init__(dim_in, dim_out, grid[0] * grid[1], depth=config.depth, activation=config.activation)
        self.config, self.grid = config, grid
        self.newline = nn.Parameter(torch.randn(dim_out) * dim_out**-0.5)

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        return self.num_tiled_tokens(num_frames, is_video, ())

    def num_tiled_tokens(
        self, num_frames: Sequence[int], is_video: Sequence[bool], tile_grids: "Sequence[TileGrid | None]"
    ) -> list[int]:
        counts = []
        for frames, video, grid in zip_longest(num_frames, is_video, tile_grids):
            if video:
                rows, columns = self._video_size()
                counts.append(frames * rows * columns + (self.config.video_pool == "bilinear"))
            elif grid is None:
                counts.append(frames * (self.num_features + 1))
            else:
                rows, columns = self._tiles_size(grid)
                counts.append(self.num_features + rows * (columns + 1))
        return counts

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        pools_first = self.config.video_pool in ("average", "max")
        kinds = list(context.is_video) or [False] * len(context.num_frames)
        media = [
            self._pooled(frames) if video and pools_first else frames
            for frames, video in zip(features.tokens.split(list(context.num_frames)), kinds)
        ]
        projected = self.project(torch.cat([frames.flatten(0, 1) for frames in media]))
        parts = projected.split([frames.shape[0] * frames.shape[1] for frames in media])
        soft = []
        for frames, tokens, video, grid in zip_longest(media, parts, kinds, context.tile_grids):
            maps = tokens.unflatten(0, frames.shape[:2])  # (frames, patches, dim_out)
            soft.append(self._video(maps) if video else self._image(maps) if grid is None else self._tiles(maps, grid))
        # Where no medium needs it, the newline is part of the graph all the same: processes that train together have
        # gradients for the same parameters.
        return torch.cat(soft) + 0.0 * self.newline

    def _video_size(self) -> tuple[int, int]:
        """Rows and columns that are left of the map of a frame."""
        if self.config.video_pool == "none":
            return self.grid
        drops = self.config.pool_drops_edge and self.config.video_pool != "bilinear"
        rows, columns = (side // 2 if drops else -(-side // 2) for side in self.grid)
        return rows, columns

    def _pooled(self, frames: Tensor) -> Tensor:
        """(frames, patches, dim) -> (frames, fewer patches, dim); a window at the edge has what there is."""
        maps = rearrange(frames, "n (r c) d -> n d r c", r=self.grid[0])
        pool = functional.avg_pool2d if self.config.video_pool == "average" else functional.max_pool2d
        return pool(maps, 2, ceil_mode=not self.config.pool_drops_edge).flatten(2).transpose(1, 2)

    def _video(self, maps: Tensor) -> Tensor:
        if self.config.video_pool != "bilinear":
            return maps.flatten(0, 1)
        resized = _resized(rearrange(maps, "n (r c) d -> n r c d", r=self.grid[0]), self._video_size())
        return torch.cat([resized.flatten(0, 2), self.newline[None]])

    def _image(self, maps: Tensor) -> Tensor:
        return torch.cat([maps, self.newline.expand(len(maps), 1, -1)], dim=1).flatten(0, 1)

    def _unpadded(self, grid: "TileGrid") -> tuple[slice, slice]:
        return grid.unpadded(self.grid, digits=self.config.unpad_digits)

    def _tiles_size(self, grid: "TileGrid") -> tuple[int, int]:
        """Rows and columns of an image's map of tiles, without the ends of the rows."""
        rows, columns = (part.stop - part.start for part in self._unpadded(grid))
        if self.config.max_tiles is None:
            return rows, columns
        excess = math.sqrt(rows * columns / (self.config.max_tiles * self.grid[0] ** 2))
        return (int(rows // excess), int(columns // excess)) if excess > 1.1 else (rows, columns)

    def _tiles(self, maps: Tensor, grid: "TileGrid") -> Tensor:
        """(1 + tiles, patches, dim_out) -> the whole image's patches, then those of the tiles, row by row."""
        patches = rearrange(maps[1:], "(y x) (r c) d -> (y r) (x c) d", y=grid.rows, r=self.grid[0])
        rows, columns = self._unpadded(grid)
        patches = _resized(patches[None, rows, columns], self._tiles_size(grid))[0]
        ended = torch.cat([patches, self.newline.expand(len(patches), 1, -1)], dim=1)
        return torch.cat([maps[0], ended.flatten(0, 1)])


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, rows, columns, dim) -> (n, *size, dim), bilinearly, without anti-aliasing."""
    if maps.shape[1:3] == size:
        return maps
    resized = functional.interpolate(rearrange(maps, "n r c d -> n d r c"), size=size, mode="bilinear")
    return rearrange(resized, "n d r c -> n r c d")
