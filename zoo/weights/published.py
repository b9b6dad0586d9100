"""The config.json of the checkpoints of transformers' classes, as far as it says what the model is.

With them a model is built at its published size, and its keys are compared with the class's, without a download. Facts:
the hub's files and the base models' configs (zoo/language/known.py, zoo/encoders/known.py). Vocabularies count the rows
for placeholders and padding that the conversions to transformers appended; rows that later revisions added are not.
"""

from collections.abc import Callable, Mapping
from typing import Any

from zoo.encoders import KNOWN_ENCODERS
from zoo.errors import ZooError, nearest
from zoo.language.known import KNOWN

Config = dict[str, Any]


def _text(name: str, *, num_rows: int | None = None, **fields: Any) -> Config:
    changed = {} if num_rows is None else {"vocab_size": num_rows}
    return {**KNOWN[name]["architecture"], **changed, **fields}


def _vision(name: str, **fields: Any) -> Config:
    return {**KNOWN_ENCODERS[name].architecture, **fields}


def _llava(language_model: str) -> Config:
    return {
        "model_type": "llava",
        "text_config": _text(language_model, num_rows=32064),
        "vision_config": _vision("clip-vit-l-336"),
        "image_token_index": 32000,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }


def _llava_next(language_model: str) -> Config:
    pinpoints = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    return {**_llava(language_model), "model_type": "llava_next", "image_grid_pinpoints": pinpoints}


def _llava_next_video(language_model: str) -> Config:
    return {
        **_llava_next(language_model),
        "model_type": "llava_next_video",
        "video_token_index": 32000,
        "image_token_index": 32001,
        "spatial_pool_mode": "average",
        "spatial_pool_stride": 2,
    }


def _vip_llava(language_model: str) -> Config:
    config = _llava(language_model)
    del config["vision_feature_layer"], config["vision_feature_select_strategy"]
    layers = [-2, -5, -8, -11, 6]
    return {**config, "model_type": "vipllava", "vision_feature_layers": layers, "projector_layernorm_eps": 1e-5}


def _llava_onevision(language_model: str, num_rows: int) -> Config:
    sides = range(384, 384 * 6 + 1, 384)
    text = _text(language_model, num_rows=num_rows)
    return {
        "model_type": "llava_onevision",
        "text_config": text,
        # The tower's last layer is not read, and not released.
        "vision_config": _vision("siglip-so400m-384", num_hidden_layers=26),
        "image_token_index": 151646,
        "video_token_index": 151647,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": "anyres_max_9",
        "image_grid_pinpoints": [[rows, columns] for rows in sides for columns in sides],
        "tie_word_embeddings": text["tie_word_embeddings"],
    }


def _qformer(num_rows: int) -> Config:
    return {
        "vocab_size": num_rows,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "cross_attention_frequency": 2,
        "encoder_hidden_size": 1408,
    }


def _blip2(text: Config, image_token: int, *, image_size: int = 224) -> Config:
    return {
        "model_type": "blip-2",
        "text_config": text,
        "vision_config": _vision("eva-clip-g-224", image_size=image_size),
        "qformer_config": _qformer(30522),
        "num_query_tokens": 32,
        "image_token_index": image_token,
    }


def _instructblip(text: Config, image_token: int) -> Config:
    return {**_blip2(text, image_token), "model_type": "instructblip", "qformer_config": _qformer(30523)}


def _opt(name: str, **options: Any) -> Config:
    return _blip2(_text(name), 50265, **options)


def _flan_t5(name: str) -> Config:
    return _text(name, dense_act_fn="gelu")


def _idefics(*, width: int, mlp: int, num_layers: int, num_heads: int, epsilon: float, num_added: int) -> Config:
    tower = _vision("clip-vit-h-224")
    vision = {name: tower[name] for name in ("intermediate_size", "num_hidden_layers", "num_attention_heads")}
    vision |= {name: tower[name] for name in ("image_size", "patch_size", "hidden_act", "layer_norm_eps")}
    return {
        "model_type": "idefics",
        "vocab_size": 32000,
        "additional_vocab_size": num_added,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": epsilon,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "cross_layer_interval": 4,
        "qk_layer_norms": True,
        "alpha_type": "float",
        "alpha_initializer": "zeros",
        "use_resampler": True,
        "vision_config": {"embed_dim": tower["hidden_size"], **vision},
        "perceiver_config": {
            "resampler_n_latents": 64,
            "resampler_depth": 6,
            "resampler_n_heads": 16,
            "resampler_head_dim": 96,
            "qk_layer_norms_perceiver": True,
        },
    }


def _idefics_9b(num_added: int) -> Config:
    return _idefics(width=4096, mlp=11008, num_layers=32, num_heads=32, epsilon=1e-6, num_added=num_added)


def _idefics_80b(num_added: int) -> Config:
    return _idefics(width=8192, mlp=22016, num_layers=80, num_heads=64, epsilon=1e-5, num_added=num_added)


def _kosmos_2() -> Config:
    from zoo.registry import get_method

    text = get_method("kosmos-2").language_model.architecture
    vision = _vision("clip-vit-l-224", model_type="kosmos_2_vision_model")
    del vision["projection_dim"]
    return {"model_type": "kosmos-2", "text_config": text, "vision_config": vision, "latent_query_num": 64}


def _video_llava() -> Config:
    return {
        "model_type": "video_llava",
        "text_config": _text("vicuna-7b-v1.5", num_rows=32064),
        "vision_config": _vision("clip-vit-l-224"),
        "image_token_index": 32000,
        "video_token_index": 32001,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "image_seq_length": 256,
        "video_seq_length": 2056,
    }


def _paligemma(image_size: int) -> Config:
    # The rows of gemma-2b, 1024 places, 128 masks, the image and what fills up to a multiple of 64.
    text = _text("gemma-2b", num_rows=257216)
    return {
        "model_type": "paligemma",
        "text_config": text,
        "vision_config": _vision("siglip-so400m-224", image_size=image_size, vision_use_head=False),
        "image_token_index": 257152,
        "projection_dim": text["hidden_size"],
        "hidden_size": text["hidden_size"],
        "tie_word_embeddings": True,
    }


def _florence_2(name: str) -> Config:
    # The rows of BART, 1000 places and the tokens of tasks.
    text = _text(name, num_rows=51289)
    return {
        "model_type": "florence2",
        "text_config": text,
        "vision_config": _vision("davit-b-768" if name == "bart-base" else "davit-l-768"),
        "image_token_id": 51289 - 1,
        "tie_word_embeddings": True,
    }


_CONFIGS: Mapping[str, Callable[[], Config]] = {
    "llava-hf/llava-1.5-7b-hf": lambda: _llava("vicuna-7b-v1.5"),
    "llava-hf/llava-1.5-13b-hf": lambda: _llava("vicuna-13b-v1.5"),
    "llava-hf/llava-v1.6-vicuna-7b-hf": lambda: _llava_next("vicuna-7b-v1.5"),
    "llava-hf/llava-v1.6-vicuna-13b-hf": lambda: _llava_next("vicuna-13b-v1.5"),
    "llava-hf/llava-v1.6-mistral-7b-hf": lambda: _llava_next("mistral-7b-instruct-v0.2"),
    "llava-hf/LLaVA-NeXT-Video-7B-hf": lambda: _llava_next_video("vicuna-7b-v1.5"),
    "llava-hf/LLaVA-NeXT-Video-7B-DPO-hf": lambda: _llava_next_video("vicuna-7b-v1.5"),
    "llava-hf/LLaVA-NeXT-Video-7B-32K-hf": lambda: _llava_next_video("mistral-7b-instruct-v0.2"),
    "llava-hf/vip-llava-7b-hf": lambda: _vip_llava("vicuna-7b-v1.5"),
    "llava-hf/vip-llava-13b-hf": lambda: _vip_llava("vicuna-13b-v1.5"),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": lambda: _llava_onevision("qwen2-7b-instruct", 152128),
    "llava-hf/llava-onevision-qwen2-7b-si-hf": lambda: _llava_onevision("qwen2-7b-instruct", 152128),
    "llava-hf/llava-onevision-qwen2-7b-ov-chat-hf": lambda: _llava_onevision("qwen2-7b-instruct", 152128),
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": lambda: _llava_onevision("qwen2-0.5b-instruct", 152000),
    "llava-hf/llava-onevision-qwen2-0.5b-si-hf": lambda: _llava_onevision("qwen2-0.5b-instruct", 152000),
    "Salesforce/blip2-opt-2.7b": lambda: _opt("opt-2.7b"),
    "Salesforce/blip2-opt-2.7b-coco": lambda: _opt("opt-2.7b", image_size=364),
    "Salesforce/blip2-opt-6.7b": lambda: _opt("opt-6.7b"),
    "Salesforce/blip2-opt-6.7b-coco": lambda: _opt("opt-6.7b", image_size=364),
    "Salesforce/blip2-flan-t5-xl": lambda: _blip2(_flan_t5("flan-t5-xl"), 32100),
    "Salesforce/blip2-flan-t5-xl-coco": lambda: _blip2(_flan_t5("flan-t5-xl"), 32100, image_size=364),
    "Salesforce/blip2-flan-t5-xxl": lambda: _blip2(_flan_t5("flan-t5-xxl"), 32100),
    "Salesforce/instructblip-vicuna-7b": lambda: _instructblip(_text("vicuna-7b-v1.1", num_rows=32001), 32000),
    "Salesforce/instructblip-vicuna-13b": lambda: _instructblip(_text("vicuna-13b-v1.1", num_rows=32001), 32000),
    "Salesforce/instructblip-flan-t5-xl": lambda: _instructblip(_flan_t5("flan-t5-xl"), 32100),
    "Salesforce/instructblip-flan-t5-xxl": lambda: _instructblip(_flan_t5("flan-t5-xxl"), 32100),
    "HuggingFaceM4/idefics-9b": lambda: _idefics_9b(2),
    "HuggingFaceM4/idefics-9b-instruct": lambda: _idefics_9b(3),
    "HuggingFaceM4/idefics-80b": lambda: _idefics_80b(2),
    "HuggingFaceM4/idefics-80b-instruct": lambda: _idefics_80b(3),
    "microsoft/kosmos-2-patch14-224": _kosmos_2,
    "LanguageBind/Video-LLaVA-7B-hf": _video_llava,
    "florence-community/Florence-2-base": lambda: _florence_2("bart-base"),
    "florence-community/Florence-2-large": lambda: _florence_2("bart-large"),
    "google/paligemma-3b-mix-224": lambda: _paligemma(224),
    "google/paligemma-3b-pt-224": lambda: _paligemma(224),
    "google/paligemma-3b-mix-448": lambda: _paligemma(448),
}


def published_ids() -> list[str]:
    """Hub ids whose config is written down here."""
    return list(_CONFIGS)


def published_config(id: str) -> Config:
    """The config.json of a hub id. Raises ZooError naming the nearest known one."""
    if id not in _CONFIGS:
        raise ZooError(f"the config of {id!r} is not written down.{nearest(id, published_ids())}")
    return _CONFIGS[id]()
