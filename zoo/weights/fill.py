"""Put the weights of a checkpoint into a model, every one exactly once, without a second copy of them in memory."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.weights.tensors import Weights


@torch.no_grad()
def fill(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    device: "str | torch.device",
    zero: Collection[str] = (),
    elsewhere: tuple[str, ...] = (),
    spelling: Mapping[str, str],
    where: str,
) -> None:
    """Move a model to ``device`` with every weight of ``state``. Parameters on the meta device come to be one by one.

    What a safetensors file holds as the model is to have it, on the CPU, is not copied but stays there, mapped.

    Args:
        zero: names of weights that are zero where ``state`` lacks them.
        elsewhere: prefixes of names that ``state`` may lack, since they were filled before.
        spelling: the names of the files, for messages, where they differ.

    Raises:
        ZooError: naming ``where`` and the key, for a missing, extra or wrongly shaped weight.
    """
    targets = model.state_dict(keep_vars=True)
    # Tied weights are one tensor under two names; a file holds one of them or both.
    given = {id(targets[key]) for key in state if key in targets}
    missing = [
        key
        for key, tensor in targets.items()
        if id(tensor) not in given and key not in zero and not key.startswith(elsewhere)
    ]
    extra = [key for key in state if key not in targets]
    for kind, keys in (("missing", missing), ("not in the model", extra)):
        if keys:
            names = ", ".join(sorted(spelling.get(key, key) for key in keys)[:4]) + (", ..." if len(keys) > 4 else "")
            raise ZooError(
                f"{where}: {len(keys)} weights {kind} ({names}); the weights and config.json do not belong together"
            )
    for key in state:
        shape = state.shape(key) if isinstance(state, Weights) else state[key].shape
        if shape != targets[key].shape:
            raise ZooError(
                f"{where}: {spelling.get(key, key)} has shape {tuple(shape)}, but config.json asks for "
                f"{tuple(targets[key].shape)}; the weights and config.json do not belong together"
            )
    made: dict[int, Tensor] = {}
    names: dict[int, list[str]] = {}
    for key, tensor in targets.items():
        names.setdefault(id(tensor), []).append(key)

    def real(key: str) -> Tensor:
        old = targets[key]
        if not old.is_meta:
            return old
        if id(old) not in made:
            made[id(old)] = _replace(model, names[id(old)], old, torch.empty_like(old, device=device))
        return made[id(old)]

    on_cpu = torch.device(device).type == "cpu"
    for key, tensor in state.stream() if isinstance(state, Weights) else state.items():
        old = targets[key]
        stays = on_cpu and isinstance(state, Weights) and state.may_stay(key) and tensor.dtype == old.dtype
        if stays and old.is_meta and id(old) not in made:
            made[id(old)] = _replace(model, names[id(old)], old, tensor)
        else:
            real(key).copy_(tensor)
    for key in zero:
        if key not in state:
            real(key).zero_()
    model.to(device)


def _replace(model: nn.Module, names: list[str], old: Tensor, new: Tensor) -> Tensor:
    """Put ``new`` in the place of a tensor of the meta device, under all the names that it has in the model."""
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    for name in names:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, new)
    return new
