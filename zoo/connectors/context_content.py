"""LLaMA-VID's connector: of each frame one token of what the text asks for, and a few of what is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from zoo.connectors.base import Connector, ConnectorConfig, ConnectorContext
from zoo.connectors.qformer import instructed_queries, instruction_rows
from zoo.connectors.qformer_body import Float32LayerNorm, QFormerBody, TextEmbeddings
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.encoders import Features


@dataclass(frozen=True, kw_only=True)
class ContextContent(ConnectorConfig):
    """A Q-Former reads the frame beside the instruction; each of its queries attends over the patches, the mean of what
    they find is the context token. The content tokens are means of the patches of a grid of squares, through an MLP of
    two layers. The Q-Former sees the class token, nothing else does.

    Source: LLaMA-VID (Li et al., 2024), section 3.1; llamavid/model/llamavid_arch.py, ``vlm_attention`` and
    ``token_generation``. Published sizes are BERT-base's.

    Args:
        content_grid: squares of patches along each side: 1 is the mean of all, 0 keeps every patch. What a square
            leaves over at the right and bottom edge is left out, as published.
        intermediate: hidden width of the Q-Former's MLPs; None is four times the width.
        norm_epsilon: of the LayerNorm over the features that the Q-Former reads.
        instruction_vocabulary: rows of the word embedding, BERT's and [DEC]; 0: the tokenizer's and one more.
        max_positions: longest text in tokens.
        initial: an InstructBLIP checkpoint whose Q-Former this one begins as.
    """

    reads_instruction: ClassVar[bool] = True

    kind: str = "context_content"
    content_grid: int = 1
    num_queries: int = 32
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate: int | None = None
    cross_attention_every: int = 2
    dropout: float = 0.1
    norm_epsilon: float = 1e-5
    instruction_tokenizer: str = "bert-base-uncased"
    instruction_vocabulary: int = 30523
    max_instruction_length: int = 256
    max_positions: int = 512
    initial: str = ""

    def build(
        self, *, dim_in: int, dim_out: int, grid: tuple[int, int], num_features: int, instruction_vocabulary: int = 0
    ) -> "ContextContentConnector":
        """Raises ZooError for more squares than patches, and for a tokenizer with more entries than rows."""
        rows = instruction_rows(self.instruction_vocabulary, instruction_vocabulary)
        if not 0 <= self.content_grid <= min(grid):
            raise ZooError(
                f"connector.content_grid is {self.content_grid}, the encoder has {grid[0]} x {grid[1]} patches; give no"
                " more squares than patches along a side, or 0 for all patches"
            )
        return ContextContentConnector(self, dim_in, dim_out, grid, num_features, rows)


class ContextContentConnector(Connector):
    """The context token and then the content tokens of each frame, frame after frame."""

    initial_names = MappingProxyType({"norm.": "norm.", "body.": "body.", "embeddings.": "embeddings."})

    def __init__(
        self,
        config: ContextContent,
        dim_in: int,
        dim_out: int,
        grid: tuple[int, int],
        num_features: int,
        vocabulary: int,
    ) -> None:
        super().__init__()
        self.grid, self.has_class_token = grid, num_features == grid[0] * grid[1] + 1
        # The side of a square; a rectangular map has squares of its own height and width.
        self.square = tuple(side // config.content_grid for side in grid) if config.content_grid else (1, 1)
        self.norm = Float32LayerNorm(dim_in, eps=config.norm_epsilon)
        self.body = QFormerBody(
            dim_in,
            num_queries=config.num_queries,
            dim=config.width,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            intermediate=config.intermediate,
            cross_attention_every=config.cross_attention_every,
            has_text=True,
            dropout=config.dropout,
        )
        self.embeddings = TextEmbeddings(vocabulary, config.width, config.max_positions)
        self.query = nn.Linear(config.width, dim_in)
        self.key = nn.Linear(dim_in, dim_in)
        self.context = nn.Linear(dim_in, dim_out)
        self.content = nn.ModuleList([nn.Linear(dim_in, dim_out), nn.Linear(dim_out, dim_out)])

    @property
    def num_content_tokens(self) -> int:
        """Of a frame."""
        return (self.grid[0] // self.square[0]) * (self.grid[1] // self.square[1])

    def num_tokens(self, num_frames: Sequence[int], is_video: Sequence[bool]) -> list[int]:
        return [frames * (1 + self.num_content_tokens) for frames in num_frames]

    def forward(self, features: "Features", context: ConnectorContext) -> Tensor:
        """(frames, tokens, dim_in) -> (sum of num_tokens, dim_out). Raises ZooError without instruction."""
        queries = instructed_queries(self.body, self.embeddings, self.norm(features.tokens), context)
        patches = features.tokens[:, int(self.has_class_token) :]
        scores = self.query(queries) @ self.key(patches).transpose(1, 2) / patches.shape[-1] ** 0.5
        found = (scores.softmax(dim=-1) @ patches).mean(dim=1, keepdim=True)  # (frames, 1, dim_in)
        content = self.content[1](functional.gelu(self.content[0](self._pool(patches))))
        return torch.cat([self.context(found), content], dim=1).flatten(0, 1)

    def _pool(self, patches: Tensor) -> Tensor:
        """(frames, patches, dim_in) -> (frames, content tokens, dim_in)."""
        if self.square == (1, 1):
            return patches
        maps = patches.transpose(1, 2).unflatten(2, self.grid)
        return functional.avg_pool2d(maps, self.square).flatten(2).transpose(1, 2)
