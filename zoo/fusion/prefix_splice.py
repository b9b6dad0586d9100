"""Soft tokens in the prompt of a prefix language model: what comes before the answer is read in both directions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.data.encode import IGNORED_LABEL
from zoo.errors import ZooError
from zoo.fusion.base import FusionConfig, SoftTokens
from zoo.fusion.splice import SpliceFusion

if TYPE_CHECKING:
    from zoo.data.batch import Batch
    from zoo.language import LanguageModel


@dataclass(frozen=True, kw_only=True)
class PrefixSplice(FusionConfig):
    """``Splice`` with attention in both directions inside the prefix, the image and the question; the answer sees the
    prefix and what it has said itself. With several turns the prefix ends where the first answer that is learned
    begins; of a prompt to be continued everything is prefix.

    Source: PaliGemma (Beyer et al., 2024), section 3.2.2.
    """

    kind: str = "prefix_splice"

    def build(self, *, dim_media: int, language_model: "LanguageModel") -> "PrefixSpliceFusion":
        """Raises ZooError for an encoder-decoder, whose encoder reads in both directions already."""
        if language_model.is_encoder_decoder:
            raise ZooError("fusion prefix_splice is for decoders; with an encoder-decoder set fusion=splice")
        return PrefixSpliceFusion(language_model.model)


class PrefixSpliceFusion(SpliceFusion):
    """Gives the language model a mask where it reads a whole prompt; steps of generation see everything before them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # The network is no part of the fusion: not registered, so that its weights have one name.
        self._network = [network]

    @contextmanager
    def reading(self, soft: SoftTokens | None, batch: "Batch") -> Iterator[None]:
        """Raises ZooError for rows longer than the language model's sliding window, which the mask would widen."""
        network = self._network[0]
        length = batch.ids.shape[1]
        window = getattr(network.config, "sliding_window", None)
        if window is not None and length > window:
            raise ZooError(f"a prefix language model of {length} positions is longer than its sliding window {window}")
        mask = prefix_attention(batch)[:, None]

        def give_mask(module: nn.Module, arguments: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            given = options.get("inputs_embeds")
            if given is None or given.shape[1] != length:
                return arguments, options
            # Beams stand beside one another.
            rows = mask.repeat_interleave(len(given) // len(mask), dim=0)
            return arguments, {**options, "attention_mask": rows}

        handle = network.register_forward_pre_hook(give_mask, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def prefix_attention(batch: "Batch") -> Tensor:
    """(rows, length, length), True where a position may look: back, and within the prefix, inside its own document.

    Padding sees itself: a row of the softmax without any key would be undefined.
    """
    real = batch.attention_mask
    documents = real.long() - 1 if batch.documents is None else batch.documents
    same = (documents[:, :, None] == documents[:, None, :]) & real[:, :, None]
    length = same.shape[1]
    causal = same.new_ones(length, length).tril()
    prefix = batch.prefix_mask
    if prefix is None:
        learned = (batch.labels != IGNORED_LABEL) & real
        # How many learned places of its document stand at or before a position.
        prefix = ~(same & causal & learned[:, None, :]).any(dim=-1)
    both = prefix[:, :, None] & prefix[:, None, :]
    return (same & (causal | both)) | torch.eye(length, dtype=torch.bool, device=same.device)
