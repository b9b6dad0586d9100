"""Checkpoints of transformers' IdeficsForVisionText2Text: loaded with equal logits, images where the mask has them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import fill, train_tokenizer
from transformers import IdeficsConfig, IdeficsForVisionText2Text

import zoo
from zoo.data.batch import Example, pad
from zoo.data.encode import IGNORED_LABEL
from zoo.errors import ZooError
from zoo.weights import convert

TOLERANCE = 1e-4
IMAGE = 81
VARIANTS = {
    "published": {},
    "base": {"additional_vocab_size": 2},
    "vector": {"alpha_type": "vector", "qk_layer_norms": False},
    "resampler": {"perceiver_config": {"qk_layer_norms_perceiver": False, "resampler_depth": 1}},
    "interval": {"cross_layer_interval": 1, "rms_norm_eps": 1e-2, "rope_theta": 500.0},
    "tied": {"tie_word_embeddings": True},
}
VISION = {
    "embed_dim": 24,
    "image_size": 28,
    "intermediate_size": 48,
    "patch_size": 14,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
PERCEIVER = {
    "use_resampler": True,
    "resampler_n_latents": 4,
    "resampler_depth": 2,
    "resampler_n_heads": 2,
    "resampler_head_dim": 8,
    "qk_layer_norms_perceiver": True,
}


def reference(**fields):
    """A model of transformers in which no parameter has a neutral value, the gates included."""
    sizes = {
        "vocab_size": 80,
        "additional_vocab_size": 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "cross_layer_interval": 2,
        "max_position_embeddings": 64,
        "qk_layer_norms": True,
        "use_resampler": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "vision_config": VISION,
    }
    config = IdeficsConfig(**sizes | fields | {"perceiver_config": PERCEIVER | fields.get("perceiver_config", {})})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fill(IdeficsForVisionText2Text(config), 0.1)
    with torch.no_grad():
        for block in model.model.gated_cross_attn_layers:
            block.alpha_cross_attn.add_(0.8)
            block.alpha_dense.sub_(0.6)
    return model.eval()


# Text before the first image, several images in a row of text, none, one at the very start, two side by side.
PROMPTS = (
    [1, 5, 80, IMAGE, 80, 6, 7, IMAGE, 8, 9],
    [1, 11, 12, 13, 14],
    [IMAGE, 21, 22, 23, 24, 25, 26],
    [1, 31, IMAGE, IMAGE, 32, 33],
)


def examples(prompts=PROMPTS):
    generator = torch.Generator().manual_seed(3)
    made = []
    for row, prompt in enumerate(prompts):
        ids = torch.tensor(prompt)
        starts = tuple((ids == IMAGE).nonzero()[:, 0].tolist())
        made.append(
            Example(
                sample_id=str(row),
                ids=ids,
                labels=torch.full_like(ids, IGNORED_LABEL),
                media_mask=torch.zeros_like(ids, dtype=torch.bool),
                frames=torch.randn(len(starts), 3, 28, 28, generator=generator) if starts else None,
                num_frames=(1,) * len(starts),
                is_video=(False,) * len(starts),
                media_starts=starts,
                geometries=(),
                num_supervised=0,
            )
        )
    return made


def inputs(batch, given):
    """The batch as transformers takes it: images of a row padded by zeros, and who sees which of them."""
    num_images = max(1, *(len(example.num_frames) for example in given))
    pixels = torch.zeros(len(given), num_images, 3, 28, 28)
    for row, example in enumerate(given):
        if example.frames is not None:
            pixels[row, : len(example.frames)] = example.frames
    newest = (batch.ids == IMAGE).long().cumsum(-1) - 1
    return {
        "input_ids": batch.ids,
        "attention_mask": batch.attention_mask.long(),
        "pixel_values": pixels,
        "image_attention_mask": (newest[..., None] == torch.arange(num_images)).long(),
    }


@torch.no_grad()
def difference(model, expected, side="right"):
    given = examples()
    batch = pad(given, side=side)
    theirs, ours = expected(**inputs(batch, given)).logits, model(batch).logits
    real = batch.attention_mask
    assert theirs[real].std() > 0.3, "the reference is too tame to show anything"
    return (ours[real] - theirs[real]).abs().max().item()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_loads_with_equal_logits(variant, tmp_path):
    expected = reference(**VARIANTS[variant])
    expected.save_pretrained(tmp_path)
    model = zoo.load(tmp_path)
    assert difference(model, expected) < TOLERANCE
    assert difference(model, expected, side="left") < TOLERANCE
    tokens = expected.config.additional_vocab_size
    assert model.method.template == ("idefics" if tokens == 3 else "idefics_base")
    assert model.language_model.num_added == tokens


@torch.no_grad()
def test_generation_from_left_padding_is_that_of_each_row(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path)
    model = zoo.load(tmp_path)
    given = examples()
    ours = model.generate(pad(given, side="left"), max_new_tokens=6, stop_ids=[79])
    for row, example in enumerate(given):
        alone = inputs(pad([example]), [example])
        theirs = expected.generate(**alone, max_new_tokens=6, do_sample=False, eos_token_id=79)[0, len(example) :]
        theirs = theirs.tolist()
        assert ours[row] == theirs[: theirs.index(79) if 79 in theirs else None]
    assert len({tuple(ids) for ids in ours}) == len(ours)


@torch.no_grad()
def test_text_before_the_first_image_does_not_see_it(tmp_path):
    reference().save_pretrained(tmp_path)
    model = zoo.load(tmp_path)
    given = examples()
    batch = pad(given)
    before = model(batch).logits
    batch.frames.neg_()
    changed = (model(batch).logits - before).abs().amax(-1) > 1e-6
    assert changed[0].tolist() == [False] * 3 + [True] * 7
    assert not changed[1].any() and changed[2, :7].all()


def test_conversion_is_lossless_both_ways(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path)
    released = load_file(tmp_path / "model.safetensors")
    canonical = convert(released, "idefics-hf", "to_canonical")
    assert canonical.keys() == zoo.load(tmp_path).state_dict().keys()
    assert {key.split(".")[0] for key in canonical} == {"encoder", "connector", "fusion", "language_model"}
    back = convert(canonical, "idefics-hf", "from_canonical")
    assert back.keys() == released.keys() and all(back[key] is released[key] for key in back)


def test_the_tokenizer_of_the_checkpoint_names_its_tokens(tmp_path):
    tokenizer = train_tokenizer()
    tokens = ["<fake_token_around_image>", "<image>"]
    tokenizer.add_tokens(tokens, special_tokens=True)
    reference(vocab_size=len(tokenizer) - 2, additional_vocab_size=2).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = zoo.load(tmp_path)
    assert model.method.added_tokens == tuple(tokens)
    image = model.language_model.tokenizer.convert_tokens_to_ids("<image>")
    added = model.language_model.model.get_input_embeddings().added
    assert torch.equal(model.language_model.embed(torch.tensor([image]))[0], added[1])
    tokenizer = train_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ZooError, match="lacks 2 of the 2 tokens of additional_vocab_size"):
        zoo.load(tmp_path)


def test_what_cannot_be_loaded_is_said(tmp_path):
    reference().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    missing = "model.gated_cross_attn_layers.1.alpha_dense"
    save_file({key: value for key, value in tensors.items() if key != missing}, tmp_path / "model.safetensors")
    with pytest.raises(ZooError, match=missing.replace(".", r"\.")):
        zoo.load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"use_resampler": False}))
    with pytest.raises(ZooError, match="use_resampler is false"):
        zoo.load(tmp_path)
