"""Random choices that are the same on every machine, in every process: a key of integers names each stream."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from zoo.errors import ZooError

Choice = TypeVar("Choice")


class Draw:
    """A stream of choices. Numbers come in blocks because one numpy call for each choice costs more than the scene."""

    BLOCK = 96

    def __init__(self, *key: int) -> None:
        if any(part < 0 for part in key):
            raise ZooError(f"scenes: seeds and indices must not be negative, got {key}; use 0 or more")
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        self._numbers: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        if not self._numbers:
            self._numbers = self._generator.random(self.BLOCK).tolist()
        return low + (high - low) * self._numbers.pop()

    def below(self, limit: int) -> int:
        """An integer in [0, limit)."""
        return int(self.uniform() * limit)

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def coin(self, probability: float = 0.5) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def choice(self, options: Sequence[Choice]) -> Choice:
        """One of the options, all equally likely."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[Choice], count: int) -> list[Choice]:
        """``count`` different entries in random order."""
        rest = list(options)
        return [rest.pop(self.below(len(rest))) for _ in range(count)]

    def shuffled(self, options: Sequence[Choice]) -> list[Choice]:
        """All entries in random order."""
        return self.sample(options, len(options))
