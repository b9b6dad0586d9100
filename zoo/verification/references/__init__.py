"""How the references are run, one file a family; importing this registers them all."""

from zoo.verification.references import llava, transformers_classes

__all__ = ["llava", "transformers_classes"]
