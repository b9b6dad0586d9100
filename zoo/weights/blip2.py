"""transformers' layouts of BLIP-2 and InstructBLIP checkpoints (Salesforce/blip2-*, Salesforce/instructblip-*).

Their vision model ends in a LayerNorm that is none of EVA-CLIP's: it is LAVIS's ``ln_vision``, trained with the
Q-Former, and here the connector's. transformers gives it the tower's epsilon.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import Blip2Config, InstructBlipConfig, InstructBlipVideoConfig

from zoo.connectors import QFormer
from zoo.definition import Method
from zoo.registry import get_method
from zoo.weights.checkpoint_config import architecture, language_model, parse
from zoo.weights.files import has_tokenizer
from zoo.weights.layouts import Layout, both_ways, for_layers, register_layout

MAX_LAYERS = 48
# For videos the weights are the same; every frame is read by itself here in any case.
_INSTRUCTBLIP_CONFIGS = {"instructblip": InstructBlipConfig, "instructblipvideo": InstructBlipVideoConfig}


def qformer_layer_names(inner: str) -> tuple[tuple[str, str], ...]:
    """(theirs, ours) below a Q-Former's layer, the longer names first; ``inner`` is their word for an attention's
    projections: attention in transformers, self in LAVIS.
    """
    return (
        ("attention.output.dense.", "attention.output."),
        ("attention.output.LayerNorm.", "attention.norm."),
        (f"attention.{inner}.", "attention."),
        ("crossattention.output.dense.", "cross_attention.output."),
        ("crossattention.output.LayerNorm.", "cross_attention.norm."),
        (f"crossattention.{inner}.", "cross_attention."),
        ("intermediate_query.dense.", "query_mlp.up."),
        ("output_query.dense.", "query_mlp.down."),
        ("output_query.LayerNorm.", "query_mlp.norm."),
        ("intermediate.dense.", "text_mlp.up."),
        ("output.dense.", "text_mlp.down."),
        ("output.LayerNorm.", "text_mlp.norm."),
    )


_NAMES = (
    ("language_model.", "language_model.model."),
    ("language_projection.", "connector.projection."),
    ("query_tokens", "connector.body.queries"),
    ("vision_model.post_layernorm.", "connector.norm."),
    # Under a controlled setting the tower may have a final norm of its own; no released file has this name.
    ("vision_model.final_layernorm.", "encoder.model.post_layernorm."),
    ("vision_model.", "encoder.model."),
    *for_layers("qformer.encoder.layer.", "connector.body.layers.", qformer_layer_names("attention"), MAX_LAYERS),
)
_BLIP2_NAMES = (
    *_NAMES,
    ("qformer.layernorm.", "connector.body.norm."),
    # The first stage's: as in transformers' retrieval model, and as in LAVIS what that leaves out.
    ("embeddings.word_embeddings.", "connector.embeddings.words."),
    ("embeddings.position_embeddings.", "connector.embeddings.positions."),
    ("vision_projection.", "connector.heads.vision_projection."),
    ("text_projection.", "connector.heads.text_projection."),
    ("itm_head.", "connector.heads.matching."),
    ("temp", "connector.heads.temperature"),
    ("cls.predictions.transform.dense.", "connector.heads.words.dense."),
    ("cls.predictions.transform.LayerNorm.", "connector.heads.words.norm."),
    ("cls.predictions.bias", "connector.heads.words.bias"),
)
_INSTRUCTBLIP_NAMES = (
    *_NAMES,
    ("qformer.embeddings.layernorm.", "connector.body.norm."),
    ("qformer.embeddings.word_embeddings.", "connector.embeddings.words."),
    ("qformer.embeddings.position_embeddings.", "connector.embeddings.positions."),
)


def _has_language_model(keys: Collection[str]) -> bool:
    # The retrieval model has the same model_type, and nothing that speaks.
    return any(key.startswith("language_projection.") for key in keys)


def _is_blip2(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") == "blip-2" and _has_language_model(keys)


def _is_instructblip(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") in _INSTRUCTBLIP_CONFIGS and _has_language_model(keys)


def _method(base: Method, parsed: Blip2Config | InstructBlipConfig, folder: Path, **connector: Any) -> Method:
    qformer, text = parsed.qformer_config, parsed.text_config
    vision = architecture(parsed.vision_config) | {"model_type": "blip_2_vision_model"}
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(base.encoder, id="", revision=None, architecture=vision),
        connector=QFormer(
            num_queries=parsed.num_query_tokens,
            width=qformer.hidden_size,
            num_layers=qformer.num_hidden_layers,
            num_heads=qformer.num_attention_heads,
            intermediate=qformer.intermediate_size,
            cross_attention_every=qformer.cross_attention_frequency,
            activation=qformer.hidden_act,
            dropout=qformer.hidden_dropout_prob,
            norm_epsilon=parsed.vision_config.layer_norm_eps,
            layer_norm_epsilon=qformer.layer_norm_eps,
            **connector,
        ),
        language_model=language_model(architecture(text), folder),
    )


def _blip2_method(config: Mapping[str, Any], folder: Path) -> Method:
    parsed = parse(lambda: Blip2Config.from_dict(dict(config)), folder)
    base = get_method("blip2-flan-t5" if parsed.text_config.is_encoder_decoder else "blip2")
    return _method(base, parsed, folder)


def _instructblip_method(config: Mapping[str, Any], folder: Path) -> Method:
    parsed = parse(lambda: _INSTRUCTBLIP_CONFIGS[config["model_type"]].from_dict(dict(config)), folder)
    base = get_method("instructblip-flan-t5" if parsed.text_config.is_encoder_decoder else "instructblip")
    tokenizer = folder / "qformer_tokenizer"
    published = base.connector.instruction_tokenizer if has_tokenizer(folder) else ""
    return _method(
        base,
        parsed,
        folder,
        reads_instruction=True,
        instruction_tokenizer=str(tokenizer) if tokenizer.is_dir() else published,
        instruction_vocabulary=parsed.qformer_config.vocab_size,
        max_positions=parsed.qformer_config.max_position_embeddings,
    )


_CONSTANTS = (".position_ids", ".rotary_emb.inv_freq")

BLIP2_HF = register_layout(
    Layout(
        name="blip2-hf",
        matches=_is_blip2,
        method_from_config=_blip2_method,
        constants=_CONSTANTS,
        **both_ways(_BLIP2_NAMES),
    )
)
INSTRUCTBLIP_HF = register_layout(
    Layout(
        name="instructblip-hf",
        matches=_is_instructblip,
        method_from_config=_instructblip_method,
        constants=_CONSTANTS,
        **both_ways(_INSTRUCTBLIP_NAMES),
    )
)
