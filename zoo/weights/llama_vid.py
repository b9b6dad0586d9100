"""LLaMA-VID's checkpoints: LLaVA's with the Q-Former and the projections of the context token beside the MLP.

Source: dvlab-research/LLaMA-VID, llamavid/model/llamavid_arch.py; the tower's names are LAVIS's.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.connectors import ContextContent
from zoo.definition import Method
from zoo.errors import ZooError
from zoo.registry import get_method
from zoo.weights import lavis
from zoo.weights.layouts import Layout, Rule, register_layout
from zoo.weights.llava import (
    CONSTANTS,
    LANGUAGE_MODEL_FROM_ORIGINAL,
    LANGUAGE_MODEL_TO_ORIGINAL,
    LLAVA_ORIGINAL,
)

_QUERIES, _QFORMER = "model.vlm_att_query", "model.vlm_att_encoder.bert."
_TOWER = "model.vision_tower.vision_tower."
# The file of the published tower.
_EVA = "eva_vit_g.pth"
_NAMES = (
    (_QUERIES, "connector.body.queries"),
    *lavis.qformer_names(_QFORMER, "connector.body."),
    (f"{_QFORMER}embeddings.word_embeddings.", "connector.embeddings.words."),
    (f"{_QFORMER}embeddings.position_embeddings.", "connector.embeddings.positions."),
    ("model.vlm_att_ln.", "connector.norm."),
    ("model.vlm_att_projector.", "connector.query."),
    ("model.vlm_att_key_projector.", "connector.key."),
    ("model.vlm_att_val_projector.", "connector.context."),
    # The activation between them has a place in the original's Sequential.
    ("model.mm_projector.0.", "connector.content.0."),
    ("model.mm_projector.2.", "connector.content.1."),
)


def connector_sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the weights say of the connector, by the names of its config."""
    words, positions = (weights[f"{_QFORMER}embeddings.{x}_embeddings.weight"] for x in ("word", "position"))
    return {
        **lavis.qformer_sizes(weights, _QFORMER, _QUERIES),
        "instruction_vocabulary": len(words),
        "max_positions": len(positions),
    }


def content_grid(compress: str | None, *, where: Path) -> int:
    """``compress_type``: "mean", "grid:N", or nothing for all patches. Raises ZooError for others."""
    if not compress:
        return 0
    if compress == "mean":
        return 1
    grid = re.fullmatch(r"grid:(\d+)", compress)
    if not grid:
        raise ZooError(f"{where}: compress_type {compress!r} is unknown; known: mean, grid:N, none")
    return int(grid[1])


def _with_joined_tower(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if not any(key.startswith(f"{_TOWER}blocks.") for key in weights):
        return weights
    return lavis.with_joined_tower({key.replace(_TOWER, lavis.TOWER): weights[key] for key in weights})


def _matches(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return _QUERIES in keys and "model.mm_projector.0.weight" in keys


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    file, base = folder / "config.json", get_method("llama-vid")
    if "qformer" not in str(config.get("bert_type", "qformer")):
        raise ZooError(
            f"{file}: bert_type {config['bert_type']!r} is no Q-Former; known: qformer_pretrain and the like"
        )
    ignored = {"mm_use_im_start_end", "image_aspect_ratio", "mm_vision_tower", "sizes"}
    tower = str(config.get("mm_vision_tower", _EVA))
    is_eva = Path(tower).name == _EVA
    fields = {key: value for key, value in config.items() if key not in ignored} | {"model_type": "llava"}
    fields |= {"mm_vision_tower": base.encoder.id if is_eva else tower}
    read = LLAVA_ORIGINAL.method_from_config(fields, folder)
    encoder = base.encoder
    if not is_eva:
        encoder = dataclasses.replace(encoder, id=read.encoder.id, layer=read.encoder.layer)
    elif config["sizes"]["tower"]:
        encoder = dataclasses.replace(encoder, id="", revision=None, architecture=config["sizes"]["tower"])
    connector = ContextContent(
        content_grid=content_grid(config.get("compress_type"), where=file),
        instruction_tokenizer=base.connector.instruction_tokenizer,
        **config["sizes"]["connector"],
    )
    return dataclasses.replace(base, encoder=encoder, connector=connector, language_model=read.language_model)


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"sizes": {"connector": connector_sizes(weights), "tower": lavis.tower_architecture(weights)}}


LLAMA_VID_ORIGINAL = register_layout(
    Layout(
        name="llama-vid-original",
        matches=_matches,
        method_from_config=_method,
        config_from_weights=_sizes,
        unpack=_with_joined_tower,
        to_canonical=(
            *(Rule(theirs, ours) for theirs, ours in _NAMES),
            Rule(lavis.TOWER, "encoder.model."),
            Rule(f"{_TOWER}vision_model.", "encoder.model."),
            *LANGUAGE_MODEL_FROM_ORIGINAL,
        ),
        from_canonical=(
            *(Rule(ours, theirs) for theirs, ours in _NAMES),
            Rule("encoder.model.", lavis.TOWER),
            *LANGUAGE_MODEL_TO_ORIGINAL,
        ),
        constants=(*CONSTANTS, *lavis.CONSTANTS),
    )
)
