"""GPT4RoI's connector: projected patches for the image, and one token for each region that the user's text points at.

Source: Zhang et al., 2023 (GPT4RoI), section 3.2; jshilong/GPT4RoI, ``gpt4roi/models/layers.py``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.connectors.roi_align import roi_align
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class GPT4RoI(ConnectorConfig):
    """One linear layer on the patches, and a region module on several of the encoder's layers.

    Args:
        levels: indices into the encoder's hidden states, shallow to deep.
        pyramid_scales: side of each level's map as a multiple of the patch grid's.
        width: channels inside the region module; a multiple of 4 and of ``num_groups``.
        num_rounds: rounds in which neighbouring levels exchange channels.
        num_groups: groups of the normalisation after each round.
        roi_size: bins a side that a region is pooled into.
        sampling_ratio: samples a side of each bin.
    """

    kind: str = "gpt4roi"
    levels: tuple[int, ...] = (14, 17, 20, 23)
    pyramid_scales: tuple[int, ...] = (8, 4, 2, 1)
    width: int = 1024
    num_rounds: int = 5
    num_groups: int = 64
    roi_size: int = 14
    sampling_ratio: int = 2

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "RegionConnector":
        """Raises ZooError for sizes that do not fit each other."""
        if not self.levels or len(self.levels) != len(self.pyramid_scales):
            raise ZooError(
                f"connector.levels {self.levels} and connector.pyramid_scales {self.pyramid_scales} differ in length; "
                "give one scale for each level"
            )
        if self.width % 4 or self.width % self.num_groups:
            raise ZooError(f"connector.width {self.width} is no multiple of 4 and of num_groups {self.num_groups}")
        return RegionConnector(self, dim_in, dim_out, grid, num_features)


class RegionConnector(Connector):
    """``forward`` gives a token for every feature, ``forward_regions`` one for every box."""

    def __init__(self, config: GPT4RoI, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> None:
        super().__init__()
        self.levels = config.levels
        self.grid = grid
        self.num_features = num_features
        self.projection = nn.Linear(dim_in, dim_out)
        self.regions = RegionModule(config, dim_in, dim_out)

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        return [frames * self.num_features for frames in num_frames]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        return self.projection(features.tokens.flatten(0, 1))

    def forward_regions(self, features: "Features", context: ConnectorContext) -> Tensor:
        """(regions, dim_out), in the order of ``context.boxes``. A box of a video lies in its first frame."""
        assert context.boxes is not None and context.box_media is not None
        first_frames = torch.tensor([0, *accumulate(context.num_frames)], device=context.box_media.device)
        # Maps are made of the frames that have a box, not of every image of the batch.
        frames, box_index = first_frames[context.box_media].unique(return_inverse=True)
        rows, columns = self.grid
        maps = [level[frames].transpose(1, 2).unflatten(2, (rows, columns)) for level in features.levels]
        return self.regions(maps, context.boxes, box_index)


class RegionModule(nn.Module):
    """A feature pyramid of single-scale maps, RoIAlign on each of its levels, and the box itself."""

    def __init__(self, config: GPT4RoI, dim_in: int, dim_out: int) -> None:
        super().__init__()
        width, roi_size = config.width, config.roi_size
        self.scales, self.roi_size, self.sampling_ratio = config.pyramid_scales, roi_size, config.sampling_ratio
        # Two more channels: the coordinates of each cell.
        self.input_convolutions = nn.ModuleList(nn.Conv2d(dim_in + 2, width, 1) for _ in config.levels)
        self.rounds = nn.ModuleList(ExchangeRound(width, config.num_groups) for _ in range(config.num_rounds))
        self.pooled_convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in config.levels)
        self.flatten = nn.Linear(width * roi_size**2, width)
        self.box_embedding = nn.Sequential(
            nn.Linear(4, width // 4),
            nn.ReLU(),
            nn.LayerNorm(width // 4),
            nn.Linear(width // 4, width),
            nn.ReLU(),
            nn.LayerNorm(width),
        )
        self.projection = nn.Linear(width, dim_out)
        for convolution in self.pooled_convolutions:
            # The published 0.01 at the published width, and outputs of that scale at any other.
            nn.init.normal_(convolution.weight, std=0.01 * math.sqrt(1024 / width))
            nn.init.zeros_(convolution.bias)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, box_index: Tensor) -> Tensor:
        """maps (frames, dim_in, rows, columns) a level, boxes (boxes, 4) as fractions, the frame of each box (boxes,)
        -> (boxes, dim_out).
        """
        levels = [
            convolution(with_coordinates(resize(level, [side * scale for side in level.shape[-2:]])))
            for convolution, level, scale in zip(self.input_convolutions, maps, self.scales)
        ]
        for exchange in self.rounds:
            levels = exchange(levels)
        pooled = 0
        for convolution, level in zip(self.pooled_convolutions, levels):
            height, width = level.shape[-2:]
            corners = boxes.float() * torch.tensor([width, height, width, height], device=boxes.device)
            regions = roi_align(level, corners, box_index, size=self.roi_size, sampling_ratio=self.sampling_ratio)
            pooled = pooled + convolution(regions)
        flat = self.flatten(functional.relu(pooled).flatten(1))  # (boxes, width)
        return self.projection(flat + self.box_embedding(boxes.to(flat.dtype)))


class ExchangeRound(nn.Module):
    """Every level takes a quarter of its channels from the next deeper level and a quarter from the next shallower one.

    The convolution is shared by all levels, and all levels read what the round before left.
    """

    def __init__(self, width: int, num_groups: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(num_groups, width)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        half, quarter = levels[0].shape[1] // 2, levels[0].shape[1] // 4
        exchanged = []
        for index, own in enumerate(levels):
            deeper, shallower = levels[min(index + 1, len(levels) - 1)], levels[max(index - 1, 0)]
            mixed = (
                own[:, :half],
                resize(deeper[:, half + quarter :], own.shape[-2:]),
                resize(shallower[:, half : half + quarter], own.shape[-2:]),
            )
            exchanged.append(functional.relu(self.norm(self.convolution(torch.cat(mixed, dim=1)))))
        return exchanged


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, corner cells on corner cells, computed in float32."""
    resized = functional.interpolate(maps.float(), size=tuple(size), mode="bilinear", align_corners=True)
    return resized.to(maps.dtype)


def with_coordinates(maps: Tensor) -> Tensor:
    """Two channels appended: x and y of every cell, from -1 to 1."""
    rows, columns = maps.shape[-2:]
    y = torch.linspace(-1, 1, rows, device=maps.device, dtype=maps.dtype)
    x = torch.linspace(-1, 1, columns, device=maps.device, dtype=maps.dtype)
    coordinates = torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)])
    return torch.cat([maps, coordinates.expand(len(maps), -1, -1, -1)], dim=1)
