"""Checkpoints of transformers' Florence-2 class (not those of the first release, whose code came with the files)."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import Florence2Config

from zoo.connectors import MeanAndPatches
from zoo.definition import Method
from zoo.encoders.davit import DaViTConfig
from zoo.errors import ZooError
from zoo.registry import get_method
from zoo.weights.checkpoint_config import architecture, language_model, parse
from zoo.weights.layouts import Layout, Rule, register_layout

_PROJECTOR = "model.multi_modal_projector."
_NAMES = (
    (f"{_PROJECTOR}image_projection.", "connector.projection."),
    (f"{_PROJECTOR}image_proj_norm.", "connector.norm."),
    (f"{_PROJECTOR}image_position_embed.row_embeddings.", "connector.rows."),
    (f"{_PROJECTOR}image_position_embed.column_embeddings.", "connector.columns."),
    (f"{_PROJECTOR}visual_temporal_embed.pos_idx_to_embed", "connector.times"),
    ("model.vision_tower.", "encoder.model."),
    ("model.language_model.", "language_model.model.model."),
    ("lm_head.", "language_model.model.lm_head."),
    # What the class leaves out of its language model.
    ("language_model.", "language_model.model."),
)
_BIAS = "language_model.model.final_logits_bias"


def _matches(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") == "florence2" and f"{_PROJECTOR}image_projection.weight" in keys


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    """``vision_config.image_size``, which the class does not have, is that of DaViT's default where it is missing."""
    parsed = parse(lambda: Florence2Config.from_dict(dict(config)), folder)
    vision = parsed.vision_config
    if vision.projection_dim != parsed.text_config.d_model:
        raise ZooError(
            f"{folder / 'config.json'}: projection_dim {vision.projection_dim} is not the language model's width "
            f"{parsed.text_config.d_model}; make them equal"
        )
    size = config.get("vision_config", {}).get("image_size", DaViTConfig().image_size)
    base = get_method("florence-2")
    connector = MeanAndPatches(max_side=vision.max_position_embeddings, max_frames=vision.max_temporal_embeddings)
    fields = architecture(parsed.text_config) | {"tie_word_embeddings": bool(parsed.tie_word_embeddings)}
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(
            base.encoder, id="", revision=None, architecture=architecture(vision) | {"image_size": size}
        ),
        connector=connector,
        language_model=language_model(fields, folder),
    )


FLORENCE_2_HF = register_layout(
    Layout(
        name="florence-2-hf",
        matches=_matches,
        method_from_config=_method,
        to_canonical=tuple(Rule(theirs, ours) for theirs, ours in _NAMES),
        from_canonical=tuple(Rule(ours, theirs) for theirs, ours in _NAMES),
        zero_keys=lambda config: frozenset({_BIAS}),
    )
)
