"""OpenFlamingo's checkpoints (``checkpoint.pt``): the trained parameters and the tables of token embeddings alone.

Tower and language model come from their own checkpoints, the latter named by the caller: the file does not say which.
"""

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.connectors import Resampler
from zoo.definition import Method
from zoo.errors import ZooError
from zoo.fusion import GatedCrossAttention
from zoo.language.added_vocabulary import ExtendedEmbedding, ExtendedLinear
from zoo.model import VLM
from zoo.registry import get_method
from zoo.weights.layouts import Layout, Rule, register_layout

Names = tuple[tuple[str, str], ...]
_MAX_DEPTH = 32
# No released model has another width; the number of heads follows from it.
HEAD_DIM = 64
RESAMPLER_NAMES: Names = (
    ("0.norm_media.", "attention.media_norm."),
    ("0.norm_latents.", "attention.latent_norm."),
    ("0.to_q.", "attention.query."),
    ("0.to_kv.", "attention.key_value."),
    ("0.to_out.", "attention.output."),
    ("1.0.", "mlp.norm."),
    ("1.1.", "mlp.input."),
    ("1.3.", "mlp.output."),
)
BLOCK_NAMES: Names = (
    ("attn.norm.", "attention.norm."),
    ("attn.to_q.", "attention.query."),
    ("attn.to_kv.", "attention.key_value."),
    ("attn.to_out.", "attention.output."),
    ("attn_gate", "attention_gate"),
    ("ff.0.", "mlp.norm."),
    ("ff.1.", "mlp.input."),
    ("ff.3.", "mlp.output."),
    ("ff_gate", "mlp_gate"),
)
# Where GPT-NeoX and LLaMA keep their layers, and their names of the output head there and here.
_FAMILIES = (("gpt_neox.", "embed_out."), ("model.", "lm_head."))
_GATED = re.compile(r"lang_encoder\.(gpt_neox\.|model\.)layers\.(\d+)\.gated_cross_attn_layer\.")


def pairs(
    body: str,
    head: str,
    layers: Collection[int],
    every: int,
    *,
    resampler: Names = RESAMPLER_NAMES,
    block: Names = BLOCK_NAMES,
) -> Iterator[tuple[str, str]]:
    """(OpenFlamingo's prefix, ours), the longer first, from (theirs, ours) below a layer of the resampler and a block.

    Prefixes of the frozen parts are in no released file.
    """
    for layer in sorted(layers):
        theirs, ours = f"lang_encoder.{body}layers.{layer}.", f"language_model.model.{body}layers.{layer}."
        if (layer + 1) % every == 0:
            for old, new in block:
                yield f"{theirs}gated_cross_attn_layer.{old}", f"fusion.blocks.{(layer + 1) // every - 1}.{new}"
        yield f"{theirs}decoder_layer.", ours
    for number in range(_MAX_DEPTH):
        for old, new in resampler:
            yield f"perceiver.layers.{number}.{old}", f"connector.layers.{number}.{new}"
    yield "perceiver.latents", "connector.latents"
    yield "perceiver.frame_embs", "connector.frame_embeddings"
    yield "perceiver.norm.", "connector.norm."
    yield f"lang_encoder.{head}", "language_model.model.lm_head."
    yield f"lang_encoder.{body}", f"language_model.model.{body}"
    yield "vision_encoder.", "encoder.model."


def _numbers(keys: Collection[str], pattern: str) -> set[int]:
    return {int(found[1]) for key in keys if (found := re.match(pattern, key))}


def _to_canonical(keys: Collection[str]) -> tuple[Rule, ...]:
    # Parallel training writes its wrapper's name into the keys.
    wrapper = "module." if all(key.startswith("module.") for key in keys) else ""
    plain = [key.removeprefix(wrapper) for key in keys]
    body, head = next((x for x in _FAMILIES if any(key.startswith(f"lang_encoder.{x[0]}") for key in plain)), ("", ""))
    gated = _numbers(plain, rf"lang_encoder\.{re.escape(body)}layers\.(\d+)\.gated_cross_attn_layer\.")
    if not body or not gated:
        raise ZooError(
            "layout openflamingo: gated layers of another language model than GPT-NeoX or LLaMA; MPT's checkpoints are "
            "not supported, take one on RedPajama-INCITE"
        )
    layers = gated | _numbers(plain, rf"lang_encoder\.{re.escape(body)}layers\.(\d+)\.")
    return tuple(Rule(wrapper + theirs, ours) for theirs, ours in pairs(body, head, layers, min(gated) + 1))


def _from_canonical(keys: Collection[str]) -> tuple[Rule, ...]:
    body, head = next(x for x in _FAMILIES if any(key.startswith(f"language_model.model.{x[0]}") for key in keys))
    layers = _numbers(keys, rf"language_model\.model\.{re.escape(body)}layers\.(\d+)\.")
    every = len(layers) // max(1, len(_numbers(keys, r"fusion\.blocks\.(\d+)\.")))
    return tuple(Rule(ours, theirs) for theirs, ours in pairs(body, head, layers, every))


def _is_openflamingo(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return not config and any(key.removeprefix("module.") == "perceiver.latents" for key in keys)


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the weights say of the model, by the names of our configs; ``state`` has their names in the file."""
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    gated = [int(found[2]) for key in state if (found := _GATED.match(key))]
    depth = len(_numbers(state, r"perceiver\.layers\.(\d+)\."))
    first = next(tensor for key, tensor in state.items() if key.endswith("gated_cross_attn_layer.attn.to_q.weight"))
    return {
        "num_latents": len(state["perceiver.latents"]),
        "depth": depth,
        "num_heads": len(state["perceiver.layers.0.0.to_q.weight"]) // HEAD_DIM,
        "num_frame_embeddings": len(state["perceiver.frame_embs"]) if "perceiver.frame_embs" in state else 0,
        "every": min(gated) + 1,
        "num_block_heads": len(first) // HEAD_DIM,
    }


def _method(sizes: Mapping[str, Any], folder: Path) -> Method:
    fields = ("num_latents", "depth", "num_heads", "num_frame_embeddings")
    return dataclasses.replace(
        get_method("openflamingo"),
        connector=Resampler(head_dim=HEAD_DIM, **{name: sizes[name] for name in fields}),
        fusion=GatedCrossAttention(every=sizes["every"], num_heads=sizes["num_block_heads"], head_dim=HEAD_DIM),
    )


def _fitted(state: Mapping[str, Tensor], model: VLM, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tables of a tokenizer with the added tokens at its end (and, there, padding) as base rows and added rows."""
    fitted = dict(state)
    network = model.language_model.model
    modules = {id(module): name for name, module in network.named_modules()}
    for module in (network.get_input_embeddings(), network.get_output_embeddings()):
        assert isinstance(module, ExtendedEmbedding | ExtendedLinear)
        key = f"language_model.model.{modules[id(module)]}"
        if f"{key}.weight" not in state:
            continue
        rows, first, number = state[f"{key}.weight"], module.first_added, len(module.added)
        if not first + number <= len(rows) <= first + number + 1 or rows.shape[1] != module.weight.shape[1]:
            raise ZooError(
                f"the checkpoint's table of {tuple(rows.shape)} is not that of a tokenizer with {first} tokens and "
                f"{number} added ones, for vectors of {module.weight.shape[1]}; give the base that it was trained on"
            )
        fitted[f"{key}.weight"] = torch.cat([rows[:first].to(module.weight), module.weight.detach()[first:]])
        fitted[f"{key}.added"] = rows[first : first + number]
    return fitted


OPENFLAMINGO = register_layout(
    Layout(
        name="openflamingo",
        matches=_is_openflamingo,
        method_from_config=_method,
        to_canonical=_to_canonical,
        from_canonical=_from_canonical,
        config_from_weights=_sizes,
        fit=_fitted,
        partial_language_model=True,
    )
)
