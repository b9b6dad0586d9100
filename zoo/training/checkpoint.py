"""Checkpoints: the trained part only, everything needed to go on bitwise, and the names of the frozen bases."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.config import Stage
from zoo.errors import ZooError
from zoo.model import VLM
from zoo.run import RunConfig, save_run
from zoo.training.tuning import LORA_MARK

WEIGHTS_FILE = "trained.safetensors"
STATE_FILE = "state.json"
OPTIMIZER_FILE = "optimizer.pt"
RNG_FILE = "rng.pt"


def trained_parameters(model: VLM, stages: "tuple[Stage, ...] | list[Stage]") -> dict[str, Tensor]:
    """Every parameter that one of the stages trains, by its canonical name ``part.key``."""
    trained = {}
    for part, module in model.parts():
        for key, parameter in module.named_parameters():
            name, mode = f"{part}.{key}", "lora" if LORA_MARK in key else "full"
            if any(stage.mode(name) == mode for stage in stages):
                trained[name] = parameter
    return trained


def fingerprint(model: VLM, part: str, exclude: "set[str] | dict[str, Any]" = frozenset()) -> str:
    """A hash of names, shapes and a sample of the values of a part's parameters that are not in ``exclude``.

    It tells one base checkpoint from another without reading gigabytes; it is no protection against an attacker.
    """
    digest = hashlib.sha256()
    for key, parameter in sorted(dict(model.parts())[part].named_parameters()):
        if LORA_MARK in key or f"{part}.{key}" in exclude:
            continue
        values = parameter.detach().flatten()
        sample = values[:: max(1, len(values) // 64)][:64].float().cpu()
        digest.update(f"{key.replace('.base_layer', '')}{tuple(parameter.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def bases(model: VLM, trained: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The frozen bases that a partial checkpoint stands on: part, id, revision, fingerprint of the frozen weights."""
    method = model.method
    rows = []
    for part, config in (("encoder", method.encoder), ("language_model", method.language_model)):
        if config is not None:
            print_ = fingerprint(model, part, trained)
            rows.append({"part": part, "id": config.id, "revision": config.revision, "fingerprint": print_})
    return rows


def save_weights(model: VLM, config: RunConfig, stages: "tuple[Stage, ...] | list[Stage]", folder: Path) -> None:
    """Write config.yaml, the trained parameters and the names of the bases: what ``zoo.load`` reads."""
    trained = trained_parameters(model, stages)
    save_run(config, folder)
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in trained.items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt", "bases": json.dumps(bases(model, trained))})


def load_weights(model: VLM, stages: "tuple[Stage, ...] | list[Stage]", folder: Path) -> None:
    """Copy a checkpoint's trained parameters into a model built from the same config (adapters in place).

    Raises:
        ZooError: a missing, extra or wrongly shaped key, a damaged file, or another frozen base than it was trained on.
    """
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise ZooError(f"no {WEIGHTS_FILE} in {folder}; give a run folder or a checkpoint folder")
    try:
        tensors = load_file(file)
        from safetensors import safe_open

        with safe_open(file, framework="pt") as handle:
            recorded = json.loads((handle.metadata() or {}).get("bases", "[]"))
    except SafetensorError as error:
        raise ZooError(f"{file} is damaged ({error}); restore it from a copy") from None
    trained = trained_parameters(model, stages)
    for kind, keys in (("lacks", trained.keys() - tensors.keys()), ("has an unknown", tensors.keys() - trained.keys())):
        if keys:
            raise ZooError(
                f"{file} {kind} key {min(keys)!r} ({len(keys)} in all); it was not saved by a run of this config.yaml"
            )
    for base in recorded:
        if (part := base["part"]) in dict(model.parts()):
            found = fingerprint(model, part, trained)
            if found != base["fingerprint"]:
                raise ZooError(
                    f"{file} was trained on {part} {base['id']!r} with fingerprint {base['fingerprint']}, but the one "
                    f"loaded has {found}; get the same revision of the base"
                )
    for key, parameter in trained.items():
        if parameter.shape != tensors[key].shape:
            raise ZooError(f"{file}: {key} has shape {tuple(tensors[key].shape)}, expected {tuple(parameter.shape)}")
        with torch.no_grad():
            parameter.copy_(tensors[key])


def save_checkpoint(
    folder: Path,
    *,
    model: VLM,
    config: RunConfig,
    stages: "tuple[Stage, ...] | list[Stage]",
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    rng: list[dict[str, Tensor]],
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write one checkpoint atomically: a folder appears under its final name only when it is whole on disk.

    ``rng`` holds the ``rng_state`` of every rank. The newest ``keep`` checkpoints remain, with 0 all of them.
    """
    name = f"{state['stage_index']}-{state['stage']}-{state['step']:08d}"
    temporary = folder / f".writing-{name}"
    for unfinished in folder.glob(".writing-*"):
        shutil.rmtree(unfinished)
    temporary.mkdir(parents=True)
    save_weights(model, config, stages, temporary)
    torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, temporary / OPTIMIZER_FILE)
    torch.save(rng, temporary / RNG_FILE)
    (temporary / STATE_FILE).write_text(json.dumps(state, indent=1))
    for file in temporary.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    final = folder / name
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    for old in list_checkpoints(folder)[:-keep] if keep else []:
        shutil.rmtree(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path.parent for path in folder.glob(f"*/{STATE_FILE}") if not path.parent.name.startswith("."))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Stage, step and totals of a checkpoint. Raises ZooError when its file is damaged."""
    try:
        return json.loads((checkpoint / STATE_FILE).read_text())
    except ValueError as error:
        raise _damaged(checkpoint / STATE_FILE, error) from None


def rng_state() -> dict[str, Tensor]:
    """The random state of this process, on the CPU and on its device."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore(checkpoint: Path, *, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, rank: int = 0) -> None:
    """Put back optimizer, loss scale and random state; the weights are loaded by ``load_weights`` before.

    Raises:
        ZooError: a damaged file, an optimizer of other parameters, a checkpoint of fewer processes.
    """
    file = checkpoint / OPTIMIZER_FILE
    try:
        saved = torch.load(file, weights_only=True)
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        file = checkpoint / RNG_FILE
        states = torch.load(file, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, UnpicklingError) as error:
        raise _damaged(file, error) from None
    if rank >= len(states):
        raise ZooError(f"{checkpoint} was written by {len(states)} processes; resume with at most as many")
    torch.set_rng_state(states[rank]["cpu"])
    if torch.cuda.is_available() and "cuda" in states[rank]:
        torch.cuda.set_rng_state(states[rank]["cuda"])


def _damaged(file: Path, error: Exception) -> ZooError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ZooError(f"{file} is damaged ({reason}); delete the folder {file.parent} to resume from the one before it")
