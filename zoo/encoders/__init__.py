"""Vision towers: transformers' own classes, by name, hub id, folder or architecture, with layers selected."""

from typing import Any

from zoo.encoders.config import EncoderConfig
from zoo.encoders.known import KNOWN_ENCODERS, KnownEncoder

__all__ = ["KNOWN_ENCODERS", "EncoderConfig", "Features", "KnownEncoder", "VisionEncoder", "build_encoder"]


def __getattr__(name: str) -> Any:
    # These pull in torch and transformers, which a method's configuration does not need.
    if name == "build_encoder":
        from zoo.encoders.build import build_encoder

        return build_encoder
    if name in ("Features", "VisionEncoder"):
        from zoo.encoders import vision

        return getattr(vision, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
