"""Fusion: how soft tokens enter the language model."""

from zoo.fusion.base import Fusion, FusionConfig, SoftTokens
from zoo.fusion.gated_cross_attention import GatedCrossAttention
from zoo.fusion.idefics_cross_attention import IdeficsCrossAttention
from zoo.fusion.prefix_splice import PrefixSplice
from zoo.fusion.splice import Splice

__all__ = [
    "Fusion",
    "FusionConfig",
    "GatedCrossAttention",
    "IdeficsCrossAttention",
    "PrefixSplice",
    "SoftTokens",
    "Splice",
]
