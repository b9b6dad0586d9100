"""Splice: soft tokens stand in the prompt where the placeholder was (LLaVA, BLIP-2, most of the field)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from zoo.fusion.base import Fusion, FusionConfig

if TYPE_CHECKING:
    from zoo.data.batch import Batch


@dataclass(frozen=True, kw_only=True)
class Splice(FusionConfig):
    kind: str = "splice"

    def build(self) -> "SpliceFusion":
        return SpliceFusion()


class SpliceFusion(Fusion):
    """Overwrites the placeholder positions, row by row and in the order of the media."""

    def forward(self, embeddings: Tensor, soft_tokens: Tensor, batch: "Batch") -> Tensor:
        """Raises ValueError, naming the samples, unless there are exactly as many positions as soft tokens."""
        num_positions = int(batch.media_mask.sum())
        if num_positions != soft_tokens.shape[0]:
            # Scattering anyway would shift every later image of the batch by a few tokens, silently.
            raise ValueError(
                f"the prompts hold {num_positions} media positions but the connector gave {soft_tokens.shape[0]} soft "
                f"tokens (samples {', '.join(batch.sample_ids)}); num_tokens() of the connector must match its forward"
            )
        return embeddings.masked_scatter(batch.media_mask[..., None], soft_tokens.to(embeddings.dtype))
