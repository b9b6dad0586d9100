"""Chat-UniVi's connector: tokens that are alike merge, at three scales for an image and for each event of a video."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.encoders import Features

# Keeps the weight of a member finite, as in the original; a cluster is never empty here.
_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class TokenMerging(ConnectorConfig):
    """An image is its patches merged into ``num_clusters[0]`` tokens, those merged into ``num_clusters[1]``, and so on:
    the tokens of all steps side by side. The frames of a video are clustered into events by their mean patches; of each
    event, in the order of their first frames, the frames' tokens of a step merge together into as many as an image has.
    Then one linear layer; the merging itself has no weights.

    Source: Chat-UniVi (Jin et al., 2024), section 3.2; ChatUniVi/model/arch.py, ``project``, and cluster.py.

    Args:
        num_clusters: tokens of each step; with fewer tokens to merge, as many as there are.
        neighbours: of each step, nearest tokens that a token's density is taken from.
        events: of a video: at most 1, the share of its frames, rounded up; above, their number (never more than
            frames).
        event_neighbours: nearest frames that a frame's density is taken from.
    """

    kind: str = "token_merging"
    num_clusters: tuple[int, ...] = (64, 32, 16)
    neighbours: tuple[int, ...] = (5, 3, 3)
    events: float = 1 / 16
    event_neighbours: int = 5

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "MergedProjection":
        """Raises ZooError where the steps do not merge, or lack their neighbours."""
        if not self.num_clusters or min(self.num_clusters) < 1 or any(a < b for a, b in pairwise(self.num_clusters)):
            raise ZooError(f"connector.num_clusters {list(self.num_clusters)} must be numbers from 1 that do not rise")
        if len(self.neighbours) != len(self.num_clusters) or min(*self.neighbours, self.event_neighbours) < 1:
            raise ZooError(
                f"connector.neighbours {list(self.neighbours)} must be a number from 1 for each of the "
                f"{len(self.num_clusters)} steps of num_clusters, and event_neighbours ({self.event_neighbours}) one"
            )
        if self.events <= 0:
            raise ZooError(f"connector.events is {self.events}; give a share of the frames, or a number of events")
        return MergedProjection(self, dim_in, dim_out, num_features)


class MergedProjection(Connector):
    """As many soft tokens for an image as all steps have together, and as many for each event of a video."""

    def __init__(self, config: TokenMerging, dim_in: int, dim_out: int, num_features: int) -> None:
        super().__init__()
        self.events, self.event_neighbours = config.events, config.event_neighbours
        self.steps = tuple(
            (min(number, num_features), neighbours)
            for number, neighbours in zip(config.num_clusters, config.neighbours, strict=True)
        )
        self.projection = nn.Linear(dim_in, dim_out)

    def num_events(self, num_frames: int) -> int:
        """How many events a video of so many frames has."""
        return min(math.ceil(self.events if self.events > 1 else num_frames * self.events), num_frames)

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        tokens = sum(number for number, _ in self.steps)
        return [
            tokens * (self.num_events(frames) if video else frames)
            for frames, video in zip(num_frames, is_video, strict=True)
        ]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        """(frames, tokens, dim_in) -> (sum of num_tokens, dim_out)."""
        merged = [features.tokens]
        for step in self.steps:
            merged.append(merge(merged[-1], cluster(merged[-1], *step)))
        counts = list(context.num_frames)
        media = zip(*(tokens.split(counts) for tokens in merged), context.is_video, strict=True)
        soft = [
            self._video(frames, levels) if is_video else torch.cat(levels, dim=1).flatten(0, 1)
            for frames, *levels, is_video in media
        ]
        return self.projection(torch.cat(soft))

    def _video(self, frames: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """The frames' patches and their tokens of each step -> (events * tokens, dim_in)."""
        means = frames.float().mean(dim=1)
        groups = cluster(means[None], self.num_events(len(frames)), self.event_neighbours)[0].tolist()
        soft = []
        for event in dict.fromkeys(groups):
            members = [number for number, group in enumerate(groups) if group == event]
            for level, step in zip(levels, self.steps, strict=True):
                tokens = level[members].flatten(0, 1)[None]
                soft.append(merge(tokens, cluster(tokens, *step))[0])
        return torch.cat(soft)


@torch.no_grad()
def cluster(tokens: Tensor, num_clusters: int, num_neighbours: int) -> Tensor:
    """Density-peak clustering over nearest neighbours (Du et al., 2016): (batch, tokens, dim) -> cluster of each token.

    Centres are the tokens of highest density times distance to the nearest denser token; the others join the nearest
    centre. Clusters are numbered by falling score. A sum over more than ``num_clusters`` neighbours would see across
    clusters; then it is half as many, 1 to 3.

    The original adds noise of 1e-6 to the densities, so that of equally dense tokens one is denser by chance. Here it
    is the first of them: equal inputs give equal clusters.
    """
    length, dim = tokens.shape[1:]
    num_clusters = min(num_clusters, length)
    if num_neighbours > num_clusters:
        num_neighbours = min(3, max(num_clusters // 2, 1))
    x = tokens.float()
    # By matrix products a token is some distance from itself, and rounding depends on what else is in the batch.
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") / dim**0.5
    nearest = distances.topk(num_neighbours, dim=-1, largest=False).values
    density = (-nearest.square().mean(dim=-1)).exp()  # (batch, tokens)
    others, own = density[:, None, :], density[:, :, None]
    is_before = distances.new_ones(length, length, dtype=torch.bool).tril(-1)
    denser = (others > own) | ((others == own) & is_before)
    farthest = distances.amax(dim=(1, 2), keepdim=True)
    separation = distances.where(denser, farthest).amin(dim=-1)
    order = (separation * density).argsort(dim=-1, descending=True, stable=True)
    centres = order[:, :num_clusters]
    to_centres = distances.gather(1, centres[..., None].expand(-1, -1, length))
    numbers = torch.arange(num_clusters, device=tokens.device).expand_as(centres)
    return to_centres.argmin(dim=1).scatter(1, centres, numbers)


def merge(tokens: Tensor, clusters: Tensor) -> Tensor:
    """The mean of each cluster: (batch, tokens, dim), (batch, tokens) -> (batch, clusters, dim)."""
    members = functional.one_hot(clusters).to(tokens.dtype)  # (batch, tokens, clusters)
    weights = members / (members.sum(dim=1, keepdim=True) + _EPSILON)
    return weights.transpose(1, 2) @ tokens
