"""How the references are run, one file a family; importing this registers them all."""

from zoo.verification.references import llava, open_flamingo, transformers_classes

__all__ = ["llava", "open_flamingo", "transformers_classes"]
