"""Otter's checkpoints: all of OpenFlamingo in one file, under names of their own."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file
from tiny import clip, fill, llama, train_tokenizer

import zoo
from zoo.connectors import Resampler
from zoo.encoders import EncoderConfig
from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.fusion import GatedCrossAttention
from zoo.language import LanguageModelConfig
from zoo.registry import get_method
from zoo.weights import convert, load_released

GATED = ("attn.norm.bias", "attn.norm.weight", "attn.to_kv.weight", "attn.to_out.weight", "attn.to_q.weight")
GATED += ("attn_gate", "feed_forward.0.bias", "feed_forward.0.weight", "feed_forward.1.weight")
GATED += ("feed_forward.3.weight", "ff_gate")
# What a file has beside tower and language model, for a resampler of one layer and a block before the second of two.
RELEASED = {
    *(f"lang_encoder.model.layers.1.gated_cross_attn_layer.{name}" for name in GATED),
    *("perceiver.latents", "perceiver.frame_embs", "perceiver.norm.bias", "perceiver.norm.weight"),
    *(f"perceiver.layers.0.norm_{what}.{kind}" for what in ("latents", "media") for kind in ("bias", "weight")),
    *(f"perceiver.layers.0.to_{what}.weight" for what in ("kv", "out", "q")),
    *(f"perceiver.layers.0.feed_forward.{name}" for name in ("0.bias", "0.weight", "1.weight", "3.weight")),
}


@pytest.fixture
def parts(tmp_path):
    clip().save_pretrained(tmp_path / "tower")
    tokenizer = train_tokenizer()
    tokenizer.add_tokens(list(get_method("otter").added_tokens), special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "llama")
    llama(len(tokenizer)).save_pretrained(tmp_path / "llama")
    model = build_model(
        dataclasses.replace(
            get_method("otter"),
            encoder=EncoderConfig(id=str(tmp_path / "tower"), layer=-1, resize="crop"),
            connector=Resampler(num_latents=3, depth=1, num_heads=1, head_dim=64, num_frame_embeddings=5),
            fusion=GatedCrossAttention(every=2, num_heads=2, head_dim=64),
            language_model=LanguageModelConfig(id=str(tmp_path / "llama"), has_added_tokens=True),
        )
    )
    for part in (model.connector, model.fusion):
        fill(part, 0.1)
    return model, convert(model.state_dict(), "otter", "from_canonical")


def write(folder, model, state, model_type="otter"):
    folder.mkdir(exist_ok=True)
    text, vision = model.language_model.model.config.to_dict(), model.encoder.model.config.to_dict()
    fields = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    fields += ("num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "model_type")
    config = {
        "model_type": model_type,
        "cross_attn_every_n_layers": 2,
        "text_config": {"architectures": ["LlamaForCausalLM"], **{key: text[key] for key in fields}},
        "vision_config": {key: value for key, value in vision.items() if not key.startswith("_")},
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file({key: value.clone() for key, value in state.items()}, folder / "model.safetensors")
    model.language_model.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("model_type", ["otter", "flamingo"])
def test_a_whole_checkpoint(tmp_path, parts, model_type):
    model, state = parts
    again = zoo.load(write(tmp_path / "x", model, state, model_type))
    assert again.method.name == "otter" and again.fusion.places == model.fusion.places
    ours, theirs = again.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert again.language_model.tokenizer.convert_tokens_to_ids("<answer>") == len(again.language_model.tokenizer) - 1


def test_names_are_the_released_ones(parts):
    model, state = parts
    rest = ("vision_encoder.vision_model.", "lang_encoder.model.", "lang_encoder.lm_head.", "perceiver.")
    assert all(key.startswith(rest) for key in state)
    assert {key for key in state if "gated_cross_attn_layer" in key or key.startswith("perceiver.")} == RELEASED
    assert "lang_encoder.model.layers.0.decoder_layer.self_attn.q_proj.weight" in state
    canonical = convert(state, "otter", "to_canonical")
    assert canonical.keys() == model.state_dict().keys()
    back = convert(canonical, "otter", "from_canonical")
    assert back.keys() == state.keys() and all(back[key] is state[key] for key in state)


def test_what_does_not_fit_is_said(tmp_path, parts):
    model, state = parts

    def refused(state):
        with pytest.raises(ZooError) as caught:
            load_released(write(tmp_path / "x", model, state))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    key = "perceiver.layers.0.feed_forward.1.weight"
    assert key in refused({name: value for name, value in state.items() if name != key})
    assert f"{key} has shape (3, 3)" in refused(state | {key: torch.rand(3, 3)})
    assert "perceiver.media_time_embs" in refused(state | {"perceiver.media_time_embs": torch.rand(2)})
    mpt = {key.replace("model.layers", "transformer.blocks"): value for key, value in state.items()}
    assert "on MPT are not supported" in refused(mpt)
