"""MiniGPT-4's checkpoints (``.pth``): the one linear layer that was trained.

Tower and language model come from their own checkpoints, the Q-Former from the BLIP-2 that ``connector.initial`` names.

Source: Vision-CAIR/MiniGPT-4, minigpt4/models (``llama_proj``; the rest is LAVIS's).
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.definition import Method
from zoo.registry import get_method
from zoo.weights.lavis import CONSTANTS, base_name, method_of, names, tower_architecture, with_joined_tower
from zoo.weights.layouts import Layout, both_ways, register_layout

PROJECTION, LANGUAGE_MODEL = "llama_proj", "llama_model"


def _matches(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return f"{PROJECTION}.weight" in keys and "video_query_tokens" not in keys


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"tower": tower_architecture(weights), "language_model": base_name(PROJECTION, weights)}


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    base = get_method("minigpt-4")
    return method_of(base, config, base.connector)


MINIGPT_4_ORIGINAL = register_layout(
    Layout(
        name="minigpt-4-original",
        matches=_matches,
        method_from_config=_method,
        config_from_weights=_sizes,
        unpack=with_joined_tower,
        constants=CONSTANTS,
        **both_ways(names(PROJECTION, LANGUAGE_MODEL)),
    )
)
