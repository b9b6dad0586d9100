"""Releases that are differences to a base language model, since that one's licence forbade to publish the sum.

Source: LLaVA, llava/model/apply_delta.py; Shikra, mllm/models/shikra/apply_delta.py. Keys, shapes and config.json of a
difference are those of the sum, so that nothing but the caller can tell them apart.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor

from zoo.errors import ZooError
from zoo.loading import locate
from zoo.weights.files import open_weights
from zoo.weights.tensors import Weights

# They have more rows than the base's: those of added tokens, released as they are.
_TABLES = ("model.embed_tokens.weight", "lm_head.weight")
_CONSTANTS = (".rotary_emb.inv_freq",)


class Sum(Weights):
    """A difference and its base. Every tensor is added up when it is read, in the difference's type as published."""

    def __init__(self, delta: Weights, base: Weights) -> None:
        super().__init__(delta._places)
        self._base = base

    def renamed(self, names: Mapping[str, str]) -> "Sum":
        return Sum(super().renamed(names), self._base.renamed({key: names[key] for key in self._base if key in names}))

    def __getitem__(self, key: str) -> Tensor:
        return self._add(key, super().__getitem__(key))

    def stream(self) -> Iterator[tuple[str, Tensor]]:
        for key, tensor in super().stream():
            yield key, self._add(key, tensor)

    def _add(self, key: str, delta: Tensor) -> Tensor:
        if key not in self._base:
            return delta
        base = self._base[key]
        total = delta.clone()
        total[: len(base)] += base.to(delta.dtype)
        return total


def add_base(delta: Weights, base: str, *, where: str) -> Sum:
    """The weights that a difference stands for. What the base does not have (a projector) is there in full.

    Raises:
        ZooError: a base that has no weights, or one that the difference does not fit, naming the key.
    """
    weights = open_weights(locate(base))
    weights = weights.renamed({key: key for key in weights if not key.endswith(_CONSTANTS)})
    for key in weights:
        if key not in delta:
            raise ZooError(f"{where} has no {key!r}, which its base {base} has; give the base that it was made from")
        theirs, ours = tuple(weights.shape(key)), tuple(delta.shape(key))
        if theirs != ours and not (key in _TABLES and theirs[1:] == ours[1:] and theirs[0] < ours[0]):
            raise ZooError(
                f"{where}: {key} has shape {ours}, but {theirs} in its base {base}; give the base that it was made from"
            )
    return Sum(delta, weights)
