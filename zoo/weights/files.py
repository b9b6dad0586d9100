"""Reading a released checkpoint's files: config.json, one weight file or several with an index."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.errors import ZooError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# OpenFlamingo's: the trained parameters, without any config.json.
TRAINED_FILES = ("checkpoint.pt",)
PROJECTOR_FILES = ("mm_projector.safetensors", "mm_projector.bin")
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises ZooError for a missing or malformed file."""
    if not file.is_file():
        raise ZooError(f"no such file: {file}; give a folder in the hub's layout")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ZooError(f"{file} is not valid JSON: {' '.join(str(error).split())}; mend the file") from None
    if not isinstance(values, dict):
        raise ZooError(f"{file} holds no JSON object; mend the file")
    return values


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint, on the CPU, in the types of the files.

    Raises:
        ZooError: no weights there, a damaged or missing shard, an index that disagrees with its shards.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return _read(folder / name)
        if (index := folder / f"{name}.index.json").is_file():
            return _read_shards(index)
    for name in (*PROJECTOR_FILES, *TRAINED_FILES):
        if (folder / name).is_file():
            return _read(folder / name)
    for name in ADAPTER_FILES:
        if (folder / name).is_file():
            raise ZooError(f"{folder} holds LoRA weights only ({name}); merge them into their base model first")
    raise ZooError(f"{folder} holds no weights; expected {' or '.join(WEIGHT_FILES)}, or its index of shards")


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ZooError(f"{file} is damaged or no file of weights ({reason}); download it again") from None
    if not isinstance(tensors, dict):
        raise ZooError(f"{file} holds a {type(tensors).__name__}, not weights by name; export a state dict")
    for key, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ZooError(f"{file}: {key!r} is a {type(value).__name__}, not a tensor; export a state dict")
    return tensors


def _read_shards(index: Path) -> dict[str, Tensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ZooError(f"{index} has no weight_map; download it again")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise ZooError(f"{index} names the shard {name!r}, which is outside its folder; download it again")
        if not (index.parent / name).is_file():
            raise ZooError(f"{index} names the shard {name}, which is missing; download it")
        shard = _read(index.parent / name)
        if twice := shard.keys() & tensors.keys():
            raise ZooError(
                f"{index.parent / name}: {min(twice)!r} is in an earlier shard too; download the shards again"
            )
        tensors |= shard
    for what, keys in (
        ("lists", weight_map.keys() - tensors.keys()),
        ("does not list", tensors.keys() - weight_map.keys()),
    ):
        if keys:
            opposite = "no shard holds" if what == "lists" else "a shard holds"
            raise ZooError(f"{index} {what} {min(keys)!r}, which {opposite}; download index and shards together")
    return tensors
