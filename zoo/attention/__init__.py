"""One attention function, three backends (xformers, sdpa, eager), one mask type, usable inside transformers' models."""

from zoo.attention.backends import BACKENDS, Backend, attend, split_heads
from zoo.attention.mask import AttentionMask, FlatAttention
from zoo.attention.transformers import register, use
from zoo.attention.xformers import why_not_xformers

__all__ = [
    "BACKENDS",
    "AttentionMask",
    "Backend",
    "FlatAttention",
    "attend",
    "register",
    "split_heads",
    "use",
    "why_not_xformers",
]
