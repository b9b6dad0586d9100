"""Load a released checkpoint: its layout, its own config, every weight exactly once."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.definition import Method
from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.language import LanguageModelConfig
from zoo.model import VLM
from zoo.weights.files import PROJECTOR_FILES, TRAINED_FILES, open_weights, read_json
from zoo.weights.fill import fill
from zoo.weights.layouts import detect

# Llama and its like, OPT, T5.
_EMBEDDINGS = (
    "language_model.model.model.embed_tokens.weight",
    "language_model.model.model.decoder.embed_tokens.weight",
    "language_model.model.shared.weight",
)
_HEAD = "language_model.model.lm_head.weight"


def load_released(
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: "str | torch.device" = "cpu",
    base: str | None = None,
) -> VLM:
    """The model of a released checkpoint, in evaluation mode. Its weights go from the files to the device one by one.

    Layout, architecture and hyper-parameters come from the keys and ``config.json`` alone. A vision tower that is not
    among the weights is loaded from where the config says.

    Args:
        folder: config.json, weights (safetensors or .bin, in one file or in shards with an index), tokenizer if any.
        dtype: of the parameters, whatever the files hold.
        device: where the model is to be.
        base: id or folder of the language model that a checkpoint without one belongs to (LLaVA's first stage,
            OpenFlamingo).

    Raises:
        ZooError: unreadable files, an unknown layout, a missing, extra or wrongly shaped key, a projector without base.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ZooError(f"{folder} is no folder; give the folder of a checkpoint")
    if not (folder / "config.json").is_file() and any((folder / name).is_file() for name in PROJECTOR_FILES):
        raise ZooError(f"{folder} holds a projector without config.json; put the one of its training beside it")
    has_config = (folder / "config.json").is_file() or not any((folder / name).is_file() for name in TRAINED_FILES)
    config = read_json(folder / "config.json") if has_config else {}
    released = open_weights(folder)
    layout = detect(config, released.keys(), where=str(folder))
    names = layout.rename(released, "to_canonical")
    state: Mapping[str, Tensor] = released.renamed(names)
    if layout.config_from_weights is not None:
        config = layout.config_from_weights(released)
    method = layout.method_from_config(config, folder)
    has_language_model = not layout.partial_language_model and any(
        key.startswith("language_model.") and key not in _EMBEDDINGS for key in state
    )
    if not has_language_model:
        if base is None:
            raise ZooError(
                f"{folder} holds what was trained only; it needs its base {_base_hint(config)}: "
                "zoo.weights.load_released(folder, base=ID_OR_FOLDER)"
            )
        method = dataclasses.replace(method, language_model=LanguageModelConfig(id=base))
    elif base is not None:
        raise ZooError(f"{folder} holds a whole language model; leave base={base!r} out")
    else:
        method = _untie(method, state)
    has_encoder = any(key.startswith("encoder.") for key in state)
    model = build_model(method, pretrained=not has_encoder, dtype=dtype, filled_later=True)
    elsewhere = () if has_language_model else ("language_model.",)
    if not has_encoder and method.encoder is not None and method.encoder.id:
        elsewhere += ("encoder.",)
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
        where=str(folder),
    )
    return model.eval()


def _base_hint(config: Mapping[str, Any]) -> str:
    name, width = config.get("_name_or_path"), config.get("hidden_size")
    return repr(name) if name else f"language model (model_type {config.get('model_type')!r}, hidden_size {width})"


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
