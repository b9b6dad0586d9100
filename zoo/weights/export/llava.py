"""LLaVA: config and weights for transformers' LlavaForConditionalGeneration."""

from typing import Any

import torch

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
)
from zoo.weights.llava import IMAGE_TOKEN_FIELD

_LAYOUT = "llava-hf"


def export_llava(model: VLM) -> Exported:
    """One linear layer is written as two, the second of them the identity. Raises ZooError for another model."""
    check_tower(model, _LAYOUT, ("clip_vision_model", "siglip_vision_model"))
    connector = model.method.connector
    check(
        model,
        _LAYOUT,
        (
            (
                not model.encoder.config.post_norm,
                "encoder.post_norm normalises the features, the class takes them as they are",
            ),
            (
                connector.kind in ("mlp", "linear") and len(model.connector.layers) <= 2,
                f"its connector is {connector}, the class has two linear layers",
            ),
            (
                model.connector.norm is None and not model.connector.drops_image_class_token,
                "its connector normalises the features or drops the class token, the class does neither",
            ),
            (model.method.fusion.kind == "splice", f"its fusion is {model.method.fusion.kind}, the class splices"),
        ),
    )
    state, text = plain_state(model, _LAYOUT), text_config(model)
    fold_added(model, state, text)
    if len(model.connector.layers) == 1:
        bias = state["connector.layers.0.bias"]
        state["connector.layers.1.weight"] = torch.eye(len(bias), dtype=bias.dtype)
        state["connector.layers.1.bias"] = torch.zeros_like(bias)
    known = getattr(model.language_model.model.config, IMAGE_TOKEN_FIELD, None)
    token = place_image_token(model, state, text, known)
    return Exported(config=_config(model, text, token), state=state)


def _config(model: VLM, text: dict[str, Any], image_token: int) -> dict[str, Any]:
    encoder = model.encoder
    layers, drops_class_token = encoder.layers, encoder.family.has_class_token and not encoder.config.class_token
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": image_token,
        "image_seq_length": encoder.num_tokens,
        "multimodal_projector_bias": True,
        "projector_hidden_act": "linear" if len(model.connector.layers) == 1 else model.method.connector.activation,
        "vision_feature_layer": layers[0] if len(layers) == 1 and not encoder.config.layers else list(layers),
        "vision_feature_select_strategy": "default" if drops_class_token else "full",
        "tie_word_embeddings": text["tie_word_embeddings"],
        "text_config": text,
        "vision_config": architecture(encoder.model.config),
    }
