"""What the region methods show the language model of a box, and that a box in an answer comes back out of it."""

import dataclasses

import pytest
import torch
from tiny import conversation, fill, image, train_tokenizer

from zoo.data.batch import pad
from zoo.data.boxes import get_box_codec
from zoo.data.encode import IGNORED_LABEL, MEDIA_ID, REGION_ID
from zoo.data.sample import Box
from zoo.data.templates import get_template
from zoo.evaluation.runner import generate_answers
from zoo.factory import build_model
from zoo.language import LanguageModelConfig, build_language_model
from zoo.registry import get_method
from zoo.run import resolve_run

FIRST, SECOND = Box(x0=4, y0=3, x1=30, y1=20), Box(x0=20, y0=1, x1=39, y1=27)


@pytest.fixture(scope="module", params=["shikra", "kosmos-2", "gpt4roi"])
def model(request, tiny_setting):
    # The rows of added tokens begin as the mean of the others, all alike.
    return fill(build_model(resolve_run(request.param, tiny_setting).method), 0.05)


@pytest.fixture(scope="module")
def gpt4roi(tiny_setting):
    return build_model(resolve_run("gpt4roi", tiny_setting).method)


def asking(first, second):
    turns = [("<image>\nIs <box> above <box>?", "No, it is at <box>.")]
    return conversation("asking", turns, [image("red")], [first, second, SECOND])


def encode(model, sample, **options):
    return model.preprocessor()(sample, get_template(model.method.template), **options)


def prompt_text(model, example):
    """The prompt with every run of soft tokens written as its length."""
    pieces, tokens = [], []

    def flush():
        pieces.append(model.language_model.tokenizer.decode(tokens))
        tokens.clear()

    runs = 0
    for token in [*example.ids.tolist(), None]:
        if runs and token != MEDIA_ID:
            pieces.append(f"{{{runs}}}")
            runs = 0
        if token in (MEDIA_ID, REGION_ID, None):
            flush()
            runs += token == MEDIA_ID
            if token == REGION_ID:
                pieces.append("{region}")
        else:
            tokens.append(token)
    return "".join(pieces)


def test_prompts(model):
    example = encode(model, asking(FIRST, SECOND), generation=True)
    written = [get_box_codec(model.method.box_codec).encode(box, example.geometries[0]) for box in (FIRST, SECOND)]
    system, overview = get_template("vicuna_v1").system, "provides an overview of the picture."
    regions = "Is region1 {region} above region2 {region}?"
    human = get_template("llava_v0").system
    expected = {
        "shikra": f"<s>{system} USER: <im_start>{{16}}<im_end>\nIs {written[0]} above {written[1]}? ASSISTANT:",
        "kosmos-2": f"<s><image>{{4}}</image><grounding> Question: Is {written[0]} above {written[1]}? Answer:",
        "gpt4roi": f"<s>{human}\n\n### Human: The <im_start>{{16}}<im_end> {overview}\n{regions}\n### Assistant:",
    }
    assert prompt_text(model, example) == expected[model.method.name]
    forms = {"shikra": "[0.100,0.225,0.750,0.650]", "kosmos-2": "<object><patch_index_0099><patch_index_0728></object>"}
    assert written[0] == forms.get(model.method.name, written[0])


def test_a_box_in_an_answer_comes_back(model, monkeypatch):
    template = get_template(model.method.template)
    example = encode(model, asking(FIRST, SECOND))
    tokenizer = model.language_model.tokenizer
    answer = example.ids[example.labels != IGNORED_LABEL].tolist()
    # What the model would write: the supervised ids, to the end of the turn.
    answer = answer[: answer.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in answer else answer
    monkeypatch.setattr(model, "generate", lambda batch, **options: [answer])
    prompt = encode(model, asking(FIRST, SECOND), generation=True)
    text = generate_answers(model, [prompt], template, max_new_tokens=1)[0]
    codec = get_box_codec(model.method.box_codec)
    assert text == f"No, it is at {codec.encode(SECOND, example.geometries[0])}."
    found = codec.decode(text, example.geometries[0])
    for side in ("x0", "y0", "x1", "y1"):
        assert getattr(found, side) == pytest.approx(getattr(SECOND, side), abs=40 / 32)


@torch.no_grad()
def test_regions_stand_where_the_text_names_them(gpt4roi):
    examples = [encode(gpt4roi, asking(*boxes), generation=True) for boxes in ((FIRST, SECOND), (SECOND, FIRST))]
    batch = pad(examples, pad_id=0)
    assert batch.region_mask.sum() == 4 and batch.box_media.tolist() == [0, 0, 1, 1]
    embeddings = gpt4roi.input_embeddings(batch)
    regions = gpt4roi.soft_tokens(batch).regions
    in_text = embeddings[batch.region_mask]
    assert torch.equal(in_text, regions)
    assert torch.allclose(in_text[[0, 1]], in_text[[3, 2]], atol=1e-6), "the same image, the boxes exchanged"
    assert (in_text[0] - in_text[1]).abs().max() > 1e-2


@torch.no_grad()
def test_logits_see_the_box(model):
    here, there = (
        model(pad([encode(model, asking(box, SECOND), generation=True)], pad_id=0)).logits[0, -1]
        for box in (FIRST, Box(x0=0, y0=15, x1=9, y1=28))
    )
    assert (here - there).abs().max() > 1e-4


def test_a_vocabulary_may_hold_the_added_tokens(tmp_path):
    tokens = get_method("kosmos-2").vocabulary
    tokenizer = train_tokenizer()
    tokenizer.add_tokens([*tokens, "<other>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path)
    decoder = {
        "model_type": "kosmos_2_text_model",
        "vocab_size": len(tokenizer),
        "embed_dim": 16,
        "layers": 1,
        "ffn_dim": 16,
        "attention_heads": 2,
    }
    config = LanguageModelConfig(architecture=decoder, tokenizer=str(tmp_path), has_added_tokens=True)
    built = build_language_model(config, added_tokens=tokens)
    assert built.num_added == 0 and built.model.lm_head.out_features == len(tokenizer) == len(built.tokenizer)
    with pytest.raises(ValueError, match="in the vocabulary"):
        build_language_model(dataclasses.replace(config, has_added_tokens=False), added_tokens=tokens)
