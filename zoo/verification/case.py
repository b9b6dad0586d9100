"""A folder that holds a reference's checkpoint, stored inputs and outputs: what is compared with, as it lies on disk.

``config.json`` and ``model.safetensors`` are the checkpoint; ``inputs.safetensors`` and ``outputs.safetensors`` have
keys ``PROBE/NAME``; ``meta.json`` says which class ran, how, and how much its results vary by themselves;
``grads.json`` has the norm of the main loss's gradient for each key of the checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig

from zoo.errors import ZooError
from zoo.weights.checkpoint_config import parse
from zoo.weights.files import read_json

_LOSS = "loss"
_TOKENS = ("new_tokens", "sequences")
# What the noise of a probe is made of, beside what it says of the logits' own size.
_NOISE_OF_LOGITS = ("run_to_run", "1_vs_n_threads", "eager_vs_sdpa", "float32_vs_float64")
_NOISE_OF_LOSS = "loss_eager_vs_sdpa"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One run of the reference: ``inputs`` and ``outputs`` by name; ``options`` are the keyword arguments of its
    ``generate`` or ``forward``. ``aliases``: outputs that are stored under another's name.
    """

    name: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    generates: bool
    options: Mapping[str, Any]
    aliases: Mapping[str, str]
    noise: Mapping[str, float | None]

    def stored_name(self, output: str) -> str:
        """The name under which an output lies in the file."""
        return output if output in self.outputs else self.aliases.get(output, output)

    def own_noise(self, output: str) -> float:
        """The largest difference between equal runs of the reference on other kernels, 0.0 where none is known."""
        names = (_NOISE_OF_LOSS,) if output == _LOSS else _NOISE_OF_LOGITS
        return max((self.noise.get(name) or 0.0 for name in names), default=0.0)


@dataclass(frozen=True)
class Case:
    """``probes`` by name, in the order of the files; ``config`` is empty where there is no config.json."""

    folder: Path
    meta: Mapping[str, Any]
    config: Mapping[str, Any]
    probes: Mapping[str, Probe]

    @property
    def name(self) -> str:
        return str(self.meta.get("name") or self.folder.name)

    @property
    def reference(self) -> str:
        """What ran: the class of transformers, or the original code's own words for it."""
        name = self.meta.get("class") or self.meta.get("reference")
        if not isinstance(name, str):
            raise ZooError(f"{self.folder / 'meta.json'} names neither class nor reference; say which code ran")
        return name

    @cached_property
    def parsed_config(self) -> Any:
        """config.json as transformers reads it, defaults filled in; for checkpoints of its classes."""
        fields = dict(self.config)
        model_type = fields.pop("model_type", "")
        return parse(lambda: AutoConfig.for_model(model_type, **fields), self.folder)

    def input(self, probe: str, name: str) -> Tensor:
        """Raises ZooError where the case has no such input."""
        found = self.probes[probe].inputs.get(name) if probe in self.probes else None
        if found is None:
            raise ZooError(f"{self.folder / 'inputs.safetensors'} has no {probe}/{name}; store it")
        return found

    def gradients(self) -> dict[str, float]:
        """Key of the checkpoint -> norm of its gradient; None in the file is a parameter that got none."""
        norms = read_json(self.folder / "grads.json")
        return {key: float(norm or 0.0) for key, norm in norms.items()}


def read_case(folder: str | Path) -> Case:
    """Raises ZooError for a folder without the files, or with files that cannot be read."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ZooError(f"{folder} is no folder; give one with meta.json, inputs, outputs and a checkpoint")
    meta = read_json(folder / "meta.json")
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    inputs, outputs = (_by_probe(folder / f"{what}.safetensors") for what in ("inputs", "outputs"))
    described = meta.get("probes", {})
    for alias, stored in meta.get("input_alias", {}).items():
        (probe, name), (other, source) = alias.split("/", 1), stored.split("/", 1)
        if source not in inputs.get(other, {}):
            raise ZooError(f"{folder / 'meta.json'}: input_alias names {stored}, which inputs.safetensors lacks")
        inputs.setdefault(probe, {})[name] = inputs[other][source]
    probes = {}
    for name in dict.fromkeys([*inputs, *outputs]):
        facts = described.get(name, {})
        found = outputs.get(name, {})
        probes[name] = Probe(
            name=name,
            inputs=inputs.get(name, {}),
            outputs=found,
            generates=facts.get("mode", "") == "generate" or any(tokens in found for tokens in _TOKENS),
            options=facts.get("kwargs", {}),
            aliases=facts.get("same_as", {}),
            noise=meta.get("noise", {}).get(name, {}),
        )
    return Case(folder=folder, meta=meta, config=config, probes=probes)


def _by_probe(file: Path) -> dict[str, dict[str, Tensor]]:
    # Cases of text rules have no tensors.
    try:
        tensors = load_file(file) if file.is_file() else {}
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{file} is damaged or no safetensors file ({error}); write it again") from None
    grouped: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        probe, slash, name = key.partition("/")
        if not slash:
            raise ZooError(f"{file}: key {key!r} is not PROBE/NAME; write it so")
        grouped.setdefault(probe, {})[name] = tensor
    return grouped
