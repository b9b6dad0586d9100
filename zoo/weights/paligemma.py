"""Checkpoints of transformers' PaliGemma class: SigLIP, one linear layer, Gemma behind a prefix.

Versions before 5 divided the projected features by the square root of the width that Gemma multiplied all embeddings
by; the weights are the same.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import PaliGemmaConfig

from zoo.definition import Method
from zoo.registry import get_method
from zoo.weights.checkpoint_config import architecture, language_model, parse
from zoo.weights.layouts import Layout, register_layout
from zoo.weights.llava import IMAGE_TOKEN_FIELD, hf_rules

_PROJECTION = "multi_modal_projector.linear."


def _matches(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") == "paligemma" and any(_PROJECTION in key for key in keys)


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    parsed = parse(lambda: PaliGemmaConfig.from_dict(dict(config)), folder)
    base = get_method("paligemma")
    encoder = dataclasses.replace(base.encoder, id="", revision=None, architecture=architecture(parsed.vision_config))
    fields = architecture(parsed.text_config) | {
        # The prefix comes from the fusion's mask; by itself Gemma is causal.
        "use_bidirectional_attention": None,
        "tie_word_embeddings": bool(parsed.tie_word_embeddings),
        IMAGE_TOKEN_FIELD: parsed.image_token_index,
    }
    return dataclasses.replace(base, encoder=encoder, language_model=language_model(fields, folder))


PALIGEMMA_HF = register_layout(
    Layout(
        name="paligemma-hf",
        matches=_matches,
        method_from_config=_method,
        **hf_rules(((_PROJECTION, "connector.layers.0."),)),
        constants=(".rotary_emb.inv_freq", ".embeddings.position_ids", ".embed_scale"),
    )
)
