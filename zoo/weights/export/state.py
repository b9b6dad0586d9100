"""What the exporters share: the weights without doubles, added tokens as rows of the vocabulary, refusals."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.language.added_vocabulary import ExtendedEmbedding, ExtendedLinear
from zoo.model import VLM
from zoo.training.tuning import LORA_MARK
from zoo.weights.checkpoint_config import architecture

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What an exporter makes: ``config`` for config.json, ``state`` with canonical names."""

    config: dict[str, Any]
    state: State


def refusal(model: VLM, layout: str, reason: str) -> ZooError:
    return ZooError(f"method {model.method.name!r} cannot be exported to {layout}: {reason}")


def check(model: VLM, layout: str, requirements: Iterable[tuple[bool, str]]) -> None:
    """Raises ZooError with the reason of the first requirement (met or not, what is said if not) that is not met."""
    for is_met, reason in requirements:
        if not is_met:
            raise refusal(model, layout, reason)


def check_tower(model: VLM, layout: str, model_types: tuple[str, ...]) -> None:
    """Raises ZooError unless there is one vision tower of such a type, read at its own size without a norm of ours."""
    if model.encoder is None or model.connector is None:
        raise refusal(model, layout, "it has no encoder; save it as a run instead")
    tower = model.encoder.model.config
    kind = tower.model_type
    check(
        model,
        layout,
        (
            (kind in model_types, f"its encoder is {kind}, the class takes {' or '.join(model_types)}"),
            (model.encoder.config.video is None, "it has a tower for videos, the class has one for images"),
            (
                model.encoder.image_size == tower.image_size,
                f"encoder.image_size {model.encoder.image_size} interpolates the tower's {tower.image_size}",
            ),
        ),
    )


def whole_last_layer(model: VLM) -> bool:
    """Whether the encoder gives all tokens of its last block, the class token among them."""
    return model.encoder.layers == (-1,) and model.encoder.config.class_token


def plain_state(model: VLM, layout: str) -> State:
    """Every tensor once, on the CPU: of tied weights the one of the embedding. Raises ZooError for adapters."""
    state: State = {}
    seen: set[int] = set()
    for key, tensor in model.state_dict(keep_vars=True).items():
        if LORA_MARK in key:
            raise refusal(model, layout, "it has LoRA adapters; merge them first")
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[key] = tensor.detach().cpu()
    return state


def text_config(model: VLM) -> dict[str, Any]:
    """The language model's config, for as many tokens as it has rows."""
    return architecture(model.language_model.model.config)


def vocabulary_keys(model: VLM) -> list[str]:
    """Names of the embedding and the head, without ``.weight``."""
    network = model.language_model.model
    names = {id(module): name for name, module in network.named_modules()}
    modules = (network.get_input_embeddings(), network.get_output_embeddings())
    return [f"language_model.model.{names[id(module)]}" for module in modules]


def first_added(model: VLM) -> int | None:
    """The id of the first token with a row of its own beside the vocabulary; None without any."""
    embedding = model.language_model.model.get_input_embeddings()
    return embedding.first_added if isinstance(embedding, ExtendedEmbedding) else None


def fold_added(model: VLM, state: State, text: dict[str, Any]) -> None:
    """Added tokens become rows of the matrices, in place; rows that no token uses go."""
    first = first_added(model)
    if first is None:
        return
    head = model.language_model.model.get_output_embeddings()
    assert isinstance(head, ExtendedLinear) and head.bias is None
    added: Tensor | None = None
    for key in vocabulary_keys(model):
        # A tied head has neither matrix nor rows of its own.
        added = state.pop(f"{key}.added", added)
        if f"{key}.weight" in state:
            assert added is not None
            state[f"{key}.weight"] = torch.cat([state[f"{key}.weight"][:first], added])
            text["vocab_size"] = first + len(added)


def place_image_token(model: VLM, state: State, text: dict[str, Any], known: int | None = None) -> int:
    """The id of the placeholder of an image: ``known``, or the tokenizer's ``<image>``, or a new last row.

    The new row is the mean of the others, so that it never wins.
    """
    if known is None and model.language_model.has_tokenizer:
        known = model.language_model.tokenizer.get_vocab().get("<image>")
    if known is not None and known < text["vocab_size"]:
        return known
    for key in vocabulary_keys(model):
        if (weight := state.get(f"{key}.weight")) is not None:
            mean = weight.float().mean(dim=0, keepdim=True).to(weight.dtype)
            state[f"{key}.weight"] = torch.cat([weight, mean])
    text["vocab_size"] += 1
    return text["vocab_size"] - 1
