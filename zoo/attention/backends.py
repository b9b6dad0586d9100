"""One attention function over three backends that agree, forward and backward.

Layout: query (batch, heads, queries, head_dim), key and value (batch, key-value heads, keys, head_dim).
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from zoo.attention.inputs import Options, dense_mask, prepare, repeat_heads, zeroed
from zoo.attention.mask import AttentionMask
from zoo.attention.xformers import find_xformers
from zoo.errors import ZooError, nearest

Backend = Literal["auto", "xformers", "sdpa", "eager"]
BACKENDS = ("auto", "xformers", "sdpa", "eager")


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: AttentionMask | None = None,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
    backend: Backend = "auto",
    bias: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """softmax(query key^T * scale + bias, where the mask allows) value -> (batch, heads, queries, head_dim of value).

    Heads may be a multiple of the key-value heads (grouped queries); a batch of 1 broadcasts.
    scale: 1 / sqrt(head_dim) unless given.
    dropout: applied as given; hand over 0.0 in evaluation.
    bias: float, broadcastable to (batch, heads, queries, keys), added to the scores.
    softcap: squashes the scores to (-softcap, softcap) before bias and mask (Gemma 2).
    A query that may attend to no key (by the mask, or by a row of -inf in the bias) gets zeros, on every backend.

    ``auto`` takes xformers where it has an operator for these inputs, otherwise SDPA (eager for a softcap, which the
    others lack). Raises ZooError for shapes that do not fit and for an explicit backend that cannot do it.
    """
    options = Options(scale=scale, dropout=dropout, bias=bias, softcap=softcap)
    return attend_with_weights(query, key, value, mask, options, backend)[0]


def attend_with_weights(
    query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask | None, options: Options, backend: str
) -> tuple[Tensor, Tensor | None]:
    """``attend``, and the weights (batch, heads, queries, keys) where the eager backend ran, else None."""
    if backend not in BACKENDS:
        raise ZooError(f"attention backend {backend!r} is unknown.{nearest(str(backend), BACKENDS)}")
    query, key, value = prepare(query, key, value)
    if options.softcap is not None:
        if backend in ("xformers", "sdpa"):
            raise ZooError(f"attention backend {backend!r} has no softcap; use backend 'eager' or 'auto'")
        backend = "eager"
    if backend in ("auto", "xformers"):
        found = find_xformers(query, key, value, mask, options)
        if not isinstance(found, str):
            return found(), None
        if backend == "xformers":
            raise ZooError(f"attention backend 'xformers' is refused: {found}; use backend 'auto' or 'sdpa'")
    if backend == "eager":
        return _eager(query, key, value, mask, options)
    return _sdpa(query, key, value, mask, options), None


def _eager(
    query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask | None, options: Options
) -> tuple[Tensor, Tensor]:
    scale = query.shape[-1] ** -0.5 if options.scale is None else options.scale
    scores = query @ repeat_heads(key, query.shape[1]).transpose(2, 3) * scale
    if options.softcap is not None:
        scores = torch.tanh(scores / options.softcap) * options.softcap
    tensor, empty = dense_mask(query, key, mask, options.bias)
    if tensor is not None:
        scores = scores.masked_fill(~tensor, -math.inf) if tensor.dtype == torch.bool else scores + tensor
    # Half precision loses the small weights of long rows; double stays double for gradient checks.
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(query.dtype)
    weights = zeroed(functional.dropout(weights, options.dropout), empty)
    return weights @ repeat_heads(value, query.shape[1]), weights


def _sdpa(query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask | None, options: Options) -> Tensor:
    # SDPA aligns is_causal at the top left, which is the bottom right only for as many queries as keys.
    is_causal = mask is not None and mask.only_causal and query.shape[2] == key.shape[2] and options.bias is None
    tensor, empty = (None, None) if is_causal else dense_mask(query, key, mask, options.bias)
    # With a mask, grouped queries fall back to the slow kernel on CUDA; repeating the heads does not.
    grouped = tensor is None and query.shape[1] != key.shape[1]
    if not grouped:
        key, value = repeat_heads(key, query.shape[1]), repeat_heads(value, query.shape[1])
    output = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=tensor,
        dropout_p=options.dropout,
        is_causal=is_causal,
        scale=options.scale,
        enable_gqa=grouped,
    )
    return zeroed(output, empty)


def split_heads(states: Tensor, num_heads: int) -> Tensor:
    """(batch, length, heads * head_dim) -> (batch, heads, length, head_dim), as ``attend`` takes them."""
    return states.unflatten(-1, (num_heads, -1)).transpose(1, 2)
