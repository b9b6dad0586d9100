"""The layouts of LLaVA-1.6 and what is built on it: transformers' LLaVA-NeXT, LLaVA-NeXT-Video and LLaVA-OneVision
(llava-hf/*), and the original LLaVA-1.6 (liuhaotian/llava-v1.6-*).
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from transformers import LlavaNextConfig, LlavaNextVideoConfig, LlavaOnevisionConfig, PreTrainedConfig

from zoo.connectors import AnyResolutionMLP
from zoo.data.tiles import Tiles
from zoo.definition import Method
from zoo.errors import ZooError
from zoo.registry import get_method
from zoo.weights.checkpoint_config import parse
from zoo.weights.layouts import Layout, Rule, register_layout
from zoo.weights.llava import (
    CONSTANTS,
    LANGUAGE_MODEL_FROM_ORIGINAL,
    LANGUAGE_MODEL_TO_ORIGINAL,
    LLAVA_ORIGINAL,
    PROJECTOR_FROM_ORIGINAL,
    PROJECTOR_TO_ORIGINAL,
    hf_encoder,
    hf_language_model,
    hf_rules,
    projector_zero_keys,
)

# transformers' classes round before they cut to whole patches, the original code does not.
HF_UNPAD_DIGITS = 7


def tiles_from_pinpoints(pinpoints: Any, side: int, file: Path, *, width_first: bool, base: Tiles) -> Tiles:
    """Grids from resolutions in pixels, pairs (height, width), or with ``width_first`` (width, height).

    Raises ZooError for a resolution that is no whole number of tiles of ``side`` pixels.
    """
    grids = []
    for pinpoint in pinpoints:
        if len(pinpoint) != 2 or any(not isinstance(length, int) or length < 1 or length % side for length in pinpoint):
            raise ZooError(
                f"{file}: image_grid_pinpoints has {pinpoint!r}; give pairs of multiples of the tower's {side} pixels"
            )
        rows, columns = reversed(pinpoint) if width_first else pinpoint
        grids.append((rows // side, columns // side))
    return dataclasses.replace(base, grids=tuple(grids))


def _connector(parsed: PreTrainedConfig, base: AnyResolutionMLP, file: Path) -> AnyResolutionMLP:
    connector = dataclasses.replace(base, activation=parsed.projector_hidden_act, unpad_digits=HF_UNPAD_DIGITS)
    if isinstance(parsed, LlavaNextVideoConfig):
        mode, stride = parsed.spatial_pool_mode, parsed.spatial_pool_stride
        if mode not in ("average", "max") or stride != 2:
            raise ZooError(
                f"{file}: spatial_pool_mode {mode!r} with spatial_pool_stride {stride} is not supported; known: "
                "average and max with 2"
            )
        return dataclasses.replace(connector, video_pool=mode, pool_drops_edge=True)
    if isinstance(parsed, LlavaOnevisionConfig):
        ratio = re.fullmatch(r"anyres_max_(\d+)", parsed.vision_aspect_ratio)
        if not ratio:
            raise ZooError(
                f"{file}: vision_aspect_ratio {parsed.vision_aspect_ratio!r} is not of the form anyres_max_9"
            )
        return dataclasses.replace(connector, max_tiles=int(ratio[1]))
    return connector


def _hf_method(config: Mapping[str, Any], folder: Path, *, name: str, config_class: type[PreTrainedConfig]) -> Method:
    parsed, file = parse(lambda: config_class.from_dict(dict(config)), folder), folder / "config.json"
    base = get_method(name)
    encoder = hf_encoder(parsed, base.encoder, folder)
    if encoder.class_token:
        raise ZooError(
            f"{file}: vision_feature_select_strategy 'full' keeps the class token, which has no place on a map of "
            "tiles; set it to 'default'"
        )
    side = parsed.vision_config.image_size
    tiles = tiles_from_pinpoints(parsed.image_grid_pinpoints, side, file, width_first=False, base=base.encoder.tiles)
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(encoder, tiles=tiles),
        connector=_connector(parsed, base.connector, file),
        language_model=dataclasses.replace(
            hf_language_model(parsed, folder), has_added_tokens=base.language_model.has_added_tokens
        ),
    )


def _is_hf(config: Mapping[str, Any], keys: Collection[str], *, model_type: str) -> bool:
    return config.get("model_type") == model_type and any("multi_modal_projector.linear_1." in key for key in keys)


def _hf_layout(name: str, config_class: type[PreTrainedConfig]) -> Layout:
    return register_layout(
        Layout(
            name=f"{name}-hf",
            matches=partial(_is_hf, model_type=config_class.model_type),
            method_from_config=partial(_hf_method, name=name, config_class=config_class),
            **hf_rules(
                (
                    ("multi_modal_projector.linear_1.", "connector.layers.0."),
                    ("multi_modal_projector.linear_2.", "connector.layers.1."),
                    ("image_newline", "connector.newline"),
                )
            ),
            constants=CONSTANTS,
            zero_keys=projector_zero_keys,
        )
    )


LLAVA_NEXT_HF = _hf_layout("llava-next", LlavaNextConfig)
LLAVA_NEXT_VIDEO_HF = _hf_layout("llava-next-video", LlavaNextVideoConfig)
LLAVA_ONEVISION_HF = _hf_layout("llava-onevision", LlavaOnevisionConfig)


def _is_original(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return "model.image_newline" in keys and not {"vision_config", "mm_video_tower"} & config.keys()


def _original_method(config: Mapping[str, Any], folder: Path) -> Method:
    file = folder / "config.json"
    for field, expected in (
        ("image_aspect_ratio", "anyres"),
        ("mm_patch_merge_type", "spatial_unpad"),
        ("mm_resampler_type", None),
    ):
        if config.get(field) != expected:
            raise ZooError(
                f"{file}: {field} is {config.get(field)!r}, LLaVA-1.6 has {expected!r}; later releases of the same "
                "code load from their transformers ports (llava-hf)"
            )
    read = LLAVA_ORIGINAL.method_from_config(config | {"image_aspect_ratio": "square"}, folder)
    base = get_method("llava-next")
    tiles = tiles_from_pinpoints(
        config.get("image_grid_pinpoints") or (),
        read.encoder.transform().size,
        file,
        width_first=True,
        base=base.encoder.tiles,
    )
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(read.encoder, tiles=tiles),
        connector=dataclasses.replace(base.connector, depth=getattr(read.connector, "depth", 1)),
        language_model=read.language_model,
    )


LLAVA_NEXT_ORIGINAL = register_layout(
    Layout(
        name="llava-next-original",
        matches=_is_original,
        method_from_config=_original_method,
        to_canonical=(
            *PROJECTOR_FROM_ORIGINAL,
            Rule("model.image_newline", "connector.newline"),
            Rule("model.vision_tower.vision_tower.vision_model.", "encoder.model."),
            Rule("model.vision_tower.vision_tower.", "encoder.model."),
            *LANGUAGE_MODEL_FROM_ORIGINAL,
        ),
        from_canonical=(
            *PROJECTOR_TO_ORIGINAL,
            Rule("connector.newline", "model.image_newline"),
            Rule("encoder.model.", "model.vision_tower.vision_tower.vision_model."),
            *LANGUAGE_MODEL_TO_ORIGINAL,
        ),
        constants=CONSTANTS,
    )
)
