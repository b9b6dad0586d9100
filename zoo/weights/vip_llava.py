"""The two layouts of ViP-LLaVA: transformers' (llava-hf/vip-llava-*-hf) and the original code's (mucai/vip-llava-*)."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import VipLlavaConfig

from zoo.connectors import MLP
from zoo.definition import Method
from zoo.registry import get_method
from zoo.weights.checkpoint_config import parse
from zoo.weights.layouts import Layout, Rule, register_layout
from zoo.weights.llava import (
    CONSTANTS,
    LANGUAGE_MODEL_FROM_ORIGINAL,
    LANGUAGE_MODEL_TO_ORIGINAL,
    LLAVA_ORIGINAL,
    hf_encoder,
    hf_language_model,
    hf_rules,
)


def _is_hf(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") == "vipllava" and any("multi_modal_projector.linear_1." in key for key in keys)


def _hf_method(config: Mapping[str, Any], folder: Path) -> Method:
    parsed = parse(lambda: VipLlavaConfig.from_dict(dict(config)), folder)
    base = get_method("vip-llava")
    return dataclasses.replace(
        base,
        encoder=hf_encoder(parsed, base.encoder, folder),
        connector=MLP(depth=2, activation=parsed.projector_hidden_act, norm_eps=parsed.projector_layernorm_eps),
        language_model=hf_language_model(parsed, folder),
    )


VIP_LLAVA_HF = register_layout(
    Layout(
        name="vip-llava-hf",
        matches=_is_hf,
        method_from_config=_hf_method,
        **hf_rules(
            (
                ("multi_modal_projector.projector_layernorm.", "connector.norm."),
                ("multi_modal_projector.linear_1.", "connector.layers.0."),
                ("multi_modal_projector.linear_2.", "connector.layers.1."),
            )
        ),
        constants=CONSTANTS,
    )
)


def _is_original(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return "vision_config" not in config and any("mm_projector.clip_layernorm." in key for key in keys)


def _original_method(config: Mapping[str, Any], folder: Path) -> Method:
    # The code fixes the projector and the layers; the config's words for them are those of LLaVA-1.5.
    as_llava = {"mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2, "image_aspect_ratio": "pad"}
    read = LLAVA_ORIGINAL.method_from_config({**config, **as_llava}, folder)
    base = get_method("vip-llava")
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(base.encoder, id=read.encoder.id),
        language_model=read.language_model,
    )


_PROJECTOR = (
    ("model.mm_projector.clip_layernorm.", "connector.norm."),
    ("model.mm_projector.final_linear.0.", "connector.layers.0."),
    ("model.mm_projector.final_linear.2.", "connector.layers.1."),
)

VIP_LLAVA_ORIGINAL = register_layout(
    Layout(
        name="vip-llava-original",
        matches=_is_original,
        method_from_config=_original_method,
        to_canonical=(
            *(Rule(theirs, ours) for theirs, ours in _PROJECTOR),
            Rule("model.vision_tower.vision_tower.vision_model.", "encoder.model."),
            Rule("model.vision_tower.vision_tower.", "encoder.model."),
            *LANGUAGE_MODEL_FROM_ORIGINAL,
        ),
        from_canonical=(
            *(Rule(ours, theirs) for theirs, ours in _PROJECTOR),
            Rule("encoder.model.", "model.vision_tower.vision_tower.vision_model."),
            *LANGUAGE_MODEL_TO_ORIGINAL,
        ),
        constants=CONSTANTS,
    )
)
