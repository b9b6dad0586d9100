"""Checkpoints of methods built on the original LLaVA code: Shikra, GPT4RoI and Video-ChatGPT.

Shikra and GPT4RoI were released as differences to LLaMA-7B (``load_released(folder, delta_of=...)``), Video-ChatGPT as
a single file that belongs on a LLaVA checkpoint.

Source: shikras/shikra, mllm/models/shikra/shikra.py; jshilong/GPT4RoI, gpt4roi/models; mbzuai-oryx/Video-ChatGPT,
video_chatgpt/model and eval/model_utils.py.
"""

import dataclasses
from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from zoo.connectors import GPT4RoI
from zoo.definition import Method
from zoo.encoders.source import resolve
from zoo.errors import ZooError
from zoo.language.added_vocabulary import ExtendedEmbedding, ExtendedLinear
from zoo.model import VLM
from zoo.registry import get_method
from zoo.weights.files import has_tokenizer
from zoo.weights.layouts import Layout, Rule, register_layout
from zoo.weights.llava import (
    CONSTANTS,
    LANGUAGE_MODEL_FROM_ORIGINAL,
    LANGUAGE_MODEL_TO_ORIGINAL,
    LLAVA_ORIGINAL,
    PROJECTOR_FROM_ORIGINAL,
    PROJECTOR_TO_ORIGINAL,
)

_MAX_ROUNDS = 16
_REGIONS = "model.spi_module."
_REGION_NAMES = (
    ("mlvl_fuse.input_conv.", "input_convolutions."),
    *(
        (f"mlvl_fuse.fuse_convs.{number}.{theirs}.", f"rounds.{number}.{ours}.")
        for number in range(_MAX_ROUNDS)
        for theirs, ours in (("conv", "convolution"), ("gn", "norm"))
    ),
    ("roi_align.pconvs.", "pooled_convolutions."),
    ("roi_align.pos_embedd.", "box_embedding."),
    ("roi_align.flatten_linear.", "flatten."),
    ("roi_align.updims.", "projection."),
)
PROJECTION = "model.mm_projector."
# Every third hidden state from the one that is projected goes to the region module.
_LEVEL_STEP = 3
# Of the vocabulary that Video-ChatGPT adds, the placeholder comes first and the marks around a video after it.
_NUM_PLACEHOLDERS = 1


def rules_on_llava(connector: Iterable[tuple[Rule, Rule]]) -> dict[str, tuple[Rule, ...]]:
    """Both directions, from a (to canonical, from canonical) pair for each name of the connector."""
    connector = tuple(connector)
    tower = "model.vision_tower.vision_tower.vision_model."
    return {
        "to_canonical": (*(x for x, _ in connector), Rule(tower, "encoder.model."), *LANGUAGE_MODEL_FROM_ORIGINAL),
        "from_canonical": (*(x for _, x in connector), Rule("encoder.model.", tower), *LANGUAGE_MODEL_TO_ORIGINAL),
    }


def pair(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """A name of the connector's in both directions, for ``rules_on_llava``."""
    return Rule(theirs, ours), Rule(ours, theirs)


def method_on_llava(name: str, config: Mapping[str, Any], folder: Path, *, has_added_tokens: bool = True) -> Method:
    """The registered method with the tower and the language model of a config.json in LLaVA's format."""
    ignored = {"mm_use_im_start_end", "image_aspect_ratio", "mm_projector_type"}
    fields = {key: value for key, value in config.items() if key not in ignored} | {"model_type": "llava"}
    read, base = LLAVA_ORIGINAL.method_from_config(fields, folder), get_method(name)
    if has_added_tokens and has_tokenizer(folder):
        known = AutoTokenizer.from_pretrained(folder).get_vocab()
        if missing := [token for token in base.vocabulary if token not in known]:
            raise ZooError(f"{folder}: the tokenizer lacks {missing}; use the tokenizer that belongs to the weights")
    return dataclasses.replace(
        base,
        encoder=dataclasses.replace(base.encoder, id=read.encoder.id, layer=read.encoder.layer),
        language_model=dataclasses.replace(read.language_model, has_added_tokens=has_added_tokens),
    )


def _is_shikra(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") == "shikra" and f"{PROJECTION}weight" in keys


SHIKRA_ORIGINAL = register_layout(
    Layout(
        name="shikra-original",
        matches=_is_shikra,
        method_from_config=lambda config, folder: method_on_llava("shikra", config, folder),
        **rules_on_llava(zip(PROJECTOR_FROM_ORIGINAL[-1:], PROJECTOR_TO_ORIGINAL[-1:])),
        constants=CONSTANTS,
    )
)


def _is_gpt4roi(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return any(key.startswith(_REGIONS) for key in keys)


def _region_sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the region module's weights say of it, by the names of our config."""
    width, flat = weights[f"{_REGIONS}roi_align.flatten_linear.weight"].shape
    return {
        "width": width,
        "roi_size": round((flat / width) ** 0.5),
        "num_rounds": sum(key.startswith(_REGIONS) and key.endswith(".gn.weight") for key in weights),
        "num_levels": sum(key.startswith(f"{_REGIONS}mlvl_fuse.input_conv.") for key in weights) // 2,
    }


def _gpt4roi_method(config: Mapping[str, Any], folder: Path) -> Method:
    method = method_on_llava("gpt4roi", config, folder)
    number = config["num_levels"]
    num_blocks = resolve(method.encoder).architecture.num_hidden_layers
    last = method.encoder.layer % (num_blocks + 1)
    levels = tuple(last - _LEVEL_STEP * step for step in reversed(range(number)))
    if levels[0] < 0:
        raise ZooError(f"{folder}: {number} levels of every third layer are more than the {num_blocks} blocks have")
    connector = GPT4RoI(
        levels=levels,
        pyramid_scales=tuple(2**step for step in reversed(range(number))),
        **{name: config[name] for name in ("width", "roi_size", "num_rounds")},
    )
    return dataclasses.replace(method, connector=connector)


GPT4ROI_ORIGINAL = register_layout(
    Layout(
        name="gpt4roi-original",
        matches=_is_gpt4roi,
        method_from_config=_gpt4roi_method,
        config_from_weights=_region_sizes,
        **rules_on_llava(
            (
                *(pair(_REGIONS + theirs, f"connector.regions.{ours}") for theirs, ours in _REGION_NAMES),
                pair(PROJECTION, "connector.projection."),
            )
        ),
        constants=CONSTANTS,
    )
)


def _is_video_chatgpt(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type", "VideoChatGPT") == "VideoChatGPT" and f"{PROJECTION}weight" in keys


def _video_chatgpt_method(config: Mapping[str, Any], folder: Path) -> Method:
    # The config.json of the LLaVA that a single file belongs on knows nothing of the added tokens.
    return method_on_llava("video-chatgpt", config, folder, has_added_tokens=config["model_type"] == "VideoChatGPT")


def _with_added_rows(state: Mapping[str, Tensor], model: VLM, config: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The tables of a single file as rows of its LLaVA and rows of the marks; the placeholder's is never read."""
    network = model.language_model.model
    modules = {id(module): name for name, module in network.named_modules()}
    fitted: dict[str, Tensor] = {}
    for module in (network.get_input_embeddings(), network.get_output_embeddings()):
        if not isinstance(module, ExtendedEmbedding | ExtendedLinear):
            return state
        key = f"language_model.model.{modules[id(module)]}"
        rows, number, number_added = state[f"{key}.weight"], len(module.weight), len(module.added)
        first = module.first_added
        if len(rows) == number:
            # Of LLaVA alone: the marks begin as new rows do.
            added = rows.mean(dim=0, keepdim=True).repeat(number_added, 1)
        elif len(rows) == first + _NUM_PLACEHOLDERS + number_added and rows.shape[1:] == module.weight.shape[1:]:
            added = rows[first + _NUM_PLACEHOLDERS :]
            rows = torch.cat([rows[:first], rows.new_zeros(number - first, rows.shape[1])])
        else:
            raise ZooError(
                f"{key}.weight of {tuple(rows.shape)} is neither the base's {tuple(module.weight.shape)} nor that and "
                f"{_NUM_PLACEHOLDERS + number_added} rows; give the LLaVA checkpoint that it was trained on"
            )
        fitted |= {f"{key}.weight": rows, f"{key}.added": added}
    return ChainMap(fitted, state)


VIDEO_CHATGPT_ORIGINAL = register_layout(
    Layout(
        name="video-chatgpt-original",
        matches=_is_video_chatgpt,
        method_from_config=_video_chatgpt_method,
        fit=_with_added_rows,
        on_base=LLAVA_ORIGINAL,
        **rules_on_llava((pair(PROJECTION, "connector.projection."),)),
        constants=CONSTANTS,
    )
)
