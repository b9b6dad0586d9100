"""Load a released checkpoint: its layout, its own config, every weight exactly once."""

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.config import PARTS
from zoo.definition import Method
from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.language.known import KNOWN
from zoo.loading import locate
from zoo.model import VLM
from zoo.weights.checkpoint import ADAPTER, open_checkpoint
from zoo.weights.delta import add_base
from zoo.weights.files import open_weights, read_json
from zoo.weights.fill import fill
from zoo.weights.layouts import Layout, detect
from zoo.weights.tensors import Weights

# Llama and its like, OPT, T5.
_EMBEDDINGS = (
    "language_model.model.model.embed_tokens.weight",
    "language_model.model.model.decoder.embed_tokens.weight",
    "language_model.model.shared.weight",
)
_HEAD = "language_model.model.lm_head.weight"
_NORM = "language_model.model.model.norm.weight"


def load_released(
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: "str | torch.device" = "cpu",
    base: str | None = None,
    delta_of: str | None = None,
) -> VLM:
    """The model of a released checkpoint, in evaluation mode. Its weights go from the files to the device one by one.

    On a CPU those that are there in the type asked for stay in the mapped pages of a safetensors file, as in
    transformers: they are read when first used. Replace such a file, as all its writers do; never write into it.

    Layout, architecture and hyper-parameters come from the keys and ``config.json`` alone. A vision tower that is not
    among the weights is loaded from where the config says.

    Args:
        folder: config.json, weights (safetensors or .bin, in one file or in shards with an index), tokenizer if any; or
            a single file of weights, for releases that are no more.
        dtype: of the parameters, whatever the files hold.
        device: where the model is to be.
        base: id or folder of the language model that a checkpoint without one belongs to (LLaVA's first stage and LoRA
            releases, OpenFlamingo, LAVIS, MiniGPT-4, Video-LLaMA); for Video-ChatGPT, the folder of a LLaVA checkpoint.
        delta_of: the checkpoint is a difference to the language model in this folder or of this id, to which it is
            added: LLaVA's first releases, Shikra, GPT4RoI.

    Raises:
        ZooError: unreadable files, an unknown layout, a missing, extra or wrongly shaped key, a projector without base.
    """
    checkpoint = open_checkpoint(Path(folder))
    where, folder, config, released = checkpoint.where, checkpoint.folder, checkpoint.config, checkpoint.weights
    layout = detect(config, released.keys(), where=where)
    if delta_of is not None:
        released = add_base(released, delta_of, where=where)
    if layout.unpack is not None:
        released = layout.unpack(released)
    names = layout.rename(released, "to_canonical")
    state: Mapping[str, Tensor] = (
        released.renamed(names) if isinstance(released, Weights) else {new: released[old] for old, new in names.items()}
    )
    if layout.on_base is not None and not config:
        if base is None:
            raise _needs_base(where, "a checkpoint of the original LLaVA code")
        folder, base = locate(base), None
        config = read_json(folder / "config.json")
        state, theirs = _completed(state, folder, layout.on_base)
        names |= theirs
    if layout.config_from_weights is not None:
        config = {**config, **layout.config_from_weights(released)}
    method = layout.method_from_config(config, folder)
    has_language_model = not layout.partial_language_model and any(
        key.startswith("language_model.") and key not in _EMBEDDINGS for key in state
    )
    if not has_language_model:
        if base is None:
            raise _needs_base(where, _published_base(method, config))
        language_model = dataclasses.replace(
            method.language_model, id=base, revision=None, architecture={}, tokenizer=None
        )
        method = dataclasses.replace(method, language_model=language_model)
    elif base is not None:
        raise ZooError(f"{where} holds a whole language model; leave base={base!r} out")
    else:
        method = _untie(method, state)
        if delta_of is None and _looks_like_a_difference(state):
            warnings.warn(
                f"{where}: the language model's last norm has weights around 0, as differences have; if that is what "
                "was released, give its base: zoo.weights.load_released(folder, delta_of=FOLDER)",
                stacklevel=2,
            )
    elsewhere = () if has_language_model else ("language_model.",)
    has_encoder = any(key.startswith("encoder.") for key in state)
    if not has_encoder and method.encoder is not None and method.encoder.id:
        elsewhere += ("encoder.",)
    reading = {part for part in PARTS if f"{part}." in elsewhere} | {"connector"}
    model = build_model(method, pretrained=reading, dtype=dtype, filled_later=True)
    if method.connector is not None and method.connector.initial:
        elsewhere += tuple(f"connector.{prefix}" for prefix in model.connector.initial_names)
    if layout.fit is not None:
        state = layout.fit(state, model, config)
    spelling = layout.rename(model.state_dict(), "from_canonical")
    spelling |= {new: old for old, new in names.items()}
    fill(
        model,
        state,
        device=device,
        zero=layout.zero_keys(config),
        elsewhere=elsewhere,
        spelling=spelling,
        where=where,
    )
    return model.eval()


def _completed(state: Weights, folder: Path, layout: Layout) -> tuple[Weights, dict[str, str]]:
    """``state`` and what it lacks of the language model of a checkpoint of this layout, and the names there."""
    rest = open_weights(folder)
    names = layout.rename(rest, "to_canonical")
    names = {old: new for old, new in names.items() if new.startswith("language_model.") and new not in state}
    if any(key.startswith("language_model.") and key not in _EMBEDDINGS for key in state):
        return state, {}
    return rest.renamed(names) | state, names


def _needs_base(where: str, base: str) -> ZooError:
    return ZooError(
        f"{where} holds what was trained only; it needs its base, {base}: "
        "zoo.weights.load_released(folder, base=ID_OR_FOLDER)"
    )


def _published_base(method: Method, config: Mapping[str, Any]) -> str:
    """What the checkpoint says of its base, else what the method was published with."""
    name = config.get(ADAPTER, {}).get("base_model_name_or_path") or config.get("_name_or_path")
    if name:
        return repr(name)
    language_model = method.language_model
    if not language_model.id:
        return f"language model (model_type {config.get('model_type')!r}, hidden_size {config.get('hidden_size')})"
    known = KNOWN.get(language_model.id, {"id": language_model.id})["id"]
    revision = f" at revision {language_model.revision}" if language_model.revision else ""
    return f"published with {known!r}{revision}"


def _looks_like_a_difference(state: Mapping[str, Tensor]) -> bool:
    """Trained norms are positive; a quarter of these are not, and none is large."""
    if _NORM not in state:
        return False
    norm = state[_NORM].float()
    return bool((norm <= 0).float().mean() > 0.25 and norm.abs().max() < 0.25)


def _untie(method: Method, state: Mapping[str, Tensor]) -> Method:
    """A checkpoint with a head of its own is not tied, whatever its config says (transformers decides the same)."""
    fields = method.language_model.architecture
    embedding = next((state[key] for key in _EMBEDDINGS if key in state), None)
    if not fields.get("tie_word_embeddings") or embedding is None or _HEAD not in state:
        return method
    if torch.equal(embedding, state[_HEAD]):
        return method
    language_model = dataclasses.replace(method.language_model, architecture=fields | {"tie_word_embeddings": False})
    return dataclasses.replace(method, language_model=language_model)
