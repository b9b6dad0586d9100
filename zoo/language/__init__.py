"""Language models: transformers' own classes by id, folder or config, with added vocabulary in rows of its own."""

from zoo.language.model import (
    LanguageModel,
    LanguageModelConfig,
    build_language_model,
    load_instruction_tokenizer,
)

__all__ = ["LanguageModel", "LanguageModelConfig", "build_language_model", "load_instruction_tokenizer"]
