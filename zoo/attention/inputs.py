"""What every backend does to its inputs: shapes, grouped heads, mask and bias as one dense tensor."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.attention.mask import AttentionMask
from zoo.errors import ZooError


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """What attention takes beside query, key, value and mask; see ``attend``."""

    scale: float | None = None
    dropout: float = 0.0
    bias: Tensor | None = None
    softcap: float | None = None


def prepare(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of one batch size and, under autocast, one dtype. Raises ZooError where they do not fit."""
    fits = (
        query.ndim == key.ndim == value.ndim == 4
        and key.shape[:3] == value.shape[:3]
        and query.shape[3] == key.shape[3]
        and query.shape[1] % key.shape[1] == 0
        and (query.shape[0] == key.shape[0] or 1 in (query.shape[0], key.shape[0]))
    )
    if not fits:
        raise ZooError(
            f"attention: query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)} do not fit; "
            "give (batch, heads, length, head_dim) with heads a multiple of the key-value heads"
        )
    # Under autocast the three often differ (rotary embeddings promote query and key); SDPA casts, the others would not.
    device = query.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) and query.dtype != torch.float64:
        query, key, value = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (query, key, value))
    batch = max(query.shape[0], key.shape[0])
    query, key, value = (tensor.expand(batch, -1, -1, -1) for tensor in (query, key, value))
    return query, key, value


def repeat_heads(tensor: Tensor, num_heads: int) -> Tensor:
    """(batch, key-value heads, keys, head_dim) -> (batch, num_heads, keys, head_dim), for grouped queries."""
    return tensor if tensor.shape[1] == num_heads else tensor.repeat_interleave(num_heads // tensor.shape[1], dim=1)


def dense_mask(
    query: Tensor, key: Tensor, mask: AttentionMask | None, bias: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Mask and bias as one tensor (bool, or float to add), and the queries that attend to nothing.

    Those queries are opened to every key, and their output is zeroed afterwards: a softmax over nothing would be NaN
    forward and, on some kernels, poison the gradient of the others.
    """
    queries, keys = query.shape[2], key.shape[2]
    allowed = None
    if mask is not None and not mask.is_full(queries, keys):
        allowed = mask.dense(queries, keys, query.device)
    for name, tensor in (("mask", allowed), ("bias", bias)):
        if tensor is not None and not _broadcasts(tensor, (*query.shape[:3], keys)):
            raise ZooError(
                f"attention {name} of {tuple(tensor.shape)} does not broadcast to {(*query.shape[:3], keys)}; "
                "give (batch or 1, heads or 1, queries, keys)"
            )
    if bias is not None:
        bias = bias.to(query.dtype)
        if allowed is not None:
            bias = bias.masked_fill(~allowed, -math.inf)
        empty = bias.isneginf().all(-1, keepdim=True)
        return bias.masked_fill(empty, 0.0), empty
    if allowed is None:
        return None, None
    empty = ~allowed.any(-1, keepdim=True)
    return allowed | empty, empty


def _broadcasts(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    return tensor.ndim == len(shape) and all(size in (1, wanted) for size, wanted in zip(tensor.shape, shape))


def zeroed(output: Tensor, empty: Tensor | None) -> Tensor:
    """The output with zeros for the queries that attend to nothing, as ``dense_mask`` found them."""
    return output if empty is None else output.masked_fill(empty, 0.0)
