"""Spatio-temporal pooling: a video as one token a frame and one token a patch, each a mean (Video-ChatGPT)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class SpatioTemporalPooling(ConnectorConfig):
    """Means over the patches, one token a frame, then means over the frames, one token a patch; then one linear layer.

    The published code knows no images; here an image is a video of one frame. Its temporal token is the mean of its
    patches, and its spatial tokens are the patches.

    Source: Video-ChatGPT (Maaz et al., 2024), section 3.1; video_chatgpt/inference.py,
    ``get_spatio_temporal_features_torch``.

    Args:
        num_temporal: temporal tokens of a video, and the most frames that it can have.
        pad: with fewer frames, the missing temporal tokens are zeros before the linear layer (its bias behind it), as
            published; False leaves them out, so that a short video takes fewer places.
    """

    kind: str = "spatiotemporal"
    num_temporal: int = 100
    pad: bool = True

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "PooledProjection":
        return PooledProjection(dim_in, dim_out, num_features, num_temporal=self.num_temporal, pad=self.pad)


class PooledProjection(Connector):
    """Temporal tokens first, then spatial tokens, projected alike."""

    def __init__(self, dim_in: int, dim_out: int, num_features: int, *, num_temporal: int, pad: bool) -> None:
        super().__init__()
        if num_temporal < 1:
            raise ZooError(f"connector.num_temporal is {num_temporal}; give the most frames a video has, at least 1")
        self.num_features, self.num_temporal, self.pad = num_features, num_temporal, pad
        self.projection = nn.Linear(dim_in, dim_out)

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        """Raises ZooError for more frames than there are temporal tokens."""
        if num_frames and max(num_frames) > self.num_temporal:
            raise ZooError(
                f"a video of {max(num_frames)} frames has more than connector.num_temporal {self.num_temporal}; set "
                "frames.num_frames to at most that, or raise it"
            )
        return [(self.num_temporal if self.pad else frames) + self.num_features for frames in num_frames]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        """(frames, tokens, dim_in) -> (sum of num_tokens, dim_out)."""
        pooled = [self._pool(frames) for frames in features.tokens.split(list(context.num_frames))]
        return self.projection(torch.cat(pooled))

    def _pool(self, frames: Tensor) -> Tensor:
        """(frames, tokens, dim_in) of one medium -> (temporal + spatial tokens, dim_in)."""
        temporal = frames.mean(dim=1)
        if self.pad:
            temporal = functional.pad(temporal, (0, 0, 0, self.num_temporal - len(frames)))
        return torch.cat([temporal, frames.mean(dim=0)])
