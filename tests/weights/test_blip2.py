"""Checkpoints of transformers' Blip2 and InstructBlip: loaded with equal logits, renamed back to the same file."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
)

from zoo.data.batch import Example, pad
from zoo.data.encode import IGNORED_LABEL
from zoo.errors import ZooError
from zoo.weights import convert, load_released

TOLERANCE = 2e-5
IMAGE_TOKEN = 79
NUM_QUERIES = 4
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
VISION = {**SIZES, "hidden_size": 24, "image_size": 28, "patch_size": 14, "num_hidden_layers": 2}
QFORMER = {**SIZES, "vocab_size": 60, "encoder_hidden_size": 24, "max_position_embeddings": 32}
TEXT = {
    "opt": {
        "vocab_size": 80,
        "hidden_size": 16,
        "ffn_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 16,
    },
    "llama": {"vocab_size": 80, **SIZES, "pad_token_id": 0, "rms_norm_eps": 1e-3},
    "t5": {
        "vocab_size": 80,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 2,
        "num_heads": 2,
        "feed_forward_proj": "gated-gelu",
        "dense_act_fn": "gelu",
        "tie_word_embeddings": False,
        "decoder_start_token_id": 0,
    },
}
CLASSES = {
    "blip2": (Blip2Config, Blip2ForConditionalGeneration),
    "instructblip": (InstructBlipConfig, InstructBlipForConditionalGeneration),
}
VARIANTS = {
    "blip2-opt": ("blip2", "opt", {}),
    "blip2-t5": ("blip2", "t5", {}),
    "instructblip-llama": ("instructblip", "llama", {}),
    "instructblip-t5": ("instructblip", "t5", {}),
    "hyper_parameters": (
        "instructblip",
        "llama",
        {
            "qformer": {"hidden_act": "relu", "layer_norm_eps": 1e-2, "cross_attention_frequency": 1},
            "vision": {"layer_norm_eps": 1e-1, "hidden_act": "quick_gelu"},
        },
    ),
    "every_third_layer": ("blip2", "opt", {"qformer": {"cross_attention_frequency": 3, "hidden_act": "gelu_new"}}),
}
# (text for the language model, text for the Q-Former): of different lengths.
PROMPTS = (([2, 5, 6, 7], [3, 9, 4]), ([2, 11], [3, 4]), ([2, 21, 22, 23, 24, 25], [3, 30, 31, 32, 33, 4]))


def reference(kind, text, changes):
    """A model of transformers in which no parameter has a neutral value."""
    config_class, model_class = CLASSES[kind]
    config = config_class(
        vision_config=VISION | changes.get("vision", {}),
        qformer_config=QFORMER | changes.get("qformer", {}),
        text_config={"model_type": text, **TEXT[text]},
        num_query_tokens=NUM_QUERIES,
        image_token_index=IMAGE_TOKEN,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config)
        if text == "t5":  # Flan-T5's head is its own, whatever the class makes of it
            head = model.language_model.lm_head
            head.weight = torch.nn.Parameter(head.weight.detach().clone())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def examples(with_target):
    generator = torch.Generator().manual_seed(3)
    made = []
    for row, (text, instruction) in enumerate(PROMPTS):
        ids = torch.tensor([IMAGE_TOKEN] * NUM_QUERIES + text)
        made.append(
            Example(
                sample_id=str(row),
                ids=ids,
                labels=torch.full_like(ids, IGNORED_LABEL),
                media_mask=ids == IMAGE_TOKEN,
                frames=torch.randn(1, 3, 28, 28, generator=generator),
                num_frames=(1,),
                geometries=(),
                num_supervised=0,
                is_video=(False,),
                media_starts=(0,),
                instruction=torch.tensor(instruction),
                target=torch.tensor([40 + row, 41, 42][: row + 1]) if with_target else None,
            )
        )
    return made


def theirs_of(expected, batch):
    """The arguments of transformers' class for the same batch."""
    arguments = {
        "input_ids": batch.ids.masked_fill(batch.media_mask, IMAGE_TOKEN),
        "attention_mask": batch.attention_mask.long(),
        "pixel_values": batch.frames,
    }
    if isinstance(expected, InstructBlipForConditionalGeneration):
        arguments["qformer_input_ids"] = batch.instruction_ids
        arguments["qformer_attention_mask"] = batch.instruction_mask.long()
    return arguments


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_saved_model_loads_with_equal_logits_and_answers(variant, tmp_path):
    expected = reference(*VARIANTS[variant])
    expected.save_pretrained(tmp_path)
    model = load_released(tmp_path)
    is_encoder_decoder = model.language_model.is_encoder_decoder
    assert model.method.name.startswith(VARIANTS[variant][0])
    batch = pad(examples(is_encoder_decoder))
    arguments = theirs_of(expected, batch)
    ours = model(batch).logits
    if is_encoder_decoder:
        labels = batch.decoder_labels
        theirs = expected(**arguments, labels=labels).logits
        real = labels != IGNORED_LABEL
    else:
        theirs = expected(**arguments).logits
        real = batch.attention_mask
    assert theirs[real].std() > 0.3, "the reference is too tame to show anything"
    assert (ours[real] - theirs[real]).abs().max() < TOLERANCE

    prompts = pad(examples(False), side="left")
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": 78}
    written = expected.generate(**theirs_of(expected, prompts), **options)[:, -5:].tolist()
    assert model.generate(prompts, max_new_tokens=5, stop_ids=[78]) == written
    assert len({tuple(row) for row in written}) > 1


@pytest.mark.parametrize("variant", ["blip2-opt", "blip2-t5", "instructblip-llama", "instructblip-t5"])
def test_names_are_turned_back_into_those_of_the_file(variant, tmp_path):
    reference(*VARIANTS[variant]).save_pretrained(tmp_path)
    released = load_file(tmp_path / "model.safetensors")
    layout = f"{VARIANTS[variant][0]}-hf"
    again = convert(convert(released, layout, "to_canonical"), layout, "from_canonical")
    assert again.keys() == released.keys()
    assert all(again[key] is released[key] for key in released)


def test_the_instruction_reaches_the_queries(tmp_path):
    reference(*VARIANTS["instructblip-llama"]).save_pretrained(tmp_path)
    model = load_released(tmp_path)
    batch = pad(examples(False))
    other = pad([*examples(False)[:2], examples(False)[2]])
    swapped = other.instruction_ids.flip(0)
    changed = model.soft_tokens(type(batch)(**vars(batch) | {"instruction_ids": swapped})).media
    assert (changed - model.soft_tokens(batch).media).abs().max() > 1e-2
    assert model.connector.embeddings.words.num_embeddings == QFORMER["vocab_size"]


def test_missing_weights_are_named_as_in_the_file(tmp_path):
    reference(*VARIANTS["blip2-opt"]).save_pretrained(tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    weights = dict(whole)
    del weights["qformer.encoder.layer.0.crossattention.output.dense.bias"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ZooError, match=r"1 weights missing \(qformer.encoder.layer.0.crossattention.output.dense.bias"):
        load_released(tmp_path)
    save_file(whole, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config["qformer_config"]["cross_attention_frequency"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ZooError, match=r"not in the model \(qformer.encoder.layer.2.crossattention"):
        load_released(tmp_path)
