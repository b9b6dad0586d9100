"""The xformers backend: its layout, and the reasons for which it refuses.

xformers is optional and imported on first use only. Beside a torch that it was not built for it imports without its
operators, so what can run is asked of the operators themselves, for the very inputs.
"""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zoo.attention.inputs import Options, dense_mask, prepare, repeat_heads, zeroed
from zoo.attention.mask import AttentionMask, FlatAttention, import_xformers
from zoo.errors import ZooError


def why_not_xformers(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    mask: AttentionMask | None = None,
    *,
    dropout: float = 0.0,
    bias: Tensor | None = None,
) -> str | None:
    """One reason why xformers cannot serve these inputs, or None if it can. Key and value default to the query."""
    key = query if key is None else key
    query, key, value = prepare(query, key, key if value is None else value)
    found = find_xformers(query, key, value, mask, Options(dropout=dropout, bias=bias))
    return found if isinstance(found, str) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class XformersInputs:
    """xformers' own inputs, tensors (batch, length, heads, head_dim), and the way back to ours."""

    inputs: Any
    flat: FlatAttention
    empty: Tensor | None
    batch: int
    queries: int

    def run(self, attention: Callable[[Any], Tensor]) -> Tensor:
        """(batch, heads, queries, head_dim) from ``attention``, which takes xformers' inputs to its output."""
        # Without a single query that attends to something there is nothing to call a kernel with.
        output = attention(self.inputs) if self.inputs.query.shape[1] else self.inputs.value[:, :0]
        return zeroed(self.flat.scatter(output, self.batch, self.queries).transpose(1, 2), self.empty)


def find_xformers(
    query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask | None, options: Options
) -> Callable[[], Tensor] | str:
    """The attention over these inputs as a function to call, or the reason why xformers refuses them."""
    # Cheap refusals first: importing xformers takes seconds, and a CPU never has an operator.
    if importlib.util.find_spec("xformers") is None:
        return "xformers is not installed"
    if query.device.type != "cuda":
        return f"xformers has no operator on {query.device.type}"
    if not query.dtype == key.dtype == value.dtype:
        return f"query, key and value are {query.dtype}, {key.dtype} and {value.dtype}; xformers needs one dtype"
    try:
        fmha = import_xformers()
    except ZooError as error:
        return str(error)
    needs_gradient = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (query, key, value, options.bias)
    )
    # What refuses the bare tensors (dtype, head size, generation of GPU) is known before anything is gathered.
    bare = fmha.Inputs(*(tensor.transpose(1, 2) for tensor in (query, key, value)), p=options.dropout)
    operators = _operators(fmha, bare, needs_gradient)
    if isinstance(operators, str):
        return operators
    laid_out = lay_out(fmha, query, key, value, mask, options)
    operators = _operators(fmha, laid_out.inputs, needs_gradient)
    if isinstance(operators, str):
        return operators

    def attention(inputs: Any) -> Tensor:
        return fmha.memory_efficient_attention(
            inputs.query, inputs.key, inputs.value, inputs.attn_bias, p=inputs.p, scale=inputs.scale, op=operators
        )

    return lambda: laid_out.run(attention)


def lay_out(
    fmha: ModuleType, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask | None, options: Options
) -> XformersInputs:
    """Tensors in our layout -> xformers' inputs; a bias class where the mask has one, else a tensor bias."""
    batch, num_heads, queries, _ = query.shape
    keys, empty = key.shape[2], None
    if options.bias is None and (mask is None or mask.allowed is None):
        flat = (mask or AttentionMask()).to_xformers(batch, queries, keys, query.device)
    else:
        tensor, empty = dense_mask(query, key, mask, options.bias)
        flat = FlatAttention(bias=_tensor_bias(tensor, query, keys))
    inputs = fmha.Inputs(
        query=flat.flatten_queries(query.transpose(1, 2)),
        key=flat.flatten_keys(repeat_heads(key, num_heads).transpose(1, 2)),
        value=flat.flatten_keys(repeat_heads(value, num_heads).transpose(1, 2)),
        attn_bias=flat.bias,
        p=options.dropout,
        scale=options.scale,
    )
    return XformersInputs(inputs=inputs, flat=flat, empty=empty, batch=batch, queries=queries)


def _operators(fmha: ModuleType, inputs: Any, needs_gradient: bool) -> tuple[Any, Any] | str:
    """The first pair of forward and backward operators that takes the inputs, or the reason of the last to refuse.

    Flash is the faster where it applies; CUTLASS takes more inputs, so its refusal is the telling one.
    """
    reason = ""
    for pair in (fmha.MemoryEfficientAttentionFlashAttentionOp, fmha.MemoryEfficientAttentionCutlassOp):
        used = pair if needs_gradient else pair[:1]
        reasons = [reason for operator in used for reason in operator.not_supported_reasons(inputs)]
        if not reasons:
            return pair
        reason = f"xformers' operator {pair[0].NAME} refuses: {'; '.join(dict.fromkeys(reasons))}"
    return " ".join(reason.split())


def _tensor_bias(tensor: Tensor, query: Tensor, keys: int) -> Tensor:
    """Additive (batch, heads, queries, keys) whose rows start at multiples of 8 elements, as the kernels need."""
    if tensor.dtype == torch.bool:
        tensor = torch.zeros_like(tensor, dtype=query.dtype).masked_fill(~tensor, -math.inf)
    tensor = tensor.expand(*query.shape[:3], keys)
    return functional.pad(tensor, (0, -keys % 8)).contiguous()[..., :keys]
