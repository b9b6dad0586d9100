"""The Q-Former's network: learned queries that read image tokens through a BERT, text beside them where wanted.

Source: BLIP-2 (Li et al., 2023), section 3.1; LAVIS, lavis/models/blip2_models/Qformer.py. Post-LN as in BERT.
"""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from transformers.activations import ACT2FN

from zoo.attention import split_heads
from zoo.errors import ZooError


class Float32LayerNorm(nn.LayerNorm):
    """LayerNorm over the encoder's tokens (LAVIS's ``ln_vision``), in float32 inside: an encoder may be half."""

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return functional.layer_norm(input.float(), self.normalized_shape, weight, bias, self.eps).to(input.dtype)


class PostNormAttention(nn.Module):
    """LN(x + output(attention(x, keys))): ``keys`` is x itself or what a cross-attention reads."""

    def __init__(self, dim: int, dim_keys: int, *, num_heads: int, dropout: float, epsilon: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim_keys, dim)
        self.value = nn.Linear(dim_keys, dim)
        self.output = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=epsilon)

    def forward(self, x: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (batch, rows, dim), keys (batch, length, dim_keys), mask bool, broadcastable to (batch, rows, length)."""
        attended = functional.scaled_dot_product_attention(
            split_heads(self.query(x), self.num_heads),
            split_heads(self.key(keys), self.num_heads),
            split_heads(self.value(keys), self.num_heads),
            attn_mask=None if mask is None else mask[:, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended = self.output(attended.transpose(1, 2).flatten(2))
        return self.norm(x + functional.dropout(attended, self.dropout, self.training))


class PostNormMLP(nn.Module):
    """LN(x + down(activation(up(x))))."""

    def __init__(self, dim: int, hidden: int, *, activation: str, dropout: float, epsilon: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.up = nn.Linear(dim, hidden)
        self.activation = ACT2FN[activation]
        self.down = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim, eps=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + functional.dropout(self.down(self.activation(self.up(x))), self.dropout, self.training))


class QFormerLayer(nn.Module):
    """Self-attention over queries and text together; cross-attention for the queries; an MLP for each of the two."""

    def __init__(
        self,
        dim: int,
        dim_in: int,
        *,
        num_heads: int,
        intermediate: int,
        has_cross_attention: bool,
        has_text: bool,
        activation: str,
        dropout: float,
        epsilon: float,
    ) -> None:
        super().__init__()
        common = {"dropout": dropout, "epsilon": epsilon}
        self.attention = PostNormAttention(dim, dim, num_heads=num_heads, **common)
        self.cross_attention = None
        if has_cross_attention:
            self.cross_attention = PostNormAttention(dim, dim_in, num_heads=num_heads, **common)
        self.query_mlp = PostNormMLP(dim, intermediate, activation=activation, **common)
        self.text_mlp = PostNormMLP(dim, intermediate, activation=activation, **common) if has_text else None

    def forward(
        self,
        x: Tensor,
        features: Tensor | None,
        *,
        num_queries: int,
        mask: Tensor | None,
        features_mask: Tensor | None,
        only_queries: bool,
    ) -> Tensor:
        """x (batch, queries + text, dim) -> the same shape, or (batch, queries, dim) for ``only_queries``."""
        if only_queries and x.shape[1] > num_queries:
            mask = mask if mask is None or mask.shape[1] == 1 else mask[:, :num_queries]
            x = self.attention(x[:, :num_queries], x, mask)
        else:
            x = self.attention(x, x, mask)
        queries, text = x[:, :num_queries], x[:, num_queries:]
        if num_queries:
            if self.cross_attention is not None:
                queries = self.cross_attention(queries, features, features_mask)
            queries = self.query_mlp(queries)
        if not text.shape[1]:
            return queries
        assert self.text_mlp is not None, "this Q-Former was built without text"
        return torch.cat([queries, self.text_mlp(text)], dim=1)


class QFormerBody(nn.Module):
    """Queries, layers and nothing around them: no projection, no text embeddings, no norm of the features.

    Reusable wherever a fixed number of tokens has to be read out of many: the image Q-Former (cross-attention in every
    second layer, twelve layers) and the video Q-Former of Video-LLaMA (``cross_attention_every=1``, two layers).

    Args:
        dim_in: width of what the queries read.
        num_queries: learned queries, the tokens that come out.
        dim: width of the queries.
        intermediate: hidden width of the MLPs; 4 * dim unless given.
        cross_attention_every: layers 0, n, 2n, ... have cross-attention.
        has_text: layers have an MLP for text as well.
        dropout: on attention weights and on the output of every sub-layer.
        epsilon: of every LayerNorm.
    """

    def __init__(
        self,
        dim_in: int,
        *,
        num_queries: int = 32,
        dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        intermediate: int | None = None,
        cross_attention_every: int = 2,
        has_text: bool = False,
        activation: str = "gelu",
        dropout: float = 0.1,
        epsilon: float = 1e-12,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ZooError(f"Q-Former: width {dim} is not a multiple of {num_heads} heads; change one of them")
        self.dropout = dropout
        self.queries = nn.Parameter(torch.empty(1, num_queries, dim))
        self.norm = nn.LayerNorm(dim, eps=epsilon)
        self.layers = nn.ModuleList(
            QFormerLayer(
                dim,
                dim_in,
                num_heads=num_heads,
                intermediate=4 * dim if intermediate is None else intermediate,
                has_cross_attention=number % cross_attention_every == 0,
                has_text=has_text,
                activation=activation,
                dropout=dropout,
                epsilon=epsilon,
            )
            for number in range(num_layers)
        )
        nn.init.normal_(self.queries, std=0.02)
        initialise(self, dim)

    @property
    def num_queries(self) -> int:
        return self.queries.shape[1]

    def forward(
        self,
        features: Tensor | None,
        *,
        features_mask: Tensor | None = None,
        text: Tensor | None = None,
        mask: Tensor | None = None,
        only_queries: bool = False,
    ) -> Tensor:
        """Read ``features`` with the queries, beside ``text``.

        Args:
            features: (batch, tokens, dim_in). None leaves the queries out: the text alone is encoded.
            features_mask: (batch, tokens) bool, False where the queries must not look; no row may be all False.
            text: (batch, length, dim), the embeddings of the text before the LayerNorm that queries and text share.
            mask: bool, broadcastable to (batch, queries + length, queries + length), who sees whom; None: all see all.
            only_queries: leave out what only the text's own output needs.

        Returns:
            (batch, queries + length, dim), or (batch, queries, dim) for ``only_queries``.
        """
        parts = [] if features is None else [self.queries.expand(len(features), -1, -1)]
        parts += [] if text is None else [text]
        x = functional.dropout(self.norm(torch.cat(parts, dim=1)), self.dropout, self.training)
        for layer in self.layers:
            x = layer(
                x,
                features,
                num_queries=0 if features is None else self.num_queries,
                mask=mask,
                features_mask=None if features_mask is None else features_mask[:, None],
                only_queries=only_queries and layer is self.layers[-1],
            )
        return x


class TextEmbeddings(nn.Module):
    """Word plus absolute position; no token type, no norm (the body has the one that queries and text share)."""

    def __init__(self, vocabulary: int, dim: int, max_length: int = 512) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim)
        self.positions = nn.Embedding(max_length, dim)
        initialise(self, dim)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (batch, length) -> (batch, length, dim)."""
        return self.words(ids) + self.positions.weight[: ids.shape[1]]


def initialise(module: nn.Module, dim: int) -> None:
    """BERT's initial values below a module: normal with deviation 0.02, biases zero.

    At other widths than BERT's 768 the deviation is such that sub-layers give outputs of the same size beside what they
    are added to; with 0.02, a narrow Q-Former passes on nothing at first.
    """
    deviation = 0.02 * (768 / dim) ** 0.5
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Embedding):
            nn.init.normal_(child.weight, std=deviation)
        if isinstance(child, nn.Linear) and child.bias is not None:
            nn.init.zeros_(child.bias)
