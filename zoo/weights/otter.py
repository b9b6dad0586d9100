"""Otter's checkpoints (luodian/OTTER-*, luodian/openflamingo-9b-hf): all of OpenFlamingo, with a config.json.

Tower, language model and vocabulary with the added tokens are in the file, unlike in OpenFlamingo's own.

Source: Luodian/Otter, flamingo/modeling_flamingo.py and converting_flamingo_to_hf.py.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoConfig, CLIPVisionConfig

from zoo.connectors import Resampler
from zoo.definition import Method
from zoo.errors import ZooError
from zoo.fusion import GatedCrossAttention
from zoo.registry import get_method
from zoo.weights.checkpoint_config import architecture, language_model, parse
from zoo.weights.layouts import Layout, Rule, register_layout
from zoo.weights.openflamingo import BLOCK_NAMES, HEAD_DIM, RESAMPLER_NAMES, pairs

_BODY, _HEAD = "model.", "lm_head."
# OpenFlamingo's names with the lists of the resampler's and of the blocks' sub-layers resolved.
_RESAMPLER = tuple(
    (theirs.removeprefix("0.") if theirs.startswith("0.") else theirs.replace("1.", "feed_forward.", 1), ours)
    for theirs, ours in RESAMPLER_NAMES
)
_BLOCK = tuple((theirs.replace("ff.", "feed_forward.", 1), ours) for theirs, ours in BLOCK_NAMES)
_TOWER = "vision_encoder.vision_model."


def _is_otter(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") in ("otter", "flamingo") and "perceiver.latents" in keys


def _layers(keys: Collection[str], pattern: str) -> set[int]:
    return {int(found[1]) for key in keys if (found := re.match(pattern, key))}


def _rules(layers: Collection[int], every: int) -> list[tuple[str, str]]:
    named = pairs(_BODY, _HEAD, layers, every, resampler=_RESAMPLER, block=_BLOCK)
    return [(_TOWER, "encoder.model."), *named]


def _to_canonical(keys: Collection[str]) -> tuple[Rule, ...]:
    layers = _layers(keys, r"lang_encoder\.model\.layers\.(\d+)\.")
    gated = _layers(keys, r"lang_encoder\.model\.layers\.(\d+)\.gated_cross_attn_layer\.")
    if not gated:
        raise ZooError(
            "layout otter: gated layers of another language model than LLaMA; checkpoints on MPT are not supported, "
            "take one on LLaMA-7B"
        )
    return tuple(Rule(theirs, ours) for theirs, ours in _rules(layers, min(gated) + 1))


def _from_canonical(keys: Collection[str]) -> tuple[Rule, ...]:
    layers = _layers(keys, r"language_model\.model\.model\.layers\.(\d+)\.")
    blocks = _layers(keys, r"fusion\.blocks\.(\d+)\.")
    return tuple(Rule(ours, theirs) for theirs, ours in _rules(layers, len(layers) // max(1, len(blocks))))


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the weights say that config.json does not."""
    block = next(key for key in weights if key.endswith(".gated_cross_attn_layer.attn.to_q.weight"))
    resampler = {
        "num_latents": len(weights["perceiver.latents"]),
        "depth": len(_layers(weights, r"perceiver\.layers\.(\d+)\.")),
        "num_heads": len(weights["perceiver.layers.0.to_q.weight"]) // HEAD_DIM,
        "num_frame_embeddings": len(weights["perceiver.frame_embs"]) if "perceiver.frame_embs" in weights else 0,
    }
    return {"resampler": resampler, "num_block_heads": len(weights[block]) // HEAD_DIM}


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    base, text = get_method("otter"), dict(config["text_config"])
    vision = parse(lambda: CLIPVisionConfig.from_dict(dict(config["vision_config"])), folder)
    parsed = parse(lambda: AutoConfig.for_model(text.pop("model_type"), **text), folder)
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(base.encoder, id="", revision=None, architecture=architecture(vision)),
        connector=Resampler(head_dim=HEAD_DIM, **config["resampler"]),
        fusion=GatedCrossAttention(
            every=config["cross_attn_every_n_layers"], num_heads=config["num_block_heads"], head_dim=HEAD_DIM
        ),
        language_model=dataclasses.replace(language_model(architecture(parsed), folder), has_added_tokens=True),
    )


OTTER = register_layout(
    Layout(
        name="otter",
        matches=_is_otter,
        method_from_config=_method,
        to_canonical=_to_canonical,
        from_canonical=_from_canonical,
        config_from_weights=_sizes,
        constants=(".rotary_emb.inv_freq", ".embeddings.position_ids"),
    )
)
