"""Write a model as a checkpoint that other code loads, with equal logits."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from zoo.errors import ZooError
from zoo.model import VLM
from zoo.training.tuning import LORA_MARK
from zoo.weights.checkpoint_config import architecture
from zoo.weights.layouts import get_layout
from zoo.weights.llava import IMAGE_TOKEN_FIELD, LLAVA_HF

_TOWERS = ("clip_vision_model", "siglip_vision_model")
_ROWS = ("language_model.model.model.embed_tokens.weight", "language_model.model.lm_head.weight")


def export(model: VLM, folder: str | Path, layout: str = "llava-hf") -> None:
    """Write config.json and model.safetensors (and the tokenizer, if there is one) for transformers' LLaVA class.

    transformers marks media positions by the id of a placeholder token. It is the one of the checkpoint that the model
    came from, or the tokenizer's ``<image>``; where there is neither, one row is appended to embedding and head (the
    mean of the others, so that it never wins) and the logits have one more column. One linear layer is written as two,
    the second of them the identity.

    Raises:
        ZooError: a layout without export, or a model that the class has no place for.
    """
    if get_layout(layout) is not LLAVA_HF:
        raise ZooError(f"layout {layout} cannot be exported; use {LLAVA_HF.name}")
    folder = Path(folder)
    _check(model)
    state = {key: tensor.detach().cpu() for key, tensor in model.state_dict().items()}
    config = _config(model)
    if len(model.connector.layers) == 1:
        bias = state["connector.layers.0.bias"]
        state["connector.layers.1.weight"] = torch.eye(len(bias), dtype=bias.dtype)
        state["connector.layers.1.bias"] = torch.zeros_like(bias)
    tied = bool(config["tie_word_embeddings"])
    if config["image_token_index"] == config["text_config"]["vocab_size"]:
        config["text_config"]["vocab_size"] += 1
        for key in _ROWS:
            state[key] = _with_mean_row(state[key])
    if tied:
        del state[_ROWS[1]]
    renamed = LLAVA_HF.rename(state, "from_canonical")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {new: state[old].contiguous() for old, new in renamed.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if model.language_model.has_tokenizer:
        model.language_model.tokenizer.save_pretrained(folder)


def _check(model: VLM) -> None:
    def refuse(reason: str) -> ZooError:
        return ZooError(f"method {model.method.name!r} cannot be exported to {LLAVA_HF.name}: {reason}")

    if model.encoder is None or model.connector is None:
        raise refuse("it has no encoder; save it as a run instead")
    tower = model.encoder.model.config
    if tower.model_type not in _TOWERS:
        raise refuse(f"its encoder is {tower.model_type}, the class takes {' or '.join(_TOWERS)}")
    if model.encoder.config.post_norm:
        raise refuse("encoder.post_norm normalises the features, the class takes them as they are")
    if model.encoder.image_size != tower.image_size:
        raise refuse(f"encoder.image_size {model.encoder.image_size} interpolates the tower's {tower.image_size}")
    if model.method.connector.kind not in ("mlp", "linear") or len(model.connector.layers) > 2:
        raise refuse(f"its connector is {model.method.connector}, the class has two linear layers")
    if model.method.fusion.kind != "splice":
        raise refuse(f"its fusion is {model.method.fusion.kind}, the class splices")
    if any(LORA_MARK in key for key in model.state_dict()):
        raise refuse("it has LoRA adapters; merge them first")
    if model.language_model.num_added:
        raise refuse("its added tokens have rows of their own; merge them into the vocabulary first")


def _config(model: VLM) -> dict[str, Any]:
    encoder, language_model = model.encoder, model.language_model
    text = architecture(language_model.model.config)
    layers, drops_class_token = encoder.layers, encoder.family.has_class_token and not encoder.config.class_token
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "dtype": str(next(language_model.parameters()).dtype).removeprefix("torch."),
        "image_token_index": _image_token(model),
        "image_seq_length": encoder.num_tokens,
        "multimodal_projector_bias": True,
        "projector_hidden_act": "linear" if len(model.connector.layers) == 1 else model.method.connector.activation,
        "vision_feature_layer": layers[0] if len(layers) == 1 and not encoder.config.layers else list(layers),
        "vision_feature_select_strategy": "default" if drops_class_token else "full",
        "tie_word_embeddings": text["tie_word_embeddings"],
        "text_config": text,
        "vision_config": architecture(encoder.model.config),
    }


def _image_token(model: VLM) -> int:
    config = model.language_model.model.config
    known = getattr(config, IMAGE_TOKEN_FIELD, None)
    if known is None and model.language_model.has_tokenizer:
        known = model.language_model.tokenizer.get_vocab().get("<image>")
    return config.vocab_size if known is None or known >= config.vocab_size else known


def _with_mean_row(weight: Tensor) -> Tensor:
    return torch.cat([weight, weight.float().mean(dim=0, keepdim=True).to(weight.dtype)])
