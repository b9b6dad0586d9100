"""LLaVA's LoRA releases: adapters of the language model, and what was trained beside them, over a base that is named.

The adapters are added to the base's weights as they are loaded, as the original code does before inference.

Source: LLaVA, llava/model/builder.py (``load_pretrained_model`` with a base) and llava/train/train.py.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.model import VLM
from zoo.weights.checkpoint import ADAPTER
from zoo.weights.layouts import Layout, Rule, register_layout
from zoo.weights.llava import LLAVA_ORIGINAL

# What peft puts before the names of the model that it wraps.
_WRAPPER = "base_model.model."
_FACTOR = re.compile(r"\.lora_([AB])(\.default)?\.weight$")
_OTHER_KINDS = ("use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern")


def _wrapped(rules: tuple[Rule, ...], side: str) -> tuple[Rule, ...]:
    return tuple(dataclasses.replace(rule, **{side: _WRAPPER + getattr(rule, side)}) for rule in rules)


def _matches(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return any(_FACTOR.search(key) for key in keys) and any(
        key.startswith(f"{_WRAPPER}model.mm_projector.") for key in keys
    )


def _merged(state: Mapping[str, Tensor], model: VLM, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """What is left once W + scale B A is in every adapted layer; all layers of adapter_config.json have to be there."""
    adapter = config[ADAPTER]
    for field in _OTHER_KINDS:
        if adapter.get(field):
            raise ZooError(
                f"adapter_config.json: {field} {adapter[field]!r} is no plain LoRA; merge it with peft first"
            )
    rank = adapter["r"]
    scale = adapter["lora_alpha"] / (rank**0.5 if adapter.get("use_rslora") else rank)
    rest = {key: state[key] for key in state if not _FACTOR.search(key)}
    factors = {_FACTOR.sub(r".\1", key): key for key in state if _FACTOR.search(key)}
    targets = adapter["target_modules"]
    for name, layer in model.language_model.named_modules():
        name = f"language_model.{name}"
        chosen = re.fullmatch(targets, name) if isinstance(targets, str) else name.rpartition(".")[2] in targets
        if not (isinstance(layer, nn.Linear) and chosen):
            continue
        for factor in "AB":
            if f"{name}.{factor}" not in factors:
                theirs = LLAVA_LORA.rename([f"{name}.lora_{factor}.weight"], "from_canonical").popitem()[1]
                raise ZooError(f"the adapter lacks {theirs}, which adapter_config.json names; download it again")
        down, up = (state[factors.pop(f"{name}.{factor}")] for factor in "AB")
        if down.shape != (rank, layer.in_features) or up.shape != (layer.out_features, rank):
            raise ZooError(
                f"the adapter of {name} has shapes {tuple(down.shape)} and {tuple(up.shape)}, but the base has a layer "
                f"from {layer.in_features} to {layer.out_features} and adapter_config.json rank {rank}; give the base "
                "that it was trained on"
            )
        with torch.no_grad():
            layer.weight.copy_(layer.weight.float() + scale * (up.float() @ down.float()))
    # Adapters of no layer: named as extra weights.
    return rest | {key: state[key] for key in factors.values()}


LLAVA_LORA = register_layout(
    Layout(
        name="llava-lora",
        matches=_matches,
        method_from_config=LLAVA_ORIGINAL.method_from_config,
        to_canonical=_wrapped(LLAVA_ORIGINAL.to_canonical, "source"),
        from_canonical=_wrapped(LLAVA_ORIGINAL.from_canonical, "target"),
        constants=LLAVA_ORIGINAL.constants,
        fit=_merged,
        partial_language_model=True,
    )
)
