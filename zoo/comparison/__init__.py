"""Head-to-head comparison of methods under one setting."""

from zoo.comparison.compare import compare
from zoo.comparison.study import Study, Variant, read_study

__all__ = ["Study", "Variant", "compare", "read_study"]
