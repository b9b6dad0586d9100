"""The contract between vision features and the language model's input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from zoo.config import PartConfig

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class ConnectorContext:
    """What a connector may look at beside the features: the number of frames of each medium (1 for an image)."""

    num_frames: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class ConnectorConfig(PartConfig):
    """Base of the connector configs. A subclass sets ``kind`` and builds its module."""

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "Connector":
        """The module for an encoder with ``num_features`` tokens of ``dim_in`` a frame, on ``grid`` (rows, columns)."""
        raise TypeError(f"{type(self).__name__} must define build()")


class Connector(nn.Module):
    """Maps the features of all frames of a batch to packed soft tokens."""

    def num_tokens(self, num_frames: Sequence[int]) -> list[int]:
        """Soft tokens of each medium, from its number of frames alone: known before any forward."""
        raise TypeError(f"{type(self).__name__} must define num_tokens()")

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        """features.tokens (frames, tokens, dim_in) -> (sum of num_tokens over the media, dim_out), media in order."""
        raise TypeError(f"{type(self).__name__} must define forward()")
