"""Visual instruction tuning methods on shared parts: build, train, evaluate, compare and load any of them by name.

Names are imported on first use, so that ``import zoo`` and the command line stay fast.
"""

import importlib
from typing import Any

_EXPORTS = {
    "ZooError": "zoo.errors",
    "list_methods": "zoo.registry",
    "method": "zoo.registry",
    "build": "zoo.factory",
    "load": "zoo.loading",
    "train": "zoo.api",
    "evaluate": "zoo.api",
    "compare": "zoo.api",
    "Method": "zoo.definition",
    "Setting": "zoo.definition",
    "Stage": "zoo.config",
    "LoraConfig": "zoo.config",
    "EncoderConfig": "zoo.encoders",
    "LanguageModelConfig": "zoo.language",
    "AnyResolutionMLP": "zoo.connectors",
    "Concatenation": "zoo.connectors",
    "Connector": "zoo.connectors",
    "ConnectorConfig": "zoo.connectors",
    "ConnectorContext": "zoo.connectors",
    "ContextContent": "zoo.connectors",
    "Features": "zoo.encoders",
    "GPT4RoI": "zoo.connectors",
    "LatentQueries": "zoo.connectors",
    "Linear": "zoo.connectors",
    "MLP": "zoo.connectors",
    "PositionResampler": "zoo.connectors",
    "MeanAndPatches": "zoo.connectors",
    "QFormer": "zoo.connectors",
    "Resampler": "zoo.connectors",
    "SpatioTemporalPooling": "zoo.connectors",
    "TokenMerging": "zoo.connectors",
    "VideoQFormer": "zoo.connectors",
    "Splice": "zoo.fusion",
    "PrefixSplice": "zoo.fusion",
    "GatedCrossAttention": "zoo.fusion",
    "IdeficsCrossAttention": "zoo.fusion",
    "FrameSampling": "zoo.data.frames",
    "Tiles": "zoo.data.tiles",
    "Sample": "zoo.data.sample",
    "Message": "zoo.data.sample",
    "Medium": "zoo.data.sample",
    "Box": "zoo.data.sample",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
