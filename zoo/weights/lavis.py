"""LAVIS's checkpoints of BLIP-2 and InstructBLIP (``.pth``, no config.json), and what the methods built on them share.

A released file holds what was trained: Q-Former, queries, ``ln_vision`` and the projection. Tower and language model
come from their own checkpoints, the latter named by the caller: the file does not say which. Some files fine-tuned the
tower and hold it as well.

Source: LAVIS, lavis/models/blip2_models (the names of modules), lavis/models/eva_vit.py (the tower).
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.connectors import QFormer
from zoo.definition import Method
from zoo.registry import get_method
from zoo.weights.blip2 import MAX_LAYERS, qformer_layer_names
from zoo.weights.layouts import Layout, both_ways, for_layers, register_layout
from zoo.weights.tensors import Weights

# No released Q-Former and no released tower has heads of another width; their number follows from it.
_QFORMER_HEAD_DIM = 64
_TOWER_HEAD_DIM = 88
TOWER = "visual_encoder."
# The tower's own names, below ``visual_encoder.``, and transformers'.
_TOWER_NAMES = (
    ("cls_token", "embeddings.class_embedding"),
    ("pos_embed", "embeddings.position_embedding"),
    ("patch_embed.proj.", "embeddings.patch_embedding."),
    *for_layers(
        "blocks.",
        "encoder.layers.",
        (
            ("norm1.", "layer_norm1."),
            ("norm2.", "layer_norm2."),
            ("attn.qkv.", "self_attn.qkv."),
            ("attn.proj.", "self_attn.projection."),
            ("mlp.", "mlp."),
        ),
        MAX_LAYERS,
    ),
)
_TEXT_NAMES = (
    ("Qformer.bert.embeddings.word_embeddings.", "connector.embeddings.words."),
    ("Qformer.bert.embeddings.position_embeddings.", "connector.embeddings.positions."),
    # The first stage's heads.
    ("Qformer.cls.predictions.transform.dense.", "connector.heads.words.dense."),
    ("Qformer.cls.predictions.transform.LayerNorm.", "connector.heads.words.norm."),
    ("Qformer.cls.predictions.bias", "connector.heads.words.bias"),
    ("vision_proj.", "connector.heads.vision_projection."),
    ("text_proj.", "connector.heads.text_projection."),
    ("itm_head.", "connector.heads.matching."),
    ("temp", "connector.heads.temperature"),
)
# Copies of the word embedding and of the bias above, which they are tied to; a buffer.
CONSTANTS = (".cls.predictions.decoder.weight", ".cls.predictions.decoder.bias", ".position_ids", ".inv_freq")
# Which language model a file was trained with: the projection's name and its width tell the published ones apart.
_BASES = {
    ("opt_proj", 2560): "opt-2.7b",
    ("opt_proj", 4096): "opt-6.7b",
    ("t5_proj", 2048): "flan-t5-xl",
    ("t5_proj", 4096): "flan-t5-xxl",
    ("llm_proj", 4096): "vicuna-7b-v1.1",
    ("llm_proj", 5120): "vicuna-13b-v1.1",
    ("llama_proj", 4096): "vicuna-7b-v0",
    ("llama_proj", 5120): "vicuna-13b-v0",
}


def qformer_names(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """(theirs, ours) of a Q-Former without its queries and text embeddings."""
    return (
        (f"{theirs}embeddings.LayerNorm.", f"{ours}norm."),
        *for_layers(f"{theirs}encoder.layer.", f"{ours}layers.", qformer_layer_names("self"), MAX_LAYERS),
    )


def names(projection: str, language_model: str, *, qformer: str = "connector.body.") -> tuple[tuple[str, str], ...]:
    """(theirs, ours) of everything but text embeddings and heads, the language model and its projection named so."""
    return (
        ("ln_vision.", "connector.norm."),
        ("query_tokens", f"{qformer}queries"),
        *qformer_names("Qformer.bert.", qformer),
        (f"{projection}.", "connector.projection."),
        (f"{language_model}.", "language_model.model."),
        (TOWER, "encoder.model."),
    )


def with_joined_tower(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tower under transformers' names, its bias of queries and values as one of queries, keys (zero) and values."""
    if not any(key.startswith(f"{TOWER}blocks.") for key in weights):
        return weights
    if isinstance(weights, Weights):
        weights = {key: tensor.clone() for key, tensor in weights.stream()}
    joined: dict[str, Tensor] = {}
    for key in weights:
        name = key.removeprefix(TOWER)
        if name.endswith(".attn.v_bias") and key.replace(".v_bias", ".q_bias") in weights:
            continue
        if name.endswith(".attn.q_bias") and (values := key.replace(".q_bias", ".v_bias")) in weights:
            query, value = weights[key], weights[values]
            name = name.replace(".q_bias", ".qkv.bias")
            tensor = torch.cat([query, torch.zeros_like(query), value])
        else:
            tensor = weights[key]
        if key.startswith(TOWER):
            name = next((new + name.removeprefix(old) for old, new in _TOWER_NAMES if name.startswith(old)), name)
            key = TOWER + name
        joined[key] = tensor
    return joined


def qformer_sizes(weights: Mapping[str, Tensor], prefix: str, queries: str) -> dict[str, Any]:
    """What a Q-Former's weights say of it, by the names of our configs."""
    layer = re.compile(re.escape(prefix) + r"encoder\.layer\.(\d+)\.(crossattention)?")
    found = [match for key in weights if (match := layer.match(key))]
    num_layers = 1 + max(int(match[1]) for match in found)
    reading = sorted({int(match[1]) for match in found if match[2]})
    _, num_queries, width = weights[queries].shape
    return {
        "num_queries": num_queries,
        "width": width,
        "num_layers": num_layers,
        "num_heads": max(1, width // _QFORMER_HEAD_DIM),
        "intermediate": len(weights[f"{prefix}encoder.layer.0.intermediate_query.dense.weight"]),
        "cross_attention_every": reading[1] if len(reading) > 1 else num_layers,
    }


def base_name(projection: str, weights: Mapping[str, Tensor]) -> str:
    """The known name of the language model that a projection of this name and width was trained with, or empty."""
    return _BASES.get((projection, len(weights[f"{projection}.weight"])), "")


def tower_architecture(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The architecture of a tower that is in the file; empty without one."""
    tower = {key: weights[key] for key in weights if key.startswith(TOWER)}
    if not tower:
        return {}
    tower = with_joined_tower(tower)
    patch = tower[f"{TOWER}embeddings.patch_embedding.weight"]
    num_patches = tower[f"{TOWER}embeddings.position_embedding"].shape[1] - 1
    return {
        "model_type": "blip_2_vision_model",
        "hidden_size": len(patch),
        "intermediate_size": len(tower[f"{TOWER}encoder.layers.0.mlp.fc1.weight"]),
        "num_hidden_layers": sum(key.endswith(".self_attn.qkv.weight") for key in tower),
        "num_attention_heads": max(1, len(patch) // _TOWER_HEAD_DIM),
        "patch_size": patch.shape[-1],
        "image_size": patch.shape[-1] * round(num_patches**0.5),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
    }


def method_of(base: Method, sizes: Mapping[str, Any], connector: Any) -> Method:
    """A method with this connector, the language model that the sizes name, and the tower that is in the file."""
    encoder = base.encoder
    if tower := sizes["tower"]:
        encoder = dataclasses.replace(encoder, id="", revision=None, architecture=tower)
    language_model = dataclasses.replace(base.language_model, id=sizes["language_model"] or base.language_model.id)
    return dataclasses.replace(base, encoder=encoder, connector=connector, language_model=language_model)


def _layout(name: str, method: str, projection: str, language_model: str, *, reads_instruction: bool = False) -> Layout:
    def matches(config: Mapping[str, Any], keys: Collection[str]) -> bool:
        has_text = "Qformer.bert.encoder.layer.0.output.dense.weight" in keys
        return "query_tokens" in keys and f"{projection}.weight" in keys and has_text == reads_instruction

    def sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
        qformer = qformer_sizes(weights, "Qformer.bert.", "query_tokens")
        if reads_instruction:
            words, positions = (weights[f"Qformer.bert.embeddings.{x}_embeddings.weight"] for x in ("word", "position"))
            qformer |= {"instruction_vocabulary": len(words), "max_positions": len(positions)}
        return {
            "qformer": qformer,
            "tower": tower_architecture(weights),
            "language_model": base_name(projection, weights),
        }

    def method_from_config(config: Mapping[str, Any], folder: Path) -> Method:
        base = get_method(method)
        connector = QFormer(
            reads_instruction=reads_instruction,
            instruction_tokenizer=base.connector.instruction_tokenizer,
            **config["qformer"],
        )
        return method_of(base, config, connector)

    return register_layout(
        Layout(
            name=name,
            matches=matches,
            method_from_config=method_from_config,
            config_from_weights=sizes,
            unpack=with_joined_tower,
            constants=CONSTANTS,
            **both_ways((*names(projection, language_model), *_TEXT_NAMES)),
        )
    )


BLIP2_OPT_LAVIS = _layout("blip2-opt-lavis", "blip2", "opt_proj", "opt_model")
BLIP2_T5_LAVIS = _layout("blip2-t5-lavis", "blip2-flan-t5", "t5_proj", "t5_model")
INSTRUCTBLIP_VICUNA_LAVIS = _layout(
    "instructblip-vicuna-lavis", "instructblip", "llm_proj", "llm_model", reads_instruction=True
)
INSTRUCTBLIP_T5_LAVIS = _layout(
    "instructblip-t5-lavis", "instructblip-flan-t5", "t5_proj", "t5_model", reads_instruction=True
)
