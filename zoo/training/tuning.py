"""Which parameters a stage trains (every part frozen, full or lora), at which learning rate; the table of them."""

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from zoo.config import LoraConfig, Stage, most_specific
from zoo.errors import ZooError, nearest
from zoo.model import VLM

LORA_MARK = "lora_"


def has_adapter(module: nn.Module) -> bool:
    return any(isinstance(child, BaseTunerLayer) for child in module.modules())


def lora_targets(module: nn.Module) -> list[str]:
    """Names of the linear layers that get an adapter: all but the output head."""
    head = module.model.get_output_embeddings() if hasattr(module, "model") else None
    return [name for name, child in module.named_modules() if isinstance(child, nn.Linear) and child is not head]


def add_lora(module: nn.Module, config: LoraConfig) -> None:
    """Put adapters on every linear layer of a part, in place. The base weights keep their values."""
    targets = lora_targets(module)
    if not targets:
        raise ZooError("this part has no linear layer to adapt; use full or frozen")
    peft_config = PeftLoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, bias="none", target_modules=targets
    )
    inject_adapter_in_model(peft_config, module)
    # New modules are born in training mode: their dropout would be active in a part that is being evaluated.
    module.train(module.training)


def merge_lora(module: nn.Module) -> None:
    """Fold the adapters into the base weights and remove them, in place: the part is plain again."""
    for name, child in list(module.named_modules()):
        if isinstance(child, BaseTunerLayer):
            child.merge()
            parent, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(parent), leaf, child.get_base_layer())


def prepare_adapters(model: VLM, stages: "tuple[Stage, ...] | list[Stage]", seed: int = 0) -> None:
    """Add adapters to the parts that any of the stages trains by LoRA. Idempotent; the same seed, the same adapters."""
    parts = dict(model.parts())
    for name in sorted({part for stage in stages for part, mode in stage.train.items() if mode == "lora"}):
        if name in parts and not has_adapter(parts[name]):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                add_lora(parts[name], model.method.lora)


def set_trainable(model: VLM, stage: Stage) -> None:
    """Set requires_grad as the stage says. Parts in mode lora train their adapters only."""
    prepare_adapters(model, [stage])
    names = []
    for name, module in model.parts():
        for key, parameter in module.named_parameters():
            names.append(f"{name}.{key}")
            parameter.requires_grad_(stage.mode(names[-1]) == ("lora" if LORA_MARK in key else "full"))
    for wanted in (key for key in stage.train if "." in key and key.partition(".")[0] in dict(model.parts())):
        if not any(f"{name}.".startswith(f"{wanted}.") for name in names):
            part = wanted.partition(".")[0]
            modules = [f"{part}.{child}" for child, _ in dict(model.parts())[part].named_children()]
            raise ZooError(f"stage {stage.name!r}: {model.method.name} has no {wanted!r}.{nearest(wanted, modules)}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ZooError(
            f"stage {stage.name!r} trains nothing: {dict(stage.train)} names no part that {model.method.name} has; "
            "set train to full or lora for one of its parts"
        )


def set_train_mode(model: VLM) -> None:
    """Dropout and the like are active only in modules that are being trained."""
    model.train()
    for _, part in model.parts():
        if has_adapter(part) and any(parameter.requires_grad for parameter in part.parameters()):
            continue
        for module in part.modules():
            if (parameters := list(module.parameters())) and not any(p.requires_grad for p in parameters):
                module.eval()
        if not any(True for _ in part.parameters()):
            part.eval()


def parameter_groups(model: VLM, stage: Stage) -> list[dict]:
    """Optimizer groups by part and decay; norms, biases and other vectors are not decayed."""
    groups = []
    for name, module in model.parts():
        chosen: dict[tuple[float, float], list[nn.Parameter]] = {}
        for key, parameter in module.named_parameters():
            if parameter.requires_grad:
                chosen.setdefault(rates(stage, f"{name}.{key}", parameter), []).append(parameter)
        for (lr, decay), parameters in chosen.items():
            groups.append({"name": name, "params": parameters, "lr": lr, "base_lr": lr, "weight_decay": decay})
    return groups


def rates(stage: Stage, key: str, parameter: nn.Parameter) -> tuple[float, float]:
    """(learning rate, weight decay) of a parameter by its canonical name."""
    decay = most_specific(stage.part_weight_decay, key, stage.weight_decay) if parameter.ndim > 1 else 0.0
    return most_specific(stage.part_lr, key, stage.lr), decay


def part_table(model: VLM, stage: Stage) -> list[tuple[str, str, int, int, float]]:
    """(part, mode, parameters, trainable parameters, learning rate) of each part; ``in part``: submodules of it."""
    rows = []
    for name, module in model.parts():
        total = sum(parameter.numel() for parameter in module.parameters())
        trainable = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
        lr = stage.part_lr.get(name, stage.lr) if trainable else 0.0
        mode = stage.train.get(name, "frozen")
        rows.append((name, "in part" if mode == "frozen" and trainable else mode, total, trainable, lr))
    return rows


def render_part_table(model: VLM, stage: Stage) -> str:
    """The table of ``part_table`` as text."""
    lines = [f"stage {stage.name}", f"{'part':<16}{'mode':<8}{'parameters':>16}{'trainable':>16}{'lr':>12}"]
    for name, mode, total, trainable, lr in part_table(model, stage):
        lines.append(f"{name:<16}{mode:<8}{total:>16,}{trainable:>16,}{f'{lr:g}' if trainable else '-':>12}")
    return "\n".join(lines)
