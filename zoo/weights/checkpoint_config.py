"""From a checkpoint's config.json to the parts' configs: what all layouts of transformers' classes share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from zoo.errors import ZooError
from zoo.language import LanguageModelConfig
from zoo.weights.files import has_tokenizer

# Fields that some versions of transformers count among those of every config, yet belong to the architecture.
_OWN_FIELDS = {"bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings"}


def architecture(config: PreTrainedConfig) -> dict[str, Any]:
    """All fields of a transformers config that shape the network, defaults written out, as plain values."""
    own = type(config)().to_dict().keys() - (PreTrainedConfig().to_dict().keys() - _OWN_FIELDS)
    own |= {"decoder_start_token_id"}  # a checkpoint's, which no class has by default
    fields = {key: value for key, value in config.to_dict().items() if key in own}
    return {"model_type": config.model_type, **fields}


def parse(build: Callable[[], PreTrainedConfig], folder: Path) -> Any:
    """What ``build`` makes of a config.json. Raises ZooError, naming the file, where transformers refuses it."""
    try:
        return build()
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ZooError(f"{folder / 'config.json'}: {reason}; use the config.json that belongs to the weights") from None


def language_model(fields: dict[str, Any], folder: Path) -> LanguageModelConfig:
    """A language model of these fields, with the checkpoint's tokenizer where the folder has one."""
    return LanguageModelConfig(architecture=fields, tokenizer=str(folder) if has_tokenizer(folder) else None)
