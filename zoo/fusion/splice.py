"""Splice: soft tokens stand in the prompt where the placeholder was (LLaVA, BLIP-2, most of the field)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from zoo.fusion.base import Fusion, FusionConfig, SoftTokens

if TYPE_CHECKING:
    from zoo.data.batch import Batch
    from zoo.language import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Splice(FusionConfig):
    kind: str = "splice"

    def build(self, *, dim_media: int, language_model: "LanguageModel") -> "SpliceFusion":
        return SpliceFusion()


class SpliceFusion(Fusion):
    """Overwrites the placeholder positions, row by row and in the order of the media and of the regions."""

    def forward(self, embeddings: Tensor, soft: SoftTokens, batch: "Batch") -> Tensor:
        """Raises ValueError, naming the samples, unless there are exactly as many positions as soft tokens."""
        embeddings = _put(embeddings, soft.media, batch.media_mask, "media", batch)
        if soft.regions is not None:
            embeddings = _put(embeddings, soft.regions, batch.region_mask, "region", batch)
        return embeddings


def _put(embeddings: Tensor, tokens: Tensor, mask: Tensor, what: str, batch: "Batch") -> Tensor:
    num_positions = int(mask.sum())
    if num_positions != tokens.shape[0]:
        # Scattering anyway would shift every later image of the batch by a few tokens, silently.
        raise ValueError(
            f"the prompts hold {num_positions} {what} positions but the connector gave {tokens.shape[0]} soft "
            f"tokens (samples {', '.join(batch.sample_ids)}); num_tokens() of the connector must match its forward"
        )
    return embeddings.masked_scatter(mask[..., None], tokens.to(embeddings.dtype))
