"""Video-LLaMA's checkpoints of the vision branch (``.pth``): video Q-Former, frame positions and projection.

Tower and language model come from their own checkpoints, the Q-Former of single frames from the BLIP-2 that
``connector.initial`` names. Checkpoints of the audio branch have keys of their own and are refused.

Source: DAMO-NLP-SG/Video-LLaMA, video_llama/models/video_llama.py.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.definition import Method
from zoo.registry import get_method
from zoo.weights import lavis
from zoo.weights.layouts import Layout, both_ways, register_layout
from zoo.weights.minigpt_4 import LANGUAGE_MODEL, PROJECTION

_QUERIES, _QFORMER = "video_query_tokens", "video_Qformer.bert."
_POSITIONS = "video_frame_position_embedding."


def _matches(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return _QUERIES in keys and f"{PROJECTION}.weight" in keys


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    qformer = lavis.qformer_sizes(weights, _QFORMER, _QUERIES)
    return {
        "connector": {
            "num_video_layers": qformer["num_layers"],
            "max_frames": len(weights[f"{_POSITIONS}weight"]),
            **{name: qformer[name] for name in ("num_queries", "width", "num_heads", "intermediate")},
        },
        "tower": lavis.tower_architecture(weights),
        "language_model": lavis.base_name(PROJECTION, weights),
    }


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    base = get_method("video-llama")
    return lavis.method_of(base, config, dataclasses.replace(base.connector, **config["connector"]))


VIDEO_LLAMA_ORIGINAL = register_layout(
    Layout(
        name="video-llama-original",
        matches=_matches,
        method_from_config=_method,
        config_from_weights=_sizes,
        unpack=lavis.with_joined_tower,
        constants=lavis.CONSTANTS,
        **both_ways(
            (
                (_QUERIES, "connector.video.queries"),
                (_POSITIONS, "connector.positions."),
                *lavis.qformer_names(_QFORMER, "connector.video."),
                *lavis.names(PROJECTION, LANGUAGE_MODEL, qformer="connector.frame."),
            )
        ),
    )
)
