"""OpenFlamingo's partial checkpoints: key names as released, tables with the added tokens, put on a named base."""

import dataclasses

import pytest
import torch
from tiny import clip, conversation, fill, image, llama, train_tokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from zoo.connectors import Resampler
from zoo.data.batch import pad
from zoo.data.templates import get_template
from zoo.encoders import EncoderConfig
from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.fusion import GatedCrossAttention
from zoo.language import LanguageModelConfig
from zoo.registry import get_method
from zoo.weights import convert, load_released, openflamingo

FAMILIES = {
    "gpt_neox": ("gpt_neox.", "gpt_neox.embed_in", "embed_out"),
    "llama": ("model.", "model.embed_tokens", "lm_head"),
}

# Of a released file, for a language model of two layers with a block before each; the resampler has one layer.
GATED = ("attn.norm.bias", "attn.norm.weight", "attn.to_kv.weight", "attn.to_out.weight", "attn.to_q.weight")
GATED += ("attn_gate", "ff.0.bias", "ff.0.weight", "ff.1.weight", "ff.3.weight", "ff_gate")
RELEASED = {
    "lang_encoder.embed_out.weight",
    "lang_encoder.gpt_neox.embed_in.weight",
    *(f"lang_encoder.gpt_neox.layers.{n}.gated_cross_attn_layer.{name}" for n in range(2) for name in GATED),
    "perceiver.latents",
    "perceiver.norm.bias",
    "perceiver.norm.weight",
    *(f"perceiver.layers.0.0.norm_{what}.{kind}" for what in ("latents", "media") for kind in ("bias", "weight")),
    *(f"perceiver.layers.0.0.to_{what}.weight" for what in ("kv", "out", "q")),
    *(f"perceiver.layers.0.1.{name}" for name in ("0.bias", "0.weight", "1.weight", "3.weight")),
}


def neox(num_rows):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = GPTNeoXConfig(
        vocab_size=num_rows, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0, **sizes
    )
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return fill(GPTNeoXForCausalLM(config), 0.05)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A tower in the place of the published one, and both kinds of language model."""
    clip().save_pretrained(tmp_path / "tower")
    tokenizer = train_tokenizer()
    for family, make in (("gpt_neox", neox), ("llama", llama)):
        # The base has rows that its tokenizer does not use, as RedPajama's has.
        make(len(tokenizer) + 5).save_pretrained(tmp_path / family)
        tokenizer.save_pretrained(tmp_path / family)
    encoder = EncoderConfig(id=str(tmp_path / "tower"), layer=-1)
    method = dataclasses.replace(get_method("openflamingo"), encoder=encoder)
    monkeypatch.setattr(openflamingo, "get_method", lambda name: method)
    return tmp_path, method


def trained(method, base, every=1):
    """A model with open gates, and what OpenFlamingo would have saved of it."""
    model = build_model(
        dataclasses.replace(
            method,
            connector=Resampler(num_latents=3, depth=1, num_heads=1, head_dim=64),
            fusion=GatedCrossAttention(every=every, num_heads=2, head_dim=64, gate=0.6),
            language_model=LanguageModelConfig(id=str(base)),
        )
    )
    for part in (model.connector, model.fusion):
        fill(part, 0.1)
    with torch.no_grad():
        for module in (model.language_model.model.get_input_embeddings(), model.language_model.model.lm_head):
            module.added.normal_(generator=torch.Generator().manual_seed(8))
    return model


def released(model, family, *, padding=1, wrapper=""):
    state = convert(model.state_dict(), "openflamingo", "from_canonical")
    for name in FAMILIES[family][1:]:
        added = state.pop(f"lang_encoder.{name}.added")
        weight = state[f"lang_encoder.{name}.weight"][: len(model.language_model.tokenizer) - 2]
        state[f"lang_encoder.{name}.weight"] = torch.cat([weight, added, torch.rand(padding, weight.shape[1])])
    kept = ("perceiver.", "gated_cross_attn_layer", *FAMILIES[family][1:])
    return {f"{wrapper}{key}": value.clone() for key, value in state.items() if any(part in key for part in kept)}


def logits(model):
    turns = [("<image>What colour?", "Red."), ("And this? <image>", "Blue.")]
    sample = conversation("two", turns, [image("red"), image("blue", 1)])
    example = model.preprocessor()(sample, get_template(model.method.template))
    with torch.no_grad():
        return model(pad([example])).logits


@pytest.mark.parametrize(("family", "every"), [("gpt_neox", 1), ("gpt_neox", 2), ("llama", 1)])
def test_a_partial_checkpoint_on_its_base(folders, family, every):
    folder, method = folders
    model = trained(method, folder / family, every)
    for name, options in {"plain": {}, "wrapped": {"padding": 0, "wrapper": "module."}}.items():
        (folder / name).mkdir()
        torch.save(released(model, family, **options), folder / name / "checkpoint.pt")
        again = load_released(folder / name, base=str(folder / family))
        assert again.fusion.places == model.fusion.places and again.connector.latents.shape == (3, 32)
        assert torch.equal(logits(again), logits(model))


def test_names_are_the_released_ones(folders):
    folder, method = folders
    state = released(trained(method, folder / "gpt_neox"), "gpt_neox")
    assert state.keys() == RELEASED
    canonical = convert(state, "openflamingo", "to_canonical")
    assert {key.split(".")[0] for key in canonical} == {"connector", "fusion", "language_model"}
    assert (
        canonical["fusion.blocks.1.mlp_gate"] is state["lang_encoder.gpt_neox.layers.1.gated_cross_attn_layer.ff_gate"]
    )


def test_what_does_not_fit_is_said(folders):
    folder, method = folders
    state = released(trained(method, folder / "gpt_neox"), "gpt_neox")

    def refused(tensors, **options):
        torch.save(tensors, folder / "checkpoint.pt")
        with pytest.raises(ZooError) as caught:
            load_released(folder, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    base = str(folder / "gpt_neox")
    assert "needs its base" in refused(state)
    table = "lang_encoder.gpt_neox.embed_in.weight"
    assert "is not that of a tokenizer" in refused(state | {table: state[table][:-2]}, base=base)
    assert "attn_gate" in refused(
        {k: v for k, v in state.items() if "1.gated_cross_attn_layer.attn_gate" not in k}, base=base
    )
    mpt = {key.replace("gpt_neox.layers", "transformer.blocks"): value for key, value in state.items()}
    assert "MPT's checkpoints are not supported" in refused(
        {k: v for k, v in mpt.items() if "neox" not in k}, base=base
    )
