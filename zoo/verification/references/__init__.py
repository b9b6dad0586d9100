"""How the references are run, one file a family; importing this registers them all."""

from zoo.verification.references import (
    lavis,
    llava,
    open_flamingo,
    processors,
    region,
    transformers_classes,
    video,
    video_tokens,
)

__all__ = ["lavis", "llava", "open_flamingo", "processors", "region", "transformers_classes", "video", "video_tokens"]
