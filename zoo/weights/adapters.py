"""LoRA adapters on their own: written as peft's, or folded for good into the weights that they belong to."""

import dataclasses
from pathlib import Path

from peft import LoraConfig as PeftLoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

from zoo.config import ADDED_SUFFIX, LoraConfig
from zoo.errors import ZooError
from zoo.loading import load, locate, weights_folder
from zoo.model import VLM
from zoo.run import CONFIG_FILE, load_run
from zoo.training.checkpoint import save_weights
from zoo.training.tuning import LORA_MARK, has_adapter, merge_lora

# peft's names of what an adapter stands in; a tower has none.
_TASKS = {False: "CAUSAL_LM", True: "SEQ_2_SEQ_LM"}
# The names below a part, and the ones that peft gives to the same modules of a model that it has wrapped.
_OURS, _PEFTS = "model.", "base_model.model."


def save_adapters(model: VLM, folder: "str | Path") -> list[Path]:
    """Write the adapters of each part to FOLDER/PART, for ``peft.PeftModel.from_pretrained(base, FOLDER/PART)``.

    The base is the transformers model that the part was built on.

    Raises:
        ZooError: no adapters, or a part of which an adapter would not be all: weights of it were trained beside them,
            or it is no model of transformers.
    """
    parts = {name: module for name, module in model.parts() if has_adapter(module)}
    if not parts:
        raise ZooError(f"{model.method.name} has no LoRA adapters; train a part with lora, or use another layout")
    for name in parts:
        if name not in ("language_model", "encoder"):
            raise ZooError(f"the adapters of the {name} have no base in transformers; use zoo merge")
        beside = [stage.name for stage in model.method.stages if stage.train.get(name) == "full"]
        has_rows = any(key.endswith(ADDED_SUFFIX) for key, _ in parts[name].named_parameters())
        if beside or has_rows:
            why = f"was trained whole in stage {beside[0]}" if beside else "has rows for added tokens"
            raise ZooError(f"an adapter is not all of the {name}: it {why} as well; use zoo merge")
    written = []
    for name, module in parts.items():
        config = getattr(model.method, name)
        target = Path(folder) / name
        target.mkdir(parents=True, exist_ok=True)
        tensors = {
            _PEFTS + key.removeprefix(_OURS).replace(".default.", "."): tensor.detach().cpu().contiguous()
            for key, tensor in module.named_parameters()
            if LORA_MARK in key
        }
        targets = [
            key.removeprefix(_OURS) for key, child in module.named_modules() if isinstance(child, BaseTunerLayer)
        ]
        task = _TASKS[model.language_model.is_encoder_decoder] if name == "language_model" else None
        _peft_config(model.method.lora, targets, task, config.id, config.revision).save_pretrained(target)
        save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
        written.append(target)
    return written


def _peft_config(
    lora: LoraConfig, targets: list[str], task: str | None, base: str, revision: str | None
) -> PeftLoraConfig:
    return PeftLoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias="none",
        target_modules=targets,
        task_type=task,
        base_model_name_or_path=base or None,
        revision=revision,
        inference_mode=True,
    )


def merge(model: VLM) -> list[str]:
    """Fold all adapters into their weights, in place; returns the parts that had any."""
    parts = [name for name, module in model.parts() if has_adapter(module)]
    for name in parts:
        merge_lora(dict(model.parts())[name])
    return parts


def merge_run(run: "str | Path", out: "str | Path") -> Path:
    """Write the weights of a run with its adapters merged: a folder for ``zoo.load``, ``zoo pack`` and ``zoo export``.

    The config stays that of the run, and says which parts were merged.

    Raises:
        ZooError: no run there, or one without adapters.
    """
    folder = weights_folder(locate(run))
    if folder is None:
        raise ZooError(f"{run} is no run of ours; give the folder of one")
    model = load(folder)
    merged = merge(model)
    if not merged:
        raise ZooError(f"{run} has no LoRA adapters; it is as it would be merged")
    config = dataclasses.replace(load_run(folder / CONFIG_FILE), merged=tuple(merged))
    save_weights(model, config, config.saved_stages, Path(out))
    return Path(out)
