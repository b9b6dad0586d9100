"""Build networks whose parameters take no memory yet, because a checkpoint is about to fill every one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _EmptyOnMeta(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)


@contextmanager
def unfilled(active: bool = True) -> Iterator[None]:
    """Inside, ``torch.empty`` is on the meta device: with it the matrices of all of torch's layers.

    What is computed instead (rotary frequencies, tables of positions, masks) is real, unlike under
    ``torch.device("meta")``: a checkpoint does not hold it. ``active`` False changes nothing.
    """
    if not active:
        yield
        return
    with _EmptyOnMeta():
        yield
