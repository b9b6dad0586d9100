"""IDEFICS: config and weights for transformers' IdeficsForVisionText2Text, added tokens in matrices of their own."""

from zoo.model import VLM
from zoo.weights.export.state import (
    Exported,
    check,
    check_tower,
    first_added,
    plain_state,
    text_config,
    vocabulary_keys,
    whole_last_layer,
)

_LAYOUT = "idefics-hf"
_SHARED = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("max_position_embeddings", "rms_norm_eps", "rope_parameters", "tie_word_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)
_VISION = (
    *("image_size", "patch_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_channels", "hidden_act", "layer_norm_eps", "attention_dropout"),
)


def export_idefics(model: VLM) -> Exported:
    """Raises ZooError for a model that the class has no place for."""
    check_tower(model, _LAYOUT, ("clip_vision_model",))
    text, connector, fusion = text_config(model), model.method.connector, model.method.fusion
    is_llama = text["model_type"] == "llama"
    heads = text.get("num_attention_heads", 1)
    resampler = (connector.kind, *(getattr(connector, name, None) for name in _RESAMPLER))
    check(
        model,
        _LAYOUT,
        (
            (is_llama, f"its language model is {text['model_type']}, the class has Llama's layers"),
            (
                not is_llama
                or (
                    text["num_key_value_heads"] == heads
                    and text.get("head_dim") in (None, text["hidden_size"] // heads)
                    and not text["attention_bias"]
                    and not text["mlp_bias"]
                ),
                "its language model has shared keys, biases or another width of heads, which the class has not",
            ),
            (
                resampler == ("resampler", *_RESAMPLER.values()) and model.connector.projection is None,
                f"its connector is {connector}, the class has another resampler",
            ),
            (fusion.kind == "idefics_cross_attention", f"its fusion is {fusion.kind}, the class has gated layers"),
            (
                whole_last_layer(model) and not model.encoder.config.post_norm,
                "its encoder gives other tokens than all of the last layer before the norm",
            ),
        ),
    )
    state = plain_state(model, _LAYOUT)
    first = first_added(model)
    if first is not None:
        # The ids of the added tokens follow the last row; rows that no token uses go.
        for key in vocabulary_keys(model):
            if f"{key}.weight" in state:
                state[f"{key}.weight"] = state[f"{key}.weight"][:first]
        text["vocab_size"] = first
    tower = model.encoder.model.config
    config = {
        "architectures": ["IdeficsForVisionText2Text"],
        "model_type": "idefics",
        **{name: text[name] for name in _SHARED},
        "additional_vocab_size": model.language_model.num_added,
        "alpha_initializer": "zeros",
        "alpha_type": fusion.gate_shape,
        "cross_layer_interval": fusion.every,
        "qk_layer_norms": fusion.qk_norm,
        "use_resampler": True,
        "perceiver_config": {
            "use_resampler": True,
            "resampler_n_latents": connector.num_latents,
            "resampler_depth": connector.depth,
            "resampler_n_heads": connector.num_heads,
            "resampler_head_dim": connector.head_dim,
            "qk_layer_norms_perceiver": connector.qk_norm,
        },
        "vision_config": {
            "model_type": "idefics_vision",
            "embed_dim": tower.hidden_size,
            **{name: getattr(tower, name) for name in _VISION},
        },
    }
    return Exported(config=config, state=state)


# What the class has no choice of.
_RESAMPLER = {"activation": "relu", "fused_key_value": False, "num_frame_embeddings": 0, "mlp_ratio": 4}
