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


def _opt(*, width: int, num_layers: int, num_heads: int) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "vocab_size": 50272,
        "hidden_size": width,
        "word_embed_proj_dim": width,
        "ffn_dim": 4 * width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "max_position_embeddings": 2048,
        "activation_function": "relu",
        "do_layer_norm_before": True,
        "bos_token_id": 2,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "tie_word_embeddings": True,
    }


def _flan_t5(*, width: int, mlp: int, num_heads: int) -> dict[str, Any]:
    return {
        "model_type": "t5",
        "vocab_size": 32128,
        "d_model": width,
        "d_kv": 64,
        "d_ff": mlp,
        "num_layers": 24,
        "num_decoder_layers": 24,
        "num_heads": num_heads,
        "feed_forward_proj": "gated-gelu",
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }


# RedPajama-INCITE 3B, base and instruct alike.
_REDPAJAMA_3B = {
    "model_type": "gpt_neox",
    "vocab_size": 50432,
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "rotary_pct": 1.0,
    "use_parallel_residual": False,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "tie_word_embeddings": False,
}

_MISTRAL_7B = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "rope_theta": 1_000_000.0,
    "rms_norm_eps": 1e-5,
    "sliding_window": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


def _qwen2(
    *, width: int, mlp: int, num_layers: int, num_heads: int, num_groups: int, num_rows: int, tied: bool
) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "vocab_size": num_rows,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_groups,
        "max_position_embeddings": 32768,
        "rope_theta": 1_000_000.0,
        "rms_norm_eps": 1e-6,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "pad_token_id": 151643,
        "tie_word_embeddings": tied,
    }


_BART_BASE = {
    "model_type": "bart",
    "vocab_size": 50265,
    "d_model": 768,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 12,
    "decoder_attention_heads": 12,
    "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072,
    "max_position_embeddings": 1024,
    "activation_function": "gelu",
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "tie_word_embeddings": True,
}

_BART_LARGE = {
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
}

_GEMMA_2B = {
    "model_type": "gemma",
    "vocab_size": 256000,
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "hidden_act": "gelu_pytorch_tanh",
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}

KNOWN: dict[str, dict[str, Any]] = {
    "llama-7b": {"id": "huggyllama/llama-7b", "architecture": _LLAMA_7B | _FIRST},
    "redpajama-3b": {"id": "togethercomputer/RedPajama-INCITE-Base-3B-v1", "architecture": _REDPAJAMA_3B},
    # Only a difference to Llama was released of version 0; these are the sums that MiniGPT-4's authors keep.
    "vicuna-7b-v0": {"id": "Vision-CAIR/vicuna-7b", "architecture": _LLAMA_7B | _FIRST},
    "vicuna-13b-v0": {"id": "Vision-CAIR/vicuna", "architecture": _LLAMA_13B | _FIRST},
    "vicuna-7b-v1.1": {"id": "lmsys/vicuna-7b-v1.1", "architecture": _LLAMA_7B | _FIRST},
    "vicuna-13b-v1.1": {"id": "lmsys/vicuna-13b-v1.1", "architecture": _LLAMA_13B | _FIRST},
    "vicuna-7b-v1.3": {"id": "lmsys/vicuna-7b-v1.3", "architecture": _LLAMA_7B | _FIRST},
    "vicuna-13b-v1.3": {"id": "lmsys/vicuna-13b-v1.3", "architecture": _LLAMA_13B | _FIRST},
    "vicuna-7b-v1.5": {"id": "lmsys/vicuna-7b-v1.5", "architecture": _LLAMA_7B | _SECOND},
    "vicuna-13b-v1.5": {"id": "lmsys/vicuna-13b-v1.5", "architecture": _LLAMA_13B | _SECOND},
    "llama-2-7b-chat": {"id": "meta-llama/Llama-2-7b-chat-hf", "architecture": _LLAMA_7B | _SECOND},
    "opt-2.7b": {"id": "facebook/opt-2.7b", "architecture": _opt(width=2560, num_layers=32, num_heads=32)},
    "opt-6.7b": {"id": "facebook/opt-6.7b", "architecture": _opt(width=4096, num_layers=32, num_heads=32)},
    "mistral-7b-instruct-v0.2": {"id": "mistralai/Mistral-7B-Instruct-v0.2", "architecture": _MISTRAL_7B},
    "bart-base": {"id": "facebook/bart-base", "architecture": _BART_BASE},
    "bart-large": {"id": "facebook/bart-large", "architecture": _BART_BASE | _BART_LARGE},
    "gemma-2b": {"id": "google/gemma-2b", "architecture": _GEMMA_2B},
    "qwen2-0.5b-instruct": {
        "id": "Qwen/Qwen2-0.5B-Instruct",
        "architecture": _qwen2(
            width=896, mlp=4864, num_layers=24, num_heads=14, num_groups=2, num_rows=151936, tied=True
        ),
    },
    "qwen2-7b-instruct": {
        "id": "Qwen/Qwen2-7B-Instruct",
        "architecture": _qwen2(
            width=3584, mlp=18944, num_layers=28, num_heads=28, num_groups=4, num_rows=152064, tied=False
        ),
    },
    "flan-t5-xl": {"id": "google/flan-t5-xl", "architecture": _flan_t5(width=2048, mlp=5120, num_heads=32)},
    "flan-t5-xxl": {"id": "google/flan-t5-xxl", "architecture": _flan_t5(width=4096, mlp=10240, num_heads=64)},
}
