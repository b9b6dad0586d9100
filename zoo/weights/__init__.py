"""Released checkpoints: recognised by keys and config, renamed both ways, loaded strictly, exported."""

from zoo.weights.export import export
from zoo.weights.layouts import Layout, Rule, convert, detect, get_layout
from zoo.weights.llava import LLAVA_HF, LLAVA_ORIGINAL
from zoo.weights.released import load_released

__all__ = [
    "LLAVA_HF",
    "LLAVA_ORIGINAL",
    "Layout",
    "Rule",
    "convert",
    "detect",
    "export",
    "get_layout",
    "load_released",
]
