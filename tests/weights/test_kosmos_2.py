"""Checkpoints of transformers' Kosmos2ForConditionalGeneration: equal logits, equal greedy answers, names both ways."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Kosmos2Config, Kosmos2ForConditionalGeneration

from zoo.data.batch import Example, pack_rows, pad
from zoo.data.encode import IGNORED_LABEL
from zoo.errors import ZooError
from zoo.weights import convert, load_released

TOLERANCE = 1e-4
NUM_QUERIES = 3
TEXT = {
    "vocab_size": 120,
    "max_position_embeddings": 64,
    "embed_dim": 32,
    "layers": 2,
    "ffn_dim": 64,
    "attention_heads": 4,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
VARIANTS = {
    "published": {},
    "hyper_parameters": {
        "text_fields": {"layer_norm_eps": 1e-1, "activation_function": "relu", "attention_heads": 2},
        "vision_fields": {"layer_norm_eps": 1e-1, "hidden_act": "gelu"},
    },
    "unscaled": {"text_fields": {"scale_embedding": False}},
}


def reference(text_fields=None, vision_fields=None):
    """A model in which no parameter has a neutral value."""
    config = Kosmos2Config(
        text_config=TEXT | (text_fields or {}),
        vision_config=VISION | (vision_fields or {}),
        latent_query_num=NUM_QUERIES,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Kosmos2ForConditionalGeneration(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
            # Small embeddings drown in the positions, and every answer is the same.
            model.text_model.model.embed_tokens.weight.mul_(4)
            for layer in model.text_model.model.layers:
                layer.ffn.fc2.weight.mul_(6)
    return model.eval()


def examples():
    """<s> <image> slots </image> and texts of different lengths."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for row, length in enumerate((7, 4, 5)):
        text = torch.randint(5, 120, (length,), generator=generator)
        ids = torch.cat([torch.tensor([0, 3, *[4] * NUM_QUERIES, 5]), text])
        media_mask = torch.zeros(len(ids), dtype=torch.bool)
        media_mask[2 : 2 + NUM_QUERIES] = True
        made.append(
            Example(
                sample_id=str(row),
                ids=ids,
                labels=torch.full_like(ids, IGNORED_LABEL),
                media_mask=media_mask,
                frames=torch.randn(1, 3, 28, 28, generator=generator),
                num_frames=(1,),
                geometries=(),
                num_supervised=0,
                is_video=(False,),
                media_starts=(2,),
            )
        )
    return made


def inputs_of(example):
    return {
        "input_ids": example.ids[None],
        "pixel_values": example.frames,
        "image_embeds_position_mask": example.media_mask[None],
        "attention_mask": torch.ones_like(example.ids)[None],
    }


@pytest.fixture(params=VARIANTS)
def pair(request, tmp_path):
    """(transformers' model, ours)"""
    expected = reference(**VARIANTS[request.param])
    expected.save_pretrained(tmp_path)
    return expected, load_released(tmp_path)


@torch.no_grad()
def test_logits(pair):
    expected, model = pair
    rows = examples()
    wanted = [expected(**inputs_of(row)).logits[0] for row in rows]
    for side in ("right", "left"):
        batch = pad(rows, pad_id=1, side=side)
        logits = model(batch).logits
        for row, values in enumerate(wanted):
            assert (logits[row][batch.attention_mask[row]] - values).abs().max() < TOLERANCE
    packed = model(pack_rows([rows], pad_id=1)).logits[0]
    assert (packed - torch.cat(wanted)).abs().max() < TOLERANCE
    assert (wanted[0][: len(rows[1])] - wanted[1]).abs().max() > 0.1, "the rows have to differ to show a mix-up"


@torch.no_grad()
def test_greedy_answers(pair):
    expected, model = pair
    rows = examples()
    options = {"max_new_tokens": 6, "do_sample": False}
    # transformers' answers of single rows: with padding on the left its class counts the padding as positions.
    wanted = [expected.generate(**inputs_of(row), **options)[0, len(row) :].tolist() for row in rows]
    found = model.generate(pad(rows, pad_id=1, side="left"), max_new_tokens=6, stop_ids=[2])
    assert found == wanted
    assert len({tuple(ids) for ids in found}) > 1


def test_every_gradient_of_the_text_model(pair):
    expected, model = pair
    row = examples()[0]
    targets = row.ids[-4:]
    wanted = expected(**inputs_of(row)).logits[0, -5:-1]
    torch.nn.functional.cross_entropy(wanted, targets).backward()
    labels = row.labels.clone()
    labels[-4:] = targets
    output = model(pad([dataclasses.replace(row, labels=labels)], pad_id=1))
    (output.loss_sum / output.num_supervised).backward()
    named = convert(dict(model.named_parameters()), "kosmos-2-hf", "from_canonical")
    compared = 0
    for key, parameter in expected.named_parameters():
        if parameter.grad is not None:
            assert (named[key].grad - parameter.grad).abs().max() < TOLERANCE, key
            compared += 1
    assert compared > 50


def test_names_both_ways(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path)
    model = load_released(tmp_path)
    written = convert(model.state_dict(), "kosmos-2-hf", "from_canonical")
    state = expected.state_dict()
    assert written.keys() == state.keys()
    assert all(torch.equal(written[key], state[key]) for key in state)
    # Old files hold what the classes compute by themselves.
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["vision_model.model.embeddings.position_ids"] = torch.arange(5)[None]
    tensors["text_model.model.embed_positions.weights"] = torch.zeros(66, 32)
    save_file(tensors, tmp_path / "model.safetensors")
    assert torch.equal(load_released(tmp_path).connector.latents, model.connector.latents)
    del tensors["image_to_text_projection.x_attn.out_proj.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ZooError, match=r"1 weights missing \(image_to_text_projection\.x_attn\.out_proj\.bias\)"):
        load_released(tmp_path)


def test_method_of_the_checkpoint(tmp_path):
    reference().save_pretrained(tmp_path)
    method = load_released(tmp_path).method
    assert (method.name, method.connector.num_queries, method.connector.num_heads) == ("kosmos-2", NUM_QUERIES, 4)
    assert method.encoder.post_norm and method.encoder.class_token and method.encoder.resize == "squash"
    assert method.language_model.has_added_tokens and method.box_codec == "kosmos-2"
