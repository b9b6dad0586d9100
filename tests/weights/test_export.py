"""Models written for transformers' own classes: what was loaded, and what was built here, with equal logits."""

import dataclasses
import json

import pytest
import torch
from llava_reference import VISION
from llava_reference import difference as llava_difference
from safetensors.torch import load_file
from test_blip2 import VARIANTS as BLIP2_VARIANTS
from test_blip2 import examples as blip2_examples
from test_blip2 import reference as blip2_reference
from test_blip2 import theirs_of
from test_idefics import VARIANTS as IDEFICS_VARIANTS
from test_idefics import difference as idefics_difference
from test_idefics import reference as idefics_reference
from test_kosmos_2 import VARIANTS as KOSMOS_VARIANTS
from test_kosmos_2 import examples as kosmos_examples
from test_kosmos_2 import inputs_of
from test_kosmos_2 import reference as kosmos_reference
from tiny import fill
from transformers import (
    Blip2ForConditionalGeneration,
    IdeficsForVisionText2Text,
    InstructBlipForConditionalGeneration,
    Kosmos2ForConditionalGeneration,
    LlavaForConditionalGeneration,
)

from zoo.config import override
from zoo.data.batch import pad
from zoo.data.encode import IGNORED_LABEL
from zoo.errors import ZooError
from zoo.factory import build_model, configure
from zoo.language import LanguageModelConfig
from zoo.weights import export, load_released

TOLERANCE = 2e-5
CLASSES = {
    "llava-hf": LlavaForConditionalGeneration,
    "blip2-hf": Blip2ForConditionalGeneration,
    "instructblip-hf": InstructBlipForConditionalGeneration,
    "kosmos-2-hf": Kosmos2ForConditionalGeneration,
    "idefics-hf": IdeficsForVisionText2Text,
}
EVA = {
    "model_type": "blip_2_vision_model",
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def exported(model, folder, layout):
    """The model as transformers' class reads it; all of it must have been in the file."""
    export(model, folder)
    again, report = CLASSES[layout].from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    return again.eval()


def same_weights(first, second):
    first, second = (load_file(folder / "model.safetensors") for folder in (first, second))
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@torch.no_grad()
def blip2_difference(model, expected):
    is_encoder_decoder = model.language_model.is_encoder_decoder
    batch = pad(blip2_examples(is_encoder_decoder))
    arguments = theirs_of(expected, batch)
    # Behind a placeholder of its own the ids are those of ours, which has no such token.
    arguments["input_ids"] = batch.ids.masked_fill(batch.media_mask, expected.config.image_token_id)
    ours = model(batch).logits
    if is_encoder_decoder:
        real = batch.decoder_labels != IGNORED_LABEL
        theirs = expected(**arguments, labels=batch.decoder_labels).logits
    else:
        real = batch.attention_mask
        theirs = expected(**arguments).logits
    assert theirs[real].std() > 0.1, "the model is too tame to show anything"
    return (ours[real] - theirs[real][:, : ours.shape[-1]]).abs().max().item()


@pytest.mark.parametrize("variant", BLIP2_VARIANTS)
def test_blip2_goes_there_and_back(variant, tmp_path):
    kind, text, changes = BLIP2_VARIANTS[variant]
    expected = blip2_reference(kind, text, changes)
    expected.save_pretrained(tmp_path / "released")
    model = load_released(tmp_path / "released")
    again = exported(model, tmp_path / "exported", f"{kind}-hf")
    assert again.config.image_token_id == again.config.text_config.vocab_size - 1 == 80
    assert blip2_difference(model, again) < TOLERANCE
    for section in ("vision_config", "qformer_config"):
        written, asked = (getattr(m.config, section).to_dict() for m in (again, expected))
        names = written.keys() & asked.keys() - {"architectures", "dtype", "initializer_range", "vocab_size"}
        assert {n: written[n] for n in names} == {n: asked[n] for n in names} | (
            {"max_position_embeddings": written["max_position_embeddings"]}
            if "max_position_embeddings" in names
            else {}
        )


@pytest.mark.parametrize("variant", IDEFICS_VARIANTS)
def test_idefics_goes_there_and_back(variant, tmp_path):
    expected = idefics_reference(**IDEFICS_VARIANTS[variant])
    expected.save_pretrained(tmp_path / "released")
    model = load_released(tmp_path / "released")
    again = exported(model, tmp_path / "exported", "idefics-hf")
    assert idefics_difference(model, again) < 1e-4
    assert same_weights(tmp_path / "released", tmp_path / "exported")


@pytest.mark.parametrize("variant", KOSMOS_VARIANTS)
@torch.no_grad()
def test_kosmos_2_goes_there_and_back(variant, tmp_path):
    kosmos_reference(**KOSMOS_VARIANTS[variant]).save_pretrained(tmp_path / "released")
    model = load_released(tmp_path / "released")
    again = exported(model, tmp_path / "exported", "kosmos-2-hf")
    assert same_weights(tmp_path / "released", tmp_path / "exported")
    for example in kosmos_examples():
        theirs = again(**inputs_of(example)).logits
        assert (model(pad([example])).logits - theirs).abs().max() < 1e-4 and theirs.std() > 0.3


CLIP = {"model_type": "clip_vision_model", **VISION}


def built(name, tiny_setting, *, architecture=None, language_model=None, **overrides):
    """A method of ours under the tests' setting, every parameter moved off its initial value."""
    method = override(configure(name, tiny_setting), overrides)
    if architecture is not None:
        own = {"id": "", "image_size": None, "architecture": architecture}
        method = dataclasses.replace(method, encoder=dataclasses.replace(method.encoder, **own))
    if language_model is not None:
        method = dataclasses.replace(method, language_model=language_model)
    return fill(build_model(method), 0.05).eval()


def test_a_llava_with_added_tokens_built_here(tiny_setting, tmp_path):
    model = built("llava-1.5", tiny_setting, architecture=CLIP, added_tokens=["<here>", "<there>"])
    again = exported(model, tmp_path, "llava-hf")
    size = len(model.language_model.tokenizer)
    assert again.config.text_config.vocab_size == size + 1 and again.config.image_token_id == size
    assert llava_difference(model, again, num_columns=size) < TOLERANCE
    assert torch.equal(
        again.get_input_embeddings().weight[-3:-1], model.language_model.model.get_input_embeddings().added
    )


@pytest.mark.parametrize("name", ["blip2", "blip2-flan-t5", "instructblip", "instructblip-flan-t5"])
def test_a_q_former_built_here(name, tiny_setting, tmp_path):
    model = built(name, tiny_setting, architecture=EVA, **{"connector.norm_epsilon": 1e-6})
    again = exported(model, tmp_path, "instructblip-hf" if "instruct" in name else "blip2-hf")
    assert blip2_difference(model, again) < TOLERANCE
    assert (tmp_path / "tokenizer.json").is_file()


def test_an_idefics_built_here(tiny_setting, tiny_parts, tmp_path):
    with pytest.raises(ZooError, match="shared keys"):
        export(built("idefics", tiny_setting, architecture=CLIP), tmp_path / "no")
    assert not (tmp_path / "no").exists()
    # The tiny language model shares its keys, and here has rows that no token uses.
    fields = json.loads((tiny_parts / "language_model" / "config.json").read_text())
    size = fields["vocab_size"]
    fields |= {"num_key_value_heads": fields["num_attention_heads"], "vocab_size": size + 5}
    own = LanguageModelConfig(architecture=fields, tokenizer=str(tiny_parts / "language_model"))
    model = built("idefics", tiny_setting, architecture=CLIP, language_model=own)
    again = exported(model, tmp_path, "idefics-hf")
    assert (again.config.vocab_size, again.config.additional_vocab_size) == (size, 3)
    assert idefics_difference(model, again) < 1e-4


def test_another_epsilon_is_said(tiny_setting, tmp_path):
    with pytest.warns(UserWarning, match=r"norm_epsilon is 1e-05; transformers has one epsilon .* 1e-06"):
        export(built("blip2", tiny_setting, architecture=EVA), tmp_path)


def test_what_the_classes_have_no_place_for(tiny_setting, tmp_path):
    def refused(name, match, **overrides):
        with pytest.raises(ZooError, match=match) as caught:
            export(built(name, tiny_setting, **overrides), tmp_path)
        assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())

    refused("blind", "use zoo pack")
    refused("openflamingo", "no class for connector resampler with fusion gated_cross_attention")
    refused("instructblip", "its encoder is clip_vision_model, the class takes blip_2_vision_model")
    refused("kosmos-2", "its language model is llama")
    refused("llava-1.5", "two linear layers", **{"connector.depth": 3})
    refused("llava-1.5", "its connector normalises", **{"connector.norm_eps": 1e-5})
    refused("video-llava", "a tower for videos")
