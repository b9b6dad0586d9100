"""The two layouts of LLaVA checkpoints: transformers' (llava-hf/*) and the original code's (liuhaotian/*)."""

import dataclasses
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, LlavaConfig, PreTrainedConfig

from zoo.connectors import MLP, Linear
from zoo.definition import Method
from zoo.encoders import KNOWN_ENCODERS, EncoderConfig
from zoo.encoders.families import family_of
from zoo.errors import ZooError
from zoo.language import LanguageModelConfig
from zoo.paths import resolve
from zoo.registry import get_method
from zoo.weights.checkpoint_config import architecture, language_model, parse
from zoo.weights.layouts import Layout, Rule, register_layout

# Where a language model's config keeps the placeholder id of the checkpoint it came from; ``export`` writes it back.
IMAGE_TOKEN_FIELD = "image_token_id"

MAX_PROJECTOR_DEPTH = 8


def _is_hf(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    # LLaVA-NeXT, ViP-LLaVA and others share the projector's names: only the config tells them apart.
    return config.get("model_type") == "llava" and any("multi_modal_projector.linear_1." in key for key in keys)


def hf_encoder(parsed: PreTrainedConfig, base: EncoderConfig, folder: Path) -> EncoderConfig:
    """The tower of a class of transformers of LLaVA's kind, read as its config says; images are treated as in ``base``.

    Raises ZooError where the config would drop a patch for a class token that the tower does not have.
    """
    vision, layer = parsed.vision_config, parsed.vision_feature_layer
    strategy = getattr(parsed, "vision_feature_select_strategy", "default")
    has_class_token = family_of(vision.model_type, where=str(folder / "config.json")).has_class_token
    if strategy == "default" and not has_class_token:
        raise ZooError(
            f"{folder / 'config.json'}: vision_feature_select_strategy 'default' would drop the first patch of a "
            f"{vision.model_type}, which has no class token; set it to 'full'"
        )
    return dataclasses.replace(
        base,
        id="",
        revision=None,
        architecture=architecture(vision),
        layer=layer if isinstance(layer, int) else -1,
        layers=() if isinstance(layer, int) else tuple(layer),
        class_token=strategy == "full" and has_class_token,
    )


def hf_language_model(parsed: PreTrainedConfig, folder: Path) -> LanguageModelConfig:
    """The language model of a class of transformers of LLaVA's kind, with the id of its placeholder."""
    fields = architecture(parsed.text_config) | {
        "tie_word_embeddings": bool(parsed.tie_word_embeddings),
        IMAGE_TOKEN_FIELD: parsed.image_token_id,
    }
    return language_model(fields, folder)


def _hf_method(config: Mapping[str, Any], folder: Path) -> Method:
    parsed = parse(lambda: LlavaConfig.from_dict(dict(config)), folder)
    base = get_method("llava-1.5")
    return dataclasses.replace(
        base,
        encoder=hf_encoder(parsed, base.encoder, folder),
        connector=MLP(depth=2, activation=parsed.projector_hidden_act),
        language_model=hf_language_model(parsed, folder),
    )


def hf_rules(connector: Iterable[tuple[str, str]]) -> dict[str, tuple[Rule, ...]]:
    """Both directions for a class of transformers of LLaVA's kind, from (their, our) names inside its connector.

    They cover files of the hub (transformers 4 and before), files of transformers 5, and its names in memory.
    """
    connector = tuple(connector)
    return {
        "to_canonical": (
            Rule("language_model.lm_head.", "language_model.model.lm_head."),
            Rule("lm_head.", "language_model.model.lm_head."),
            Rule("language_model.model.", "language_model.model.model."),
            Rule("model.language_model.", "language_model.model.model."),
            Rule("vision_tower.vision_model.", "encoder.model."),
            Rule("model.vision_tower.vision_model.", "encoder.model."),
            Rule("vision_tower.", "encoder.model."),
            Rule("model.vision_tower.", "encoder.model."),
            *(Rule(f"{prefix}{theirs}", ours) for theirs, ours in connector for prefix in ("", "model.")),
        ),
        "from_canonical": (
            Rule("language_model.model.lm_head.", "language_model.lm_head."),
            Rule("language_model.model.model.", "language_model.model."),
            Rule("encoder.model.", "vision_tower.vision_model."),
            *(Rule(ours, theirs) for theirs, ours in connector),
        ),
    }


def projector_zero_keys(config: Mapping[str, Any]) -> Collection[str]:
    """The biases of transformers' projector, where its config says that it has none."""
    if config.get("multimodal_projector_bias", True):
        return frozenset()
    return frozenset({"connector.layers.0.bias", "connector.layers.1.bias"})


LLAVA_HF = register_layout(
    Layout(
        name="llava-hf",
        matches=_is_hf,
        method_from_config=_hf_method,
        **hf_rules(
            (
                ("multi_modal_projector.linear_1.", "connector.layers.0."),
                ("multi_modal_projector.linear_2.", "connector.layers.1."),
            )
        ),
        constants=(".rotary_emb.inv_freq", ".embeddings.position_ids"),
        zero_keys=projector_zero_keys,
    )
)

# model_type of the original code -> transformers' class of the language model inside.
_ORIGINAL_TYPES = {
    "llava": "llama",
    "llava_llama": "llama",
    "llava_mistral": "mistral",
    "llava_qwen": "qwen2",
    "llava_qwen2": "qwen2",
    "LlavaLlamaForCausalLM": "llama",
}

# Methods with the same key names: parts that they have besides, and their model_type.
_PARTS_OF_OTHERS = ("model.image_newline", "model.spi_module.", "model.vlm_att_")
_METHODS_ON_LLAVA = ("shikra", "VideoChatGPT", "ChatUniVi")


def _is_original(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    # A learned end-of-row vector is LLaVA-1.6's: tiles of several sizes, another layout.
    has_projector = any(re.match(r"model\.mm_projector\.(\d+\.)?weight$", key) for key in keys)
    others = {"vision_config", "mm_video_tower"} & config.keys() or config.get("model_type") in _METHODS_ON_LLAVA
    others = others or any(key.startswith(_PARTS_OF_OTHERS) for key in keys)
    return bool(config) and has_projector and not others


def _original_projector(config: Mapping[str, Any], file: Path) -> MLP | Linear:
    kind = config.get("mm_projector_type", "linear")
    if kind == "linear":
        return Linear()
    depth = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if not depth or not 1 <= int(depth[1]) <= MAX_PROJECTOR_DEPTH:
        raise ZooError(
            f"{file}: mm_projector_type {kind!r} is not supported; known: linear, mlp1x_gelu to "
            f"mlp{MAX_PROJECTOR_DEPTH}x_gelu"
        )
    return MLP(depth=int(depth[1]))


def original_tower(name: str, folder: Path) -> str:
    """The encoder id of ``mm_vision_tower``: a folder (beside the checkpoint or not), a known name, or a hub id."""
    if Path(resolved := resolve(name)).is_dir() and resolved != name:
        return resolved
    if (folder / name).is_dir():
        return str(folder / name)
    return next((short for short, known in KNOWN_ENCODERS.items() if known.id == name), name)


def _original_method(config: Mapping[str, Any], folder: Path) -> Method:
    file = folder / "config.json"
    connector = _original_projector(config, file)
    name = config.get("mm_vision_tower")
    if not name:
        raise ZooError(f"{file} has no mm_vision_tower; set it to the id or folder of the vision tower")
    select = config.get("mm_vision_select_feature", "patch")
    if select not in ("patch", "cls_patch"):
        raise ZooError(f"{file}: mm_vision_select_feature {select!r} is unknown; known: patch, cls_patch")
    aspect = config.get("image_aspect_ratio") or "square"
    if aspect not in ("pad", "square"):
        raise ZooError(f"{file}: image_aspect_ratio {aspect!r} is not LLaVA-1.5's; known: pad, square")
    if config.get("mm_use_im_start_end"):
        warnings.warn(
            f"{file}: mm_use_im_start_end is set, so the model saw <im_start> and <im_end> around each image; the "
            "template does not write them, put them into the prompts",
            stacklevel=2,
        )
    model_type = config.get("model_type", "")
    if model_type not in _ORIGINAL_TYPES:
        raise ZooError(f"{file}: model_type {model_type!r} is unknown; known: {', '.join(_ORIGINAL_TYPES)}")
    fields = {key: value for key, value in config.items() if key != "model_type"}
    text = parse(lambda: AutoConfig.for_model(_ORIGINAL_TYPES[model_type], **fields), folder)
    base = get_method("llava" if isinstance(connector, Linear) else "llava-1.5")
    return dataclasses.replace(
        base,
        encoder=EncoderConfig(
            id=original_tower(name, folder),
            # -2 is what every published command sets; the oldest configs do not say.
            layer=config.get("mm_vision_select_layer", -2),
            class_token=select == "cls_patch",
            resize="pad" if aspect == "pad" else "crop",
        ),
        connector=connector,
        language_model=language_model(architecture(text), folder),
    )


# The original code's names of what it shares with the methods built on it. Activations take the odd places of its
# Sequential.
PROJECTOR_FROM_ORIGINAL = (
    *(Rule(f"model.mm_projector.{2 * i}.", f"connector.layers.{i}.") for i in range(MAX_PROJECTOR_DEPTH)),
    Rule("model.mm_projector.", "connector.layers.0."),
)
PROJECTOR_TO_ORIGINAL = (
    *(
        Rule(f"connector.layers.{i}.", f"model.mm_projector.{2 * i}.", beside="connector.layers.1.")
        for i in range(MAX_PROJECTOR_DEPTH)
    ),
    Rule("connector.layers.0.", "model.mm_projector."),
)
LANGUAGE_MODEL_FROM_ORIGINAL = (
    Rule("model.", "language_model.model.model."),
    Rule("lm_head.", "language_model.model.lm_head."),
)
LANGUAGE_MODEL_TO_ORIGINAL = (
    Rule("language_model.model.model.", "model."),
    Rule("language_model.model.lm_head.", "lm_head."),
)
CONSTANTS = (".rotary_emb.inv_freq", ".embeddings.position_ids")

LLAVA_ORIGINAL = register_layout(
    Layout(
        name="llava-original",
        matches=_is_original,
        method_from_config=_original_method,
        to_canonical=(
            *PROJECTOR_FROM_ORIGINAL,
            Rule("model.vision_tower.vision_tower.vision_model.", "encoder.model."),
            Rule("model.vision_tower.vision_tower.", "encoder.model."),
            *LANGUAGE_MODEL_FROM_ORIGINAL,
        ),
        from_canonical=(
            *PROJECTOR_TO_ORIGINAL,
            Rule("encoder.model.", "model.vision_tower.vision_tower.vision_model."),
            *LANGUAGE_MODEL_TO_ORIGINAL,
        ),
        constants=CONSTANTS,
    )
)
