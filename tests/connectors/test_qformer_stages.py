"""What a Q-Former is given in a model: the users' text to read, or the answers to learn in BLIP-2's first stage."""

import pytest
import torch
from tiny import conversation, image

from zoo.config import Stage
from zoo.data.batch import pad
from zoo.data.templates import get_template
from zoo.errors import ZooError
from zoo.factory import build_model, configure

ASKED = conversation("asked", [("<image>\nWhat is it?", "A red square.")], [image("red")])
TOLD = conversation("told", [("<image>\nWhat?", "Nothing at all, and more of that.")], [image("blue")])
SILENT = conversation("silent", [("Is water wet?", "Yes.")])


def batch_of(model, samples, objective="language_modeling"):
    preprocessor = model.preprocessor(objective)
    return pad([preprocessor(sample, get_template(model.method.template)) for sample in samples])


def texts(model, batch):
    rows = zip(batch.instruction_ids, batch.instruction_mask)
    return [model.instruction_tokenizer.decode(ids[mask]) for ids, mask in rows]


def test_the_instruction_is_what_the_user_says(tiny_setting):
    model = build_model(configure("instructblip", tiny_setting))
    assert texts(model, batch_of(model, [ASKED, SILENT, TOLD])) == ["What is it?", "What?"]
    assert batch_of(model, [SILENT]).instruction_ids is None


def test_the_first_stage_learns_the_answers_behind_a_mark(tiny_setting):
    model = build_model(configure("blip2", tiny_setting, {"connector.max_instruction_length": 4}))
    batch = batch_of(model, [ASKED, TOLD], "connector")
    assert texts(model, batch) == ["<s>A red", "<s>Not"]
    assert batch_of(model, [ASKED]).instruction_ids is None


def test_the_weight_of_a_micro_batch_is_its_supervised_tokens(tiny_setting):
    model = build_model(configure("blip2", tiny_setting))
    batch = batch_of(model, [ASKED, TOLD], "connector")
    torch.manual_seed(0)
    output = model(batch, objective="connector")
    torch.manual_seed(0)
    losses = model.connector.loss(*model._media(batch))
    assert output.logits is None
    assert output.loss_sum.item() == pytest.approx(losses.item() * batch.num_supervised)
    without_media = model(batch_of(model, [SILENT], "connector"), objective="connector")
    assert without_media.loss_sum.item() == 0.0 and without_media.loss_sum.requires_grad


def test_unknown_objectives_and_connectors_without_one_are_refused(tiny_setting):
    with pytest.raises(ZooError, match=r"unknown objective .conector.\. Did you mean .connector."):
        Stage("s", data="d", train={"connector": "full"}, lr=1.0, objective="conector")
    model = build_model(configure("llava-1.5", tiny_setting))
    with pytest.raises(ZooError, match="no objective of its own"):
        model(batch_of(model, [ASKED]), objective="connector")
