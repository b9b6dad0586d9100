"""Kosmos-2: config and weights for transformers' Kosmos2ForConditionalGeneration."""

from zoo.model import VLM
from zoo.weights.checkpoint_config import architecture
from zoo.weights.export.state import (
    Exported,
    check,
    check_tower,
    fold_added,
    plain_state,
    text_config,
    whole_last_layer,
)

_LAYOUT = "kosmos-2-hf"


def export_kosmos_2(model: VLM) -> Exported:
    """Raises ZooError for a model that the class has no place for."""
    check_tower(model, _LAYOUT, ("clip_vision_model",))
    text, connector = text_config(model), model.method.connector
    heads = text.get("attention_heads")
    check(
        model,
        _LAYOUT,
        (
            (
                text["model_type"] == "kosmos_2_text_model",
                f"its language model is {text['model_type']}, the class has a decoder of its own",
            ),
            (connector.kind == "kosmos-2", f"its connector is {connector}, the class has learned queries"),
            (
                getattr(connector, "num_heads", None) == heads,
                f"its connector has other heads than the decoder's {heads}, the class has one number for both",
            ),
            (
                whole_last_layer(model) and model.encoder.config.post_norm,
                "its encoder gives other tokens than all of the last layer after its norm",
            ),
        ),
    )
    state = plain_state(model, _LAYOUT)
    fold_added(model, state, text)
    config = {
        "architectures": ["Kosmos2ForConditionalGeneration"],
        "model_type": "kosmos-2",
        "latent_query_num": connector.num_queries,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "text_config": text,
        "vision_config": architecture(model.encoder.model.config) | {"model_type": "kosmos_2_vision_model"},
    }
    return Exported(config=config, state=state)
