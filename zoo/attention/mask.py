"""One description of who attends to whom, and its translation to a dense mask or to xformers' bias classes.

The translation to xformers never builds a (queries, keys) matrix: real tokens are gathered into one row, a block for
each (batch row, document), and the blocks' lengths are all that the kernels need.
"""

import logging
import warnings
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError


@dataclass(frozen=True, kw_only=True, eq=False)
class FlatAttention:
    """An xformers bias with the rows to take from (batch, length, heads, head_dim) tensors and to put back.

    Indices count tokens of (batch * length); None means that the batch stays as it is.
    """

    bias: Any
    query_index: Tensor | None = None
    key_index: Tensor | None = None

    def flatten_queries(self, tensor: Tensor) -> Tensor:
        """(batch, queries, heads, head_dim) -> (1, real queries, heads, head_dim), or the tensor itself."""
        return tensor if self.query_index is None else tensor.flatten(0, 1)[self.query_index][None]

    def flatten_keys(self, tensor: Tensor) -> Tensor:
        """(batch, keys, heads, head_dim) -> (1, real keys, heads, head_dim), or the tensor itself."""
        return tensor if self.key_index is None else tensor.flatten(0, 1)[self.key_index][None]

    def scatter(self, tensor: Tensor, batch: int, queries: int) -> Tensor:
        """(1, real queries, heads, dim) -> (batch, queries, heads, dim); queries that attend nothing get zeros."""
        if self.query_index is None:
            return tensor
        rows = tensor.new_zeros(batch * queries, *tensor.shape[2:])
        return rows.index_copy(0, self.query_index, tensor[0]).unflatten(0, (batch, queries))


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionMask:
    """Which keys each query attends to. A query that may attend to nothing gets zeros, on every backend.

    causal: the last query sees every key and each query before it one key less (aligned at the bottom right, as with a
        key-value cache); with documents the same holds inside each document. Causal attention is self attention: the
        queries are the last positions of the keys, so key padding applies to them too.
    key_padding: (batch, keys) bool, True for a real token. Any pattern: left, right, holes.
    query_documents, key_documents: (batch, queries) and (batch, keys) integers; a query attends to the keys of its own
        document in its own row. A negative id is padding: it attends to nothing and nothing attends to it.
        A document's tokens need not be neighbours.
    allowed: (batch or 1, heads or 1, queries, keys) bool, an arbitrary mask; excludes the other fields.
    """

    causal: bool = False
    key_padding: Tensor | None = None
    query_documents: Tensor | None = None
    key_documents: Tensor | None = None
    allowed: Tensor | None = None

    def __post_init__(self) -> None:
        _check("key_padding", self.key_padding, 2, integer=False)
        _check("query_documents", self.query_documents, 2, integer=True)
        _check("key_documents", self.key_documents, 2, integer=True)
        _check("allowed", self.allowed, 4, integer=False)
        if (self.query_documents is None) != (self.key_documents is None):
            raise ZooError(
                "attention mask: documents need ids for queries and for keys; use AttentionMask.from_documents"
            )
        if self.key_padding is not None and self.key_documents is not None:
            raise ZooError(
                "attention mask: key_padding beside documents; mark padding by a negative document id instead"
            )
        if self.allowed is not None and (self.causal or self._structured):
            raise ZooError("attention mask: a dense mask beside another description; combine them before from_dense")
        # Not a field: dataclasses.replace (FSDP moves inputs with it) must start with an empty cache.
        object.__setattr__(self, "_cache", {})

    @classmethod
    def from_documents(
        cls, query_documents: Tensor, key_documents: Tensor | None = None, *, causal: bool = False
    ) -> "AttentionMask":
        """Packed rows; without ``key_documents`` self attention. Ids (batch, length), negative for padding."""
        keys = query_documents if key_documents is None else key_documents
        return cls(causal=causal, query_documents=query_documents, key_documents=keys)

    @classmethod
    def from_dense(cls, allowed: Tensor) -> "AttentionMask":
        """(batch or 1, heads or 1, queries, keys) bool, True where a query attends to a key."""
        return cls(allowed=allowed)

    @property
    def _structured(self) -> bool:
        return self.key_padding is not None or self.key_documents is not None

    @property
    def only_causal(self) -> bool:
        """Causal and nothing else."""
        return self.causal and not self._structured

    def is_full(self, queries: int, keys: int) -> bool:
        """Whether every query certainly attends to every key, judged without reading a tensor."""
        return self.allowed is None and not self._structured and (not self.causal or queries == 1 <= keys)

    def dense(self, queries: int, keys: int, device: torch.device | str | None = None) -> Tensor:
        """(batch or 1, heads or 1, queries, keys) bool, True where a query attends to a key."""
        return self._cached("dense", self._dense, queries, keys, torch.device(device or "cpu"))

    def to_xformers(
        self, batch: int, queries: int, keys: int, device: torch.device | str | None = None
    ) -> FlatAttention:
        """The xformers bias class for this mask and how to lay out queries and keys for it.

        Raises ZooError for an arbitrary dense mask, which has no such class, and where xformers is missing.
        """
        if self.allowed is not None:
            raise ZooError(
                "attention mask: an arbitrary dense mask has no xformers bias class; hand over a tensor bias"
            )
        return self._cached("flat", self._flat, batch, queries, keys, torch.device(device or "cpu"))

    def _cached(self, kind: str, make: Any, *arguments: Any) -> Any:
        # Every layer of a model asks for the same translation, and block lengths cost a device synchronisation.
        cache = self._cache  # type: ignore[attr-defined]
        if (kind, *arguments) not in cache:
            cache[(kind, *arguments)] = make(*arguments)
        return cache[(kind, *arguments)]

    def _dense(self, queries: int, keys: int, device: torch.device) -> Tensor:
        if self.allowed is not None:
            if tuple(self.allowed.shape[-2:]) not in {(queries, keys), (1, keys), (queries, 1), (1, 1)}:
                raise ZooError(
                    f"attention mask: dense mask of {tuple(self.allowed.shape)} for {queries} queries and {keys} keys; "
                    "give (batch or 1, heads or 1, queries, keys)"
                )
            return self.allowed.to(device)
        if not self._structured:
            full = torch.ones(1, 1, queries, keys, dtype=torch.bool, device=device)
            return full.tril(keys - queries) if self.causal else full
        query_ids, key_ids = self._ids(queries, keys, device)
        dense = (query_ids[:, :, None] == key_ids[:, None, :]) & (query_ids >= 0)[:, :, None]
        if self.causal:
            dense = dense & (_places_from_end(key_ids)[:, None, :] >= _places_from_end(query_ids)[:, :, None])
        return dense[:, None]

    def _ids(self, queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Document ids of queries and keys, (batch or 1, length) each; padding is one document and the rest -1."""
        if self.key_documents is not None:
            query_ids, key_ids = self.query_documents.to(device).long(), self.key_documents.to(device).long()
        elif self.key_padding is not None:
            key_ids = self.key_padding.to(device).long() - 1
            query_ids = torch.zeros(key_ids.shape[0], queries, dtype=torch.long, device=device)
            if self.causal:
                surplus = max(queries - key_ids.shape[1], 0)
                query_ids = torch.nn.functional.pad(key_ids, (surplus, 0), value=-1)[:, -queries:]
        else:
            key_ids = torch.zeros(1, keys, dtype=torch.long, device=device)
            query_ids = torch.zeros(1, queries, dtype=torch.long, device=device)
        if (query_ids.shape[1], key_ids.shape[1]) != (queries, keys):
            raise ZooError(
                f"attention mask: made for {query_ids.shape[1]} queries and {key_ids.shape[1]} keys but the tensors "
                f"have {queries} queries and {keys} keys; pad both the same way"
            )
        return query_ids, key_ids

    def _flat(self, batch: int, queries: int, keys: int, device: torch.device) -> FlatAttention:
        attn_bias = import_xformers().attn_bias
        if self.is_full(queries, keys):
            return FlatAttention(bias=None)
        # With more queries than keys the first queries attend to nothing and have to be left out.
        if self.only_causal and queries <= keys:
            same = queries == keys
            return FlatAttention(
                bias=attn_bias.LowerTriangularMask() if same else attn_bias.LowerTriangularFromBottomRightMask()
            )
        query_ids, key_ids = self._ids(queries, keys, device)
        query_index, key_index, num_queries, num_keys = _blocks(
            _expand(query_ids, batch), _expand(key_ids, batch), causal=self.causal
        )
        bias = None
        if num_queries:
            bias = attn_bias.BlockDiagonalMask.from_seqlens(num_queries, num_keys, device=device)
            if self.causal:
                bias = bias.make_causal() if num_queries == num_keys else bias.make_causal_from_bottomright()
        return FlatAttention(bias=bias, query_index=query_index, key_index=key_index)


def _check(name: str, tensor: Tensor | None, ndim: int, *, integer: bool) -> None:
    if tensor is None:
        return
    is_right = tensor.dtype != torch.bool and not tensor.is_floating_point() if integer else tensor.dtype == torch.bool
    if tensor.ndim != ndim or not is_right:
        raise ZooError(
            f"attention mask: {name} is {tensor.dtype} of {tuple(tensor.shape)}; "
            f"give {'integers' if integer else 'bool'} with {ndim} dimensions"
        )


def _expand(ids: Tensor, batch: int) -> Tensor:
    if ids.shape[0] not in (1, batch):
        raise ZooError(f"attention mask: made for a batch of {ids.shape[0]} but the tensors have a batch of {batch}")
    return ids.expand(batch, -1)


def _places_from_end(ids: Tensor) -> Tensor:
    """(batch, length) ids -> for each token the number of later tokens of its own document."""
    ordered, order = ids.sort(dim=1, stable=True)
    ends = torch.searchsorted(ordered, ordered, right=True)
    places = ends - 1 - torch.arange(ids.shape[1], device=ids.device)
    return torch.empty_like(places).scatter(1, order, places)


def _blocks(query_ids: Tensor, key_ids: Tensor, *, causal: bool) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """Indices of the tokens that take part, sorted into blocks, and the blocks' numbers of queries and of keys."""
    batch, device = query_ids.shape[0], query_ids.device
    num_ids = max(int(query_ids.max()), int(key_ids.max()), 0) + 1
    first_of_row = torch.arange(batch, device=device)[:, None] * num_ids
    blocks = []
    for ids in (query_ids, key_ids):
        real = (ids >= 0).flatten().nonzero().flatten()
        block, order = (ids + first_of_row).flatten()[real].sort(stable=True)
        blocks.append((real[order], block))
    (query_index, query_block), (key_index, key_block) = blocks
    # Ids may be sparse (hashes, line numbers): number the blocks that occur, not those that could.
    names, block = torch.cat([query_block, key_block]).unique(return_inverse=True)
    query_block, key_block = block[: len(query_block)], block[len(query_block) :]
    num_queries, num_keys = query_block.bincount(minlength=len(names)), key_block.bincount(minlength=len(names))
    if causal:
        place = torch.arange(len(query_block), device=device) - (num_queries.cumsum(0) - num_queries)[query_block]
        takes_part = place >= (num_queries - num_keys)[query_block]
        query_index, query_block = query_index[takes_part], query_block[takes_part]
        num_queries = torch.minimum(num_queries, num_keys)
    lives = (num_queries > 0) & (num_keys > 0)
    return (
        query_index[lives[query_block]],
        key_index[lives[key_block]],
        num_queries[lives].tolist(),
        num_keys[lives].tolist(),
    )


@cache
def import_xformers() -> ModuleType:
    """xformers' attention package; its complaints about a torch that it was not built for are kept quiet.

    Raises ZooError with the reason where it is missing or does not import.
    """
    logger = logging.getLogger("xformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from xformers.ops import fmha
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ZooError(
            f"xformers does not import ({type(error).__name__}: {error}); install one for this torch"
        ) from error
    finally:
        logger.setLevel(level)
    return fmha
