"""Our attention function inside transformers' models, through its attention and its mask interface.

With the attention interface alone transformers builds no mask at all for a name it does not know, and padding is
attended to silently. So the mask interface gets the same names, with the builder of boolean masks (True = attend).
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from zoo.attention.backends import BACKENDS, Backend, Options, attend_with_weights
from zoo.attention.mask import AttentionMask
from zoo.errors import ZooError, nearest

NAMES = {backend: "zoo" if backend == "auto" else f"zoo_{backend}" for backend in BACKENDS}


def register() -> None:
    """Make "zoo" (automatic), "zoo_xformers", "zoo_sdpa", "zoo_eager" known to transformers. Harmless when repeated."""
    for backend, name in NAMES.items():
        AttentionInterface.register(name, partial(attention_forward, backend=backend))
        AttentionMaskInterface.register(name, sdpa_mask)


def use(model: PreTrainedModel, backend: Backend = "auto") -> None:
    """Route every attention of ``model``, submodels included, through ``attend``.

    A packed batch then takes ``zoo_mask=AttentionMask.from_documents(ids, causal=True)`` beside the other inputs of the
    model's forward. Give it ``attention_mask`` of ones (batch, length) as well: then transformers builds no dense mask.

    Raises ZooError for an unknown backend and for a model whose attention cannot be exchanged.
    """
    if backend not in NAMES:
        raise ZooError(f"attention backend {backend!r} is unknown.{nearest(str(backend), BACKENDS)}")
    register()
    try:
        model.set_attn_implementation(NAMES[backend])
    except ValueError as error:
        raise ZooError(
            f"{type(model).__name__} does not take attention {NAMES[backend]!r} ({str(error).splitlines()[0]}); "
            "use backend 'auto' or 'eager'"
        ) from error
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation != NAMES[backend]:
            raise ZooError(
                f"{type(module).__name__} does not take its attention through transformers' AttentionInterface; "
                "leave its attention as it is or choose another model"
            )


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    zoo_mask: AttentionMask | None = None,
    *,
    backend: str,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The signature that transformers calls: (batch, heads, length, head_dim) in, (batch, length, heads, head_dim) out.

    ``attention_mask`` is None (causal or not, as the module says), bool (True = attend) or float (added), broadcastable
    to (batch, heads, queries, keys). ``zoo_mask`` replaces it. A sliding window arrives within ``attention_mask``.
    The second result are the weights where the eager backend ran, else None.
    """
    for name in ("s_aux", "cache"):
        if kwargs.get(name) is not None:
            raise ZooError(
                f"{type(module).__name__} hands {name!r} to attention, which zoo's has no support for; use 'eager'"
            )
    bias, mask = position_bias, zoo_mask
    if zoo_mask is not None:
        if sliding_window is not None and key.shape[2] > sliding_window:
            raise ZooError(
                f"zoo_mask beside a sliding window of {sliding_window} for {key.shape[2]} keys would widen the window; "
                "give a 4-D boolean attention_mask instead"
            )
    elif attention_mask is None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        queries = query.shape[2]
        if causal and queries > 1:
            mask = AttentionMask(causal=True)
            # Further keys are the unwritten places of a static cache, not a past: a past comes with a mask.
            key, value = key[:, :, :queries], value[:, :, :queries]
            bias = None if bias is None else bias[..., :queries]
    elif attention_mask.dtype == torch.bool:
        mask = AttentionMask.from_dense(attention_mask)
    else:
        bias = attention_mask if bias is None else bias + attention_mask
    options = Options(scale=scaling, dropout=dropout, bias=bias, softcap=softcap)
    output, weights = attend_with_weights(query, key, value, mask, options, backend)
    return output.transpose(1, 2).contiguous(), weights
