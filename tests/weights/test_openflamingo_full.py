"""A whole OpenFlamingo in one file: the tower under open_clip's names, the language model wrapped layer by layer."""

import json

import torch
from safetensors.torch import save_file
from tiny import fill

from zoo.factory import build_model
from zoo.weights import OPENFLAMINGO_FULL, convert, load_released

CONFIG = {
    "lang_encoder": {
        "model_type": "gpt_neox",
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "rotary_pct": 0.5,
    },
    "vision": {"width": 12, "layers": 2, "heads": 3, "image_size": 20, "patch_size": 10, "mlp_ratio": 2.0},
    "perceiver": {"depth": 2, "heads": 2, "dim_head": 5, "num_latents": 3},
    "gated_cross_attention": {"heads": 2, "dim_head": 4},
    "every": 2,
    "media": 48,
}
# From transformers' names of the tower to open_clip's.
NAMES = (
    ("embeddings.class_embedding", "class_embedding"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("embeddings.patch_embedding", "conv1"),
    ("pre_layrnorm", "ln_pre"),
    ("post_layernorm", "ln_post"),
    ("encoder.layers", "transformer.resblocks"),
    ("layer_norm", "ln_"),
    ("self_attn", "attn"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
)


def released(state):
    """Weights named by the layout, the tower's as open_clip has them."""
    weights = {"vision_encoder.proj": torch.randn(12, 6)}
    for key, value in state.items():
        if key.startswith("vision_encoder."):
            for ours, theirs in NAMES:
                key = key.replace(ours, theirs)
        weights[key] = value
    for key in [key for key in weights if ".q_proj." in key]:
        parts = [weights.pop(key.replace(".q_proj.", f".{letter}_proj.")) for letter in "qkv"]
        weights[key.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    return weights


def test_every_weight_finds_its_place(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    method = OPENFLAMINGO_FULL.method_from_config(CONFIG, tmp_path)
    expected = fill(build_model(method), 0.3)
    state = convert(expected.state_dict(), OPENFLAMINGO_FULL, "from_canonical")
    weights = released(state)
    assert "vision_encoder.transformer.resblocks.1.attn.in_proj_weight" in weights
    assert "lang_encoder.gpt_neox.layers.1.gated_cross_attn_layer.attn_gate" in weights
    save_file({key: value.clone() for key, value in weights.items()}, tmp_path / "model.safetensors")
    model = load_released(tmp_path)
    found = model.state_dict()
    assert found.keys() == expected.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in expected.state_dict().items())
    # RedPajama's, where nothing is said.
    assert model.language_model.model.config.use_parallel_residual is False
    assert model.encoder.model.config.hidden_act == "quick_gelu"
    assert model.fusion.places == (1,)
