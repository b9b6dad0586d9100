"""transformers' layout of Kosmos-2 checkpoints (microsoft/kosmos-2-patch14-224)."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import Kosmos2Config

from zoo.connectors import LatentQueries
from zoo.definition import Method
from zoo.registry import get_method
from zoo.weights.checkpoint_config import architecture, language_model, parse
from zoo.weights.layouts import Layout, both_ways, register_layout

# (transformers' name, ours); the names of attention are those of fairseq.
_NAMES = (
    ("text_model.", "language_model.model."),
    ("vision_model.model.", "encoder.model."),
    ("image_to_text_projection.dense.", "connector.dense."),
    ("image_to_text_projection.latent_query", "connector.latents"),
    ("image_to_text_projection.x_attn.q_proj.", "connector.query."),
    ("image_to_text_projection.x_attn.k_proj.", "connector.key."),
    ("image_to_text_projection.x_attn.v_proj.", "connector.value."),
    ("image_to_text_projection.x_attn.out_proj.", "connector.output."),
)
_VISION_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
)


def _matches(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") == "kosmos-2" and any(key.startswith("image_to_text_projection.") for key in keys)


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    parsed = parse(lambda: Kosmos2Config.from_dict(dict(config)), folder)
    vision, text = parsed.vision_config, parsed.text_config
    base = get_method("kosmos-2")
    # The tower is CLIP's under another name.
    tower = {"model_type": "clip_vision_model", **{name: getattr(vision, name) for name in _VISION_FIELDS}}
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(base.encoder, id="", revision=None, architecture=tower),
        connector=LatentQueries(
            num_queries=parsed.latent_query_num, num_heads=text.attention_heads, dropout=text.attention_dropout
        ),
        language_model=dataclasses.replace(language_model(architecture(text), folder), has_added_tokens=True),
    )


KOSMOS_2_HF = register_layout(
    Layout(
        name="kosmos-2-hf",
        matches=_matches,
        method_from_config=_method,
        **both_ways(_NAMES),
        constants=(".position_ids", ".embed_positions.weights"),
    )
)
