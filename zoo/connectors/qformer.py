"""The Q-Former as connector: 32 queries read the image, and the instruction where the method says so (InstructBLIP).

Source: BLIP-2 (Li et al., 2023), section 3; InstructBLIP (Dai et al., 2023), section 2.3; LAVIS, lavis/models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.connectors.qformer_body import Float32LayerNorm, QFormerBody, TextEmbeddings
from zoo.connectors.qformer_representation import RepresentationHeads, RepresentationLosses
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class QFormer(ConnectorConfig):
    """LayerNorm of the features, Q-Former, linear projection. Published sizes are BERT-base's.

    Args:
        intermediate: hidden width of the MLPs; None is four times the width.
        norm_epsilon: of the LayerNorm over the features: 1e-5 in LAVIS, 1e-6 in transformers.
        layer_norm_epsilon: of the Q-Former's own LayerNorms.
        reads_instruction: the users' text stands beside the queries (InstructBLIP).
        representation: with the text branch and the heads that BLIP-2's first stage trains.
        instruction_vocabulary: rows of the word embedding, BERT's and [DEC]; 0: the tokenizer's and one more.
        max_positions: longest text in tokens.
        initial: a BLIP-2 checkpoint whose Q-Former this one begins as; its projection is left out.
    """

    kind: str = "qformer"
    num_queries: int = 32
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate: int | None = None
    cross_attention_every: int = 2
    activation: str = "gelu"
    dropout: float = 0.1
    norm_epsilon: float = 1e-5
    layer_norm_epsilon: float = 1e-12
    reads_instruction: bool = False
    representation: bool = False
    dim_common: int = 256
    instruction_tokenizer: str = "bert-base-uncased"
    instruction_vocabulary: int = 30523
    max_instruction_length: int = 128
    max_positions: int = 512
    initial: str = ""

    @property
    def reads_text(self) -> bool:
        return self.reads_instruction or self.representation

    def build(
        self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int, instruction_vocabulary: int = 0
    ) -> "QFormerConnector":
        """Raises ZooError where the tokenizer has more entries than the word embedding rows."""
        rows = instruction_rows(self.instruction_vocabulary, instruction_vocabulary)
        return QFormerConnector(self, dim_in, dim_out, rows)


def instruction_rows(wanted: int, num_entries: int) -> int:
    """Rows of the word embedding for a tokenizer with ``num_entries``: as many as wanted, or for 0 one more, [DEC].

    Raises ZooError where the tokenizer has more entries than that.
    """
    rows = wanted or num_entries + 1
    if num_entries > rows:
        raise ZooError(
            f"connector.instruction_vocabulary {rows} is below the {num_entries} entries of the instruction tokenizer; "
            "raise it, or set it to 0 for as many as the tokenizer has"
        )
    return rows


def instructed_queries(
    body: QFormerBody, embeddings: TextEmbeddings, tokens: Tensor, context: ConnectorContext
) -> Tensor:
    """What the queries make of each frame beside its medium's instruction: (frames, queries, width).

    Raises ZooError where the batch has no instruction.
    """
    if context.instruction_ids is None or context.instruction_mask is None:
        raise ZooError("this Q-Former reads the instruction, but the batch has none; give instruction_ids and mask")
    repeats = torch.as_tensor(context.num_frames, device=tokens.device)
    ids = context.instruction_ids.repeat_interleave(repeats, dim=0)  # (frames, length)
    mask = functional.pad(context.instruction_mask, (body.num_queries, 0), value=True)
    mask = mask.repeat_interleave(repeats, dim=0)[:, None]
    return body(tokens, text=embeddings(ids), mask=mask, only_queries=True)


class QFormerConnector(Connector):
    """``num_queries`` soft tokens for each frame; the frames of a video are read one by one, with the same text."""

    initial_names = MappingProxyType({"norm.": "norm.", "body.": "body.", "embeddings.": "embeddings."})

    def __init__(self, config: QFormer, dim_in: int, dim_out: int, vocabulary: int) -> None:
        super().__init__()
        self.reads_instruction = config.reads_instruction
        self.norm = Float32LayerNorm(dim_in, eps=config.norm_epsilon)
        self.body = QFormerBody(
            dim_in,
            num_queries=config.num_queries,
            dim=config.width,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            intermediate=config.intermediate,
            cross_attention_every=config.cross_attention_every,
            has_text=config.reads_text,
            activation=config.activation,
            dropout=config.dropout,
            epsilon=config.layer_norm_epsilon,
        )
        self.embeddings = self.heads = None
        if config.reads_text:
            self.embeddings = TextEmbeddings(vocabulary, config.width, config.max_positions)
        if config.representation:
            self.heads = RepresentationHeads(
                config.width, vocabulary, dim_common=config.dim_common, epsilon=config.layer_norm_epsilon
            )
        self.projection = nn.Linear(config.width, dim_out)

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        return [frames * self.body.num_queries for frames in num_frames]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        """(frames, tokens, dim_in) -> (frames * queries, dim_out). Raises ZooError without a text that is read."""
        tokens = self.norm(features.tokens)
        if not self.reads_instruction:
            return self.projection(self.body(tokens)).flatten(0, 1)
        return self.projection(instructed_queries(self.body, self.embeddings, tokens, context)).flatten(0, 1)

    def loss(self, features: "Features", context: ConnectorContext) -> Tensor:
        """The sum of the three losses. A video stands by its middle frame; equal texts are no negatives."""
        if context.instruction_ids is None or context.instruction_mask is None:
            raise ZooError("the batch has no texts for representation learning; give instruction_ids and mask")
        counts = torch.as_tensor(context.num_frames, device=features.tokens.device)
        middle = counts.cumsum(0) - counts + counts // 2
        pairs = replace(features, tokens=features.tokens[middle])
        ids, mask = context.instruction_ids, context.instruction_mask
        groups = ids.masked_fill(~mask, -1).unique(dim=0, return_inverse=True)[1]
        return self.representation_losses(pairs, ids, mask, groups).total

    def representation_losses(
        self, features: "Features", ids: Tensor, mask: Tensor, groups: Tensor | None = None
    ) -> RepresentationLosses:
        """BLIP-2's first stage on a batch of image-text pairs, one frame each; ids and mask (frames, length)."""
        if self.heads is None:
            raise ZooError("this Q-Former has no heads for representation learning; set connector.representation=true")
        # [DEC] is the last row, as in LAVIS, which adds it to BERT's vocabulary.
        begin_id = self.embeddings.words.num_embeddings - 1
        tokens = self.norm(features.tokens)
        return self.heads.losses(self.body, self.embeddings, tokens, ids, mask, begin_id=begin_id, groups=groups)
