"""Head-to-head comparison of methods under one setting."""

from zoo.comparison.compare import compare

__all__ = ["compare"]
