"""Reading a released checkpoint's files: config.json, one weight file or several with an index."""

import json
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.weights.tensors import Weights

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


def open_weights(folder: Path) -> Weights:
    """All weights of a checkpoint, in the types of the files, none of them read yet.

    Raises:
        ZooError: no weights there, a damaged or missing shard, an index that disagrees with its shards.
    """
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return Weights.of_file(folder / name)
        if (index := folder / f"{name}.index.json").is_file():
            return _open_shards(index)
    for name in (*PROJECTOR_FILES, *TRAINED_FILES):
        if (folder / name).is_file():
            return Weights.of_file(folder / name)
    for name in ADAPTER_FILES:
        if (folder / name).is_file():
            raise ZooError(f"{folder} holds LoRA weights only ({name}); merge them into their base model first")
    raise ZooError(f"{folder} holds no weights; expected {' or '.join(WEIGHT_FILES)}, or its index of shards")


def _open_shards(index: Path) -> Weights:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ZooError(f"{index} has no weight_map; download it again")
    weights = Weights({})
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise ZooError(f"{index} names the shard {name!r}, which is outside its folder; download it again")
        if not (index.parent / name).is_file():
            raise ZooError(f"{index} names the shard {name}, which is missing; download it")
        shard = Weights.of_file(index.parent / name)
        if twice := shard.keys() & weights.keys():
            raise ZooError(
                f"{index.parent / name}: {min(twice)!r} is in an earlier shard too; download the shards again"
            )
        weights |= shard
    for what, keys in (
        ("lists", weight_map.keys() - weights.keys()),
        ("does not list", weights.keys() - weight_map.keys()),
    ):
        if keys:
            opposite = "no shard holds" if what == "lists" else "a shard holds"
            raise ZooError(f"{index} {what} {min(keys)!r}, which {opposite}; download index and shards together")
    return weights
