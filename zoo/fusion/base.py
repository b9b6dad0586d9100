"""The contract between soft tokens and the language model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from zoo.config import PartConfig

if TYPE_CHECKING:
    from zoo.data.batch import Batch


@dataclass(frozen=True, kw_only=True)
class FusionConfig(PartConfig):
    """Base of the fusion configs. A subclass sets ``kind`` and builds its module."""

    def build(self) -> "Fusion":
        raise TypeError(f"{type(self).__name__} must define build()")


class Fusion(nn.Module):
    """Brings soft tokens (total, dim) to the language model."""

    def forward(self, embeddings: Tensor, soft_tokens: Tensor, batch: "Batch") -> Tensor:
        """Token embeddings (rows, length, dim) and packed soft tokens -> input embeddings of the same shape."""
        raise TypeError(f"{type(self).__name__} must define forward()")
