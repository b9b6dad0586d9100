"""BLIP-2 and InstructBLIP: config and weights for transformers' Blip2 and InstructBlipForConditionalGeneration."""

import warnings
from typing import Any

from zoo.model import VLM
from zoo.weights.checkpoint_config import architecture
from zoo.weights.export.state import (
    Exported,
    check,
    check_tower,
    fold_added,
    place_image_token,
    plain_state,
    text_config,
    whole_last_layer,
)

# Of the first stage alone: the class that generates has no place for them.
_TEXT_BRANCH = ("connector.embeddings.", "connector.heads.")
_TEXT_MLP = ".text_mlp."


def export_blip2(model: VLM) -> Exported:
    """Without what only the first stage uses. Raises ZooError for a model that the class has no place for."""
    return _export(model, "blip2-hf", "blip-2", "Blip2ForConditionalGeneration", "blip_2")


def export_instructblip(model: VLM) -> Exported:
    """Raises ZooError for a model that the class has no place for."""
    return _export(model, "instructblip-hf", "instructblip", "InstructBlipForConditionalGeneration", "instructblip")


def _export(model: VLM, layout: str, model_type: str, class_name: str, prefix: str) -> Exported:
    check_tower(model, layout, ("blip_2_vision_model",))
    connector, tower = model.method.connector, model.encoder.model.config
    reads = model_type == "instructblip"
    kind = f"a Q-Former that {'reads' if reads else 'does not read'} the instruction"
    is_of_kind = connector.kind == "qformer" and connector.reads_instruction == reads
    check(
        model,
        layout,
        (
            (is_of_kind, f"its connector is {connector}, the class has {kind}"),
            (whole_last_layer(model), "its encoder gives other tokens than all of the last layer"),
            (not model.encoder.config.post_norm, "encoder.post_norm normalises the features a second time"),
            (model.method.fusion.kind == "splice", f"its fusion is {model.method.fusion.kind}, the class splices"),
        ),
    )
    if connector.norm_epsilon != tower.layer_norm_eps:
        warnings.warn(
            f"connector.norm_epsilon is {connector.norm_epsilon:g}; transformers has one epsilon for the tower and the "
            f"norm behind it, {tower.layer_norm_eps:g}: features differ where they hardly vary",
            stacklevel=3,
        )
    state, text = plain_state(model, layout), text_config(model)
    if not reads:
        state = {
            key: tensor for key, tensor in state.items() if not key.startswith(_TEXT_BRANCH) and _TEXT_MLP not in key
        }
    fold_added(model, state, text)
    token = place_image_token(model, state, text)
    qformer: dict[str, Any] = {
        "model_type": f"{prefix}_qformer",
        "hidden_size": connector.width,
        "num_hidden_layers": connector.num_layers,
        "num_attention_heads": connector.num_heads,
        "intermediate_size": connector.intermediate or 4 * connector.width,
        "hidden_act": connector.activation,
        "hidden_dropout_prob": connector.dropout,
        "attention_probs_dropout_prob": connector.dropout,
        "layer_norm_eps": connector.layer_norm_epsilon,
        "cross_attention_frequency": connector.cross_attention_every,
        "encoder_hidden_size": tower.hidden_size,
    }
    if reads:
        words, positions = (state[f"connector.embeddings.{name}.weight"] for name in ("words", "positions"))
        qformer |= {"vocab_size": len(words), "max_position_embeddings": len(positions)}
    config = {
        "architectures": [class_name],
        "model_type": model_type,
        "num_query_tokens": connector.num_queries,
        "image_token_index": token,
        "use_decoder_only_language_model": not model.language_model.is_encoder_decoder,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "text_config": text,
        "qformer_config": qformer,
        "vision_config": architecture(tower) | {"model_type": f"{prefix}_vision_model"},
    }
    return Exported(config=config, state=state)
