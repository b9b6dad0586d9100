"""The contract between soft tokens and the language model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from zoo.config import PartConfig

if TYPE_CHECKING:
    from zoo.data.batch import Batch
    from zoo.language import LanguageModel


@dataclass(frozen=True, kw_only=True)
class SoftTokens:
    """What the connector made of a batch: ``media`` (total, dim), the tokens of all media in order; ``counts``, how
    many each medium has; ``regions`` (regions, dim), one token a box of the users' text, with region features.
    """

    media: Tensor
    counts: tuple[int, ...]
    regions: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class FusionConfig(PartConfig):
    """Base of the fusion configs. A subclass sets ``kind`` and builds its module."""

    def media_dim(self, *, dim_features: int, dim_model: int) -> int:
        """The width of the soft tokens: the language model's, unless the fusion reads them at another."""
        return dim_model

    def build(self, *, dim_media: int, language_model: "LanguageModel") -> "Fusion":
        raise TypeError(f"{type(self).__name__} must define build()")


class Fusion(nn.Module):
    """Brings soft tokens to the language model: into its input embeddings, or beside its layers."""

    def num_positions(self, num_tokens: list[int]) -> list[int]:
        """The places that media with so many soft tokens take in the prompt."""
        return num_tokens

    def forward(self, embeddings: Tensor, soft: SoftTokens, batch: "Batch") -> Tensor:
        """Token embeddings (rows, length, dim) and soft tokens -> input embeddings of the same shape."""
        return embeddings

    @contextmanager
    def reading(self, soft: SoftTokens | None, batch: "Batch") -> Iterator[None]:
        """Stands around every call of the language model on ``batch``; ``soft`` is None where it has no media."""
        yield
