"""Fusion: how soft tokens enter the language model."""

from zoo.fusion.base import Fusion, FusionConfig, SoftTokens
from zoo.fusion.splice import Splice

__all__ = ["Fusion", "FusionConfig", "SoftTokens", "Splice"]
