"""Models, and parts of models, made of a case's own facts: where no config.json in the hub's style says them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from zoo.encoders import Features
from zoo.errors import ZooError
from zoo.weights import Layout, convert
from zoo.weights.fill import fill

Module = TypeVar("Module", bound=nn.Module)


def load_part(
    module: Module, weights: Mapping[str, Tensor], names: Iterable[tuple[str, str]], *, where: Path
) -> Module:
    """Fill a module with the weights whose names begin with one of ``names``, pairs (theirs, ours).

    The first that fits counts; weights that none fits are another part's. Raises ZooError for a missing, extra or
    wrongly shaped weight.
    """
    spelling = {}
    for key in weights:
        fitting = ((theirs, ours) for theirs, ours in names if key.startswith(theirs))
        if pair := next(fitting, None):
            spelling[pair[1] + key.removeprefix(pair[0])] = key
    state = {ours: weights[theirs] for ours, theirs in spelling.items()}
    fill(module, state, device="cpu", spelling=spelling, where=str(where))
    return module.eval()


def load_canonical(module: Module, weights: Mapping[str, Tensor], layout: Layout, *, where: Path) -> Module:
    """Fill a module that has the canonical names of ``layout``. Raises ZooError as ``load_part`` does."""
    state = convert(weights, layout, "to_canonical")
    fill(module, state, device="cpu", spelling={}, where=str(where))
    return module.eval()


class StoredFeatures(nn.Module):
    """Stands for an encoder where the inputs are features already: ``Batch.frames`` (frames, tokens, dim)."""

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        # A model asks its encoder for the type of the pixels.
        self.like = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, frames: Tensor, **options: object) -> Features:
        if options.get("levels"):
            raise ZooError("the connector asks for further levels of the encoder, which are not stored")
        return Features(tokens=frames, grid=self.grid)

    def state_dict(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        """Nothing: no checkpoint has it."""
        return kwargs.get("destination", {})  # type: ignore[return-value]
