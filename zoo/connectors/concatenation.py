"""MiniGPT-v2's connector: neighbouring tokens side by side in one, then a linear layer.

Source: Chen et al., 2023 (MiniGPT-v2), section 2.1; ``minigpt4/models/minigpt_v2.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from torch import Tensor, nn

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.connectors.qformer_body import Float32LayerNorm
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class Concatenation(ConnectorConfig):
    """LayerNorm, ``num_joined`` tokens that follow one another in the raster as one, linear projection.

    ``initial``: a BLIP-2 checkpoint whose norm of the features this one begins as.
    """

    kind: str = "concatenation"
    num_joined: int = 4
    initial: str = ""

    def build(self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int) -> "ConcatenationConnector":
        """Raises ZooError when the tokens of a frame do not come out even."""
        if num_features % self.num_joined:
            raise ZooError(
                f"connector.num_joined {self.num_joined} does not divide the {num_features} tokens of a frame; set it "
                "to a divisor"
            )
        return ConcatenationConnector(self, dim_in, dim_out, num_features)


class ConcatenationConnector(Connector):
    """A run of tokens along a row of patches becomes one token: never a square of them."""

    initial_names = MappingProxyType({"norm.": "norm."})

    def __init__(self, config: Concatenation, dim_in: int, dim_out: int, num_features: int) -> None:
        super().__init__()
        self.num_joined, self.num_features = config.num_joined, num_features
        self.norm = Float32LayerNorm(dim_in)
        self.projection = nn.Linear(config.num_joined * dim_in, dim_out)

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        return [frames * (self.num_features // self.num_joined) for frames in num_frames]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        tokens = self.norm(features.tokens)
        return self.projection(tokens.unflatten(1, (-1, self.num_joined)).flatten(2)).flatten(0, 1)
