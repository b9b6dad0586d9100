"""What a path holds: the config.json and the weights of a checkpoint, in all the forms that releases have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.weights.files import ADAPTER_FILES, PROJECTOR_FILES, WEIGHT_FILES, open_weights, read_json
from zoo.weights.tensors import Weights

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_ADAPTER_CONFIG = "adapter_config.json"
# What LLaVA's training by LoRA changes beside the adapters.
_BESIDE_ADAPTERS = "non_lora_trainables.bin"
# Where ``Checkpoint.config`` has an adapter's own config.
ADAPTER = "adapter"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """``where`` names it in messages; ``folder`` has the files that lie beside the weights; ``config`` may be empty."""

    where: str
    folder: Path
    config: dict[str, Any]
    weights: Weights


def open_checkpoint(path: Path) -> Checkpoint:
    """A folder with config.json and weights, one with LoRA adapters, or a file of weights, alone in a folder or not.

    Raises:
        ZooError: nothing of the kind, damaged files, a projector without the config.json of its training.
    """
    if path.is_file() and path.name not in (*WEIGHT_FILES, *PROJECTOR_FILES):
        return Checkpoint(where=str(path), folder=path.parent, config={}, weights=Weights.of_file(path))
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        raise ZooError(f"{path} is no folder; give the folder of a checkpoint, or its file of weights")
    if not (folder / "config.json").is_file():
        if any((folder / name).is_file() for name in PROJECTOR_FILES):
            raise ZooError(f"{folder} holds a projector without config.json; put the one of its training beside it")
        files = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)
        if files and not any(file.name in WEIGHT_FILES for file in files):
            if len(files) > 1:
                names = ", ".join(file.name for file in files[:4]) + (", ..." if len(files) > 4 else "")
                raise ZooError(f"{folder} holds several files of weights and no config.json; give one of {names}")
            return Checkpoint(where=str(files[0]), folder=folder, config={}, weights=Weights.of_file(files[0]))
    config = read_json(folder / "config.json")
    adapter = next((folder / name for name in ADAPTER_FILES if (folder / name).is_file()), None)
    if adapter is not None and (folder / _BESIDE_ADAPTERS).is_file():
        weights = Weights.of_file(adapter) | Weights.of_file(folder / _BESIDE_ADAPTERS)
        config |= {ADAPTER: read_json(folder / _ADAPTER_CONFIG)}
        return Checkpoint(where=str(folder), folder=folder, config=config, weights=weights)
    return Checkpoint(where=str(folder), folder=folder, config=config, weights=open_weights(folder))
