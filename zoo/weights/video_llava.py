"""The layouts of Video-LLaVA checkpoints: transformers' (Video-LLaVA-7B-hf) and the original code's (Video-LLaVA-7B).

They are different models: the original's video tower attends over time, transformers' class has a plain CLIP tower in
its place, and the conversion of the released weights dropped the temporal ones. Each layout builds the model that its
files were made for.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import VideoLlavaConfig

from zoo.connectors import MLP
from zoo.definition import Method
from zoo.errors import ZooError
from zoo.registry import get_method
from zoo.weights.checkpoint_config import architecture, language_model, parse
from zoo.weights.layouts import Layout, Rule, register_layout
from zoo.weights.llava import (
    CONSTANTS,
    IMAGE_TOKEN_FIELD,
    LANGUAGE_MODEL_FROM_ORIGINAL,
    LANGUAGE_MODEL_TO_ORIGINAL,
    LLAVA_ORIGINAL,
    PROJECTOR_FROM_ORIGINAL,
    PROJECTOR_TO_ORIGINAL,
    original_tower,
    projector_zero_keys,
)


def _is_hf(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") == "video_llava" and any("multi_modal_projector.linear_1." in key for key in keys)


def _hf_method(config: Mapping[str, Any], folder: Path) -> Method:
    parsed = parse(lambda: VideoLlavaConfig.from_dict(dict(config)), folder)
    vision, text, layer = parsed.vision_config, parsed.text_config, parsed.vision_feature_layer
    if vision.model_type != "clip_vision_model":
        raise ZooError(
            f"{folder / 'config.json'}: vision_config is a {vision.model_type}; the frames of videos keep a class "
            "token, so give a clip_vision_model"
        )
    text_fields = architecture(text) | {
        "tie_word_embeddings": bool(parsed.tie_word_embeddings),
        IMAGE_TOKEN_FIELD: parsed.image_token_id,
    }
    base = get_method("video-llava")
    tower = {
        "id": "",
        "revision": None,
        "architecture": architecture(vision),
        "layer": layer if isinstance(layer, int) else -1,
        "layers": () if isinstance(layer, int) else tuple(layer),
        # As transformers' processor does it, for images and frames.
        "resize": "crop",
        "interpolation": "bicubic",
    }
    video = dataclasses.replace(base.encoder.video, **tower)
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(base.encoder, video=video, **tower),
        connector=MLP(
            depth=2,
            activation=parsed.projector_hidden_act,
            image_class_token=parsed.vision_feature_select_strategy == "full",
        ),
        language_model=language_model(text_fields, folder),
    )


# The rules cover files of the hub (transformers 4 and before), files of transformers 5, and its names in memory.
VIDEO_LLAVA_HF = register_layout(
    Layout(
        name="video-llava-hf",
        matches=_is_hf,
        method_from_config=_hf_method,
        to_canonical=(
            Rule("language_model.lm_head.", "language_model.model.lm_head."),
            Rule("lm_head.", "language_model.model.lm_head."),
            Rule("language_model.model.", "language_model.model.model."),
            Rule("model.language_model.", "language_model.model.model."),
            *(
                Rule(f"{prefix}{old}.", new)
                for old, new in (
                    ("image_tower.vision_model", "encoder.model."),
                    ("image_tower", "encoder.model."),
                    ("video_tower.vision_model", "encoder.video.model."),
                    ("video_tower", "encoder.video.model."),
                    ("multi_modal_projector.linear_1", "connector.layers.0."),
                    ("multi_modal_projector.linear_2", "connector.layers.1."),
                )
                for prefix in ("", "model.")
            ),
        ),
        from_canonical=(
            Rule("language_model.model.lm_head.", "language_model.lm_head."),
            Rule("language_model.model.model.", "language_model.model."),
            Rule("encoder.video.model.", "video_tower.vision_model."),
            Rule("encoder.model.", "image_tower.vision_model."),
            Rule("connector.layers.0.", "multi_modal_projector.linear_1."),
            Rule("connector.layers.1.", "multi_modal_projector.linear_2."),
        ),
        constants=CONSTANTS,
        zero_keys=projector_zero_keys,
    )
)


def _is_original(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return "mm_video_tower" in config and any(key.startswith("model.mm_projector.") for key in keys)


def _original_method(config: Mapping[str, Any], folder: Path) -> Method:
    for field in ("mm_image_tower", "mm_video_tower"):
        if not config.get(field):
            raise ZooError(f"{folder / 'config.json'} has no {field}; set it to the id or folder of that tower")
    read = LLAVA_ORIGINAL.method_from_config(config | {"mm_vision_tower": config["mm_image_tower"]}, folder)
    base = get_method("video-llava")
    video = dataclasses.replace(
        base.encoder.video, id=original_tower(config["mm_video_tower"], folder), layer=read.encoder.layer
    )
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(read.encoder, class_token=True, video=video),
        connector=MLP(depth=getattr(read.connector, "depth", 1), image_class_token=read.encoder.class_token),
        language_model=read.language_model,
    )


VIDEO_LLAVA_ORIGINAL = register_layout(
    Layout(
        name="video-llava-original",
        matches=_is_original,
        method_from_config=_original_method,
        to_canonical=(
            *PROJECTOR_FROM_ORIGINAL,
            Rule("model.image_tower.image_tower.", "encoder.model."),
            Rule("model.video_tower.video_tower.", "encoder.video.model."),
            *LANGUAGE_MODEL_FROM_ORIGINAL,
        ),
        from_canonical=(
            *PROJECTOR_TO_ORIGINAL,
            Rule("encoder.video.model.", "model.video_tower.video_tower."),
            Rule("encoder.model.", "model.image_tower.image_tower."),
            *LANGUAGE_MODEL_TO_ORIGINAL,
        ),
        constants=CONSTANTS,
    )
)
