"""All of an OpenFlamingo model in one file: tower, resampler, gated blocks and language model, named by ``Flamingo``.

Released files hold the trained parameters alone (``openflamingo.py``). ``config.json`` has ``lang_encoder``, the
language model's own config with the added tokens in its vocabulary; ``vision``, open_clip's sizes; ``perceiver`` and
``gated_cross_attention``, the heads that no shape tells.

Source: open_flamingo/src/flamingo.py; open_clip, ``VisionTransformer`` with QuickGELU, as the openai weights have it.
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
from zoo.fusion import GatedCrossAttention
from zoo.registry import get_method
from zoo.weights.checkpoint_config import architecture, language_model, parse
from zoo.weights.layouts import Layout, for_layers, register_layout
from zoo.weights.openflamingo import OPENFLAMINGO

_MAX_LAYERS = 64
_TOWER = "vision_encoder."
_FIELDS = {"lang_encoder", "vision", "perceiver", "gated_cross_attention", "every"}
# Of the published language model (RedPajama-INCITE), where config.json does not say: transformers' defaults are others.
_GPT_NEOX = {"use_parallel_residual": False, "bos_token_id": 0, "eos_token_id": 0}
# open_clip's names below the tower's prefix, and transformers'.
_TOWER_NAMES = (
    ("class_embedding", "embeddings.class_embedding"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("conv1.", "embeddings.patch_embedding."),
    ("ln_pre.", "pre_layrnorm."),
    ("ln_post.", "post_layernorm."),
    *for_layers(
        "transformer.resblocks.",
        "encoder.layers.",
        (
            ("ln_1.", "layer_norm1."),
            ("ln_2.", "layer_norm2."),
            ("attn.", "self_attn."),
            ("mlp.c_fc.", "mlp.fc1."),
            ("mlp.c_proj.", "mlp.fc2."),
        ),
        _MAX_LAYERS,
    ),
)


def _matches(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.keys() >= _FIELDS and "perceiver.latents" in keys


def _with_parted_tower(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tower under transformers' names, its joint projection as one each of queries, keys and values."""
    parted: dict[str, Tensor] = {}
    for key in weights:
        name = key.removeprefix(_TOWER)
        if name == key:
            parted[key] = weights[key]
            continue
        name = _TOWER + next((new + name.removeprefix(old) for old, new in _TOWER_NAMES if name.startswith(old)), name)
        if joint := re.search(r"in_proj_(weight|bias)$", name):
            for letter, tensor in zip("qkv", weights[key].chunk(3)):
                parted[name.replace(joint[0], f"{letter}_proj.{joint[1]}")] = tensor
        else:
            parted[name] = weights[key]
    return parted


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    fields, vision = dict(config["lang_encoder"]), config["vision"]
    if fields.get("model_type") == "gpt_neox":
        fields = _GPT_NEOX | fields
    text = parse(lambda: AutoConfig.for_model(fields.pop("model_type"), **fields), folder)
    tower = CLIPVisionConfig(
        hidden_size=vision["width"],
        intermediate_size=int(vision["width"] * vision.get("mlp_ratio", 4.0)),
        num_hidden_layers=vision["layers"],
        num_attention_heads=vision["heads"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        hidden_act="quick_gelu",
    )
    perceiver, gated = config["perceiver"], config["gated_cross_attention"]
    base = get_method("openflamingo")
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(base.encoder, id="", revision=None, architecture=architecture(tower)),
        connector=Resampler(
            num_latents=perceiver["num_latents"],
            depth=perceiver["depth"],
            num_heads=perceiver["heads"],
            head_dim=perceiver["dim_head"],
        ),
        fusion=GatedCrossAttention(every=config["every"], num_heads=gated["heads"], head_dim=gated["dim_head"]),
        language_model=dataclasses.replace(language_model(architecture(text), folder), has_added_tokens=True),
    )


OPENFLAMINGO_FULL = register_layout(
    Layout(
        name="openflamingo-full",
        matches=_matches,
        method_from_config=_method,
        unpack=_with_parted_tower,
        to_canonical=OPENFLAMINGO.to_canonical,
        from_canonical=OPENFLAMINGO.from_canonical,
        # The tower's projection into the space of texts, which nothing reads.
        constants=(f"{_TOWER}proj", ".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
    )
)
