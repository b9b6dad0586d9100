"""Parts of a model on their own, with the weights of a checkpoint under the reference's names."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from zoo.errors import ZooError

Module = TypeVar("Module", bound=nn.Module)


def load_part(
    module: Module,
    weights: Mapping[str, Tensor],
    names: Iterable[tuple[str, str]],
    *,
    where: Path,
    prefix: str = "",
    ignored: tuple[str, ...] = (),
    elsewhere: tuple[str, ...] = (),
) -> Module:
    """Fill a module and put it into evaluation mode.

    Args:
        names: (theirs, ours), prefixes below ``prefix``; the first that fits a key counts.
        ignored: suffixes of keys that hold nothing of their own.
        elsewhere: our keys that the file does not hold.

    Raises:
        ZooError: a key below ``prefix`` that has no place, one that is missing, one of another shape.
    """
    names = tuple(names)
    state = {}
    for key in weights:
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or key.endswith(ignored or ("\0",)):
            continue
        ours = next((new + name.removeprefix(old) for old, new in names if name.startswith(old)), None)
        if ours is None:
            raise ZooError(f"{where}: no place for the weight {key}; the part is another than config.json says")
        state[ours] = weights[key]
    targets = module.state_dict()
    wrong = [
        *(f"{key} is missing" for key in targets if key not in state and key not in elsewhere),
        *(f"{key} is not in the part" for key in state if key not in targets),
        *(
            f"{key} has shape {tuple(x.shape)}"
            for key, x in state.items()
            if key in targets and x.shape != targets[key].shape
        ),
    ]
    if wrong:
        raise ZooError(f"{where}: {wrong[0]}; the weights and config.json do not belong together")
    module.load_state_dict(state, strict=False)
    return module.eval()
