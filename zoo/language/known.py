"""Language models of the published methods: hub id and config, so that sizes are known without a download.

Facts: the ``config.json`` of each hub repository.
"""

from typing import Any

_LLAMA_7B = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_LLAMA_13B = _LLAMA_7B | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
}
_FIRST = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6}
_SECOND = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5}

KNOWN: dict[str, dict[str, Any]] = {
    "vicuna-7b-v1.3": {"id": "lmsys/vicuna-7b-v1.3", "architecture": _LLAMA_7B | _FIRST},
    "vicuna-13b-v1.3": {"id": "lmsys/vicuna-13b-v1.3", "architecture": _LLAMA_13B | _FIRST},
    "vicuna-7b-v1.5": {"id": "lmsys/vicuna-7b-v1.5", "architecture": _LLAMA_7B | _SECOND},
    "vicuna-13b-v1.5": {"id": "lmsys/vicuna-13b-v1.5", "architecture": _LLAMA_13B | _SECOND},
    "llama-2-7b-chat": {"id": "meta-llama/Llama-2-7b-chat-hf", "architecture": _LLAMA_7B | _SECOND},
}
