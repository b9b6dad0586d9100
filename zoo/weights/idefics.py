"""transformers' layout of IDEFICS (HuggingFaceM4/idefics-*), where added tokens have matrices of their own, as here."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, CLIPVisionConfig, IdeficsConfig, LlamaConfig

from zoo.connectors import Resampler
from zoo.definition import Method
from zoo.encoders import EncoderConfig
from zoo.errors import ZooError
from zoo.fusion import IdeficsCrossAttention
from zoo.registry import get_method
from zoo.weights.checkpoint_config import architecture, language_model, parse
from zoo.weights.files import has_tokenizer
from zoo.weights.layouts import Layout, both_ways, for_layers, register_layout

_MAX_LAYERS = 32
_RESAMPLER_NAMES = (
    ("0.context_layer_norm.", "attention.media_norm."),
    ("0.latents_layer_norm.", "attention.latent_norm."),
    ("0.q_layer_norm.", "attention.query_norm."),
    ("0.k_layer_norm.", "attention.key_norm."),
    ("0.q_proj.", "attention.query."),
    ("0.k_proj.", "attention.key."),
    ("0.v_proj.", "attention.value."),
    ("0.output_proj.", "attention.output."),
    ("1.ln.", "mlp.norm."),
    ("1.fc.", "mlp.input."),
    ("1.c_proj.", "mlp.output."),
)
_BLOCK_NAMES = (
    ("cross_attn.q_proj.", "attention.query."),
    ("cross_attn.k_proj.", "attention.key."),
    ("cross_attn.v_proj.", "attention.value."),
    ("cross_attn.o_proj.", "attention.output."),
    ("cross_attn.q_layer_norm.", "attention.query_norm."),
    ("cross_attn.k_layer_norm.", "attention.key_norm."),
    ("mlp.gate_proj.", "mlp.gate."),
    ("mlp.up_proj.", "mlp.up."),
    ("mlp.down_proj.", "mlp.down."),
    ("input_layernorm.", "attention_norm."),
    ("post_attention_layernorm.", "mlp_norm."),
    ("alpha_cross_attn", "attention_gate"),
    ("alpha_dense", "mlp_gate"),
)
# The longer names first: "model." alone is the language model's.
_NAMES = (
    ("lm_head.additional_fc.weight", "language_model.model.lm_head.added"),
    ("lm_head.", "language_model.model.lm_head."),
    ("model.embed_tokens.additional_embedding.weight", "language_model.model.model.embed_tokens.added"),
    ("model.vision_model.", "encoder.model."),
    ("model.perceiver_resampler.latents", "connector.latents"),
    ("model.perceiver_resampler.layer_norm.", "connector.norm."),
    *for_layers("model.perceiver_resampler.blocks.", "connector.layers.", _RESAMPLER_NAMES, _MAX_LAYERS),
    *for_layers("model.gated_cross_attn_layers.", "fusion.blocks.", _BLOCK_NAMES, _MAX_LAYERS),
    ("model.", "language_model.model.model."),
)
_INITIAL_GATES = {"zeros": 0.0, "ones": 1.0}


def _is_idefics(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") == "idefics" and any("gated_cross_attn_layers." in key for key in keys)


def _vision(parsed: IdeficsConfig) -> dict[str, Any]:
    vision = parsed.vision_config
    return architecture(
        CLIPVisionConfig(
            hidden_size=vision.embed_dim,
            intermediate_size=vision.intermediate_size,
            num_hidden_layers=vision.num_hidden_layers,
            num_attention_heads=vision.num_attention_heads,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            hidden_act=vision.hidden_act,
            layer_norm_eps=vision.layer_norm_eps,
        )
    )


def _text(parsed: IdeficsConfig) -> dict[str, Any]:
    shared = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
        *("max_position_embeddings", "rms_norm_eps", "rope_parameters", "tie_word_embeddings"),
        *("bos_token_id", "eos_token_id", "pad_token_id"),
    )
    fields = {name: getattr(parsed, name) for name in shared}
    return architecture(LlamaConfig(num_key_value_heads=parsed.num_attention_heads, **fields))


def _added_tokens(parsed: IdeficsConfig, folder: Path, published: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the rows beside the vocabulary: the tokenizer's, or the published ones where there is none."""
    number = parsed.additional_vocab_size
    if not has_tokenizer(folder):
        return (*published, *(f"<additional_{index}>" for index in range(number)))[:number]
    names = AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens(
        list(range(parsed.vocab_size, parsed.vocab_size + number))
    )
    if missing := sum(name is None for name in names):
        raise ZooError(
            f"{folder}: the tokenizer lacks {missing} of the {number} tokens of additional_vocab_size; "
            "use the tokenizer that belongs to the weights"
        )
    return tuple(names)


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    parsed = parse(lambda: IdeficsConfig.from_dict(dict(config)), folder)
    if not parsed.use_resampler:
        raise ZooError(f"{folder / 'config.json'}: use_resampler is false; only checkpoints with a resampler are known")
    base, perceiver = get_method("idefics"), parsed.perceiver_config
    added = _added_tokens(parsed, folder, base.added_tokens)
    return dataclasses.replace(
        base,
        encoder=EncoderConfig(architecture=_vision(parsed), layer=-1, class_token=True, resize="squash"),
        connector=Resampler(
            num_latents=perceiver.resampler_n_latents,
            depth=perceiver.resampler_depth,
            num_heads=perceiver.resampler_n_heads,
            head_dim=perceiver.resampler_head_dim,
            activation="relu",
            qk_norm=perceiver.qk_layer_norms_perceiver,
            fused_key_value=False,
        ),
        fusion=IdeficsCrossAttention(
            every=parsed.cross_layer_interval,
            qk_norm=parsed.qk_layer_norms,
            gate_shape=parsed.alpha_type,
            gate=_INITIAL_GATES.get(parsed.alpha_initializer, 0.0),
        ),
        language_model=language_model(_text(parsed), folder),
        template=base.template if "<end_of_utterance>" in added else "idefics_base",
        added_tokens=added,
    )


IDEFICS_HF = register_layout(
    Layout(
        name="idefics-hf",
        matches=_is_idefics,
        method_from_config=_method,
        **both_ways(_NAMES),
        constants=(".rotary_emb.inv_freq", ".embeddings.position_ids"),
    )
)
