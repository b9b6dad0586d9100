"""The contract: what every registered method has to pass, on tiny parts. It comes free with registration.

A check is a function below without its ``test_``. ``Method.exemptions`` may name a check with the reason why a method
cannot meet it; the check is then skipped, and the reason printed (``pytest -rs``).
"""

import copy
import dataclasses
import functools
import json
from pathlib import Path

import pytest
import torch
from tiny import COLOURS, conversation, image, picture

import methods
import zoo
from zoo.config import LoraConfig, TrainingConfig
from zoo.data.batch import pack, pack_rows, pad
from zoo.data.encode import stop_ids
from zoo.data.templates import get_template
from zoo.evaluation.runner import generate_answers, score_answers
from zoo.factory import build_model, build_on_meta
from zoo.registry import entry, get_method, list_methods, schema_errors
from zoo.run import RunConfig, resolve_run
from zoo.training.data import StepData
from zoo.training.loop import Trainer, train
from zoo.training.tuning import (
    LORA_MARK,
    lora_targets,
    merge_lora,
    prepare_adapters,
    rates,
    set_train_mode,
    set_trainable,
)
from zoo.weights import convert

TOLERANCE = 1e-5
MAX_LINES = 150


class Killed(Exception):
    """Stands for the end of the process."""


resolved = functools.cache(resolve_run)


@pytest.fixture(params=list_methods())
def config(request, tiny_setting):
    """The resolved run of one method under the tiny setting."""
    check = request.function.__name__.removeprefix("test_")
    config = resolved(request.param, tiny_setting)
    if reason := config.method.exemptions.get(check):
        pytest.skip(f"{request.param} is exempt from {check}: {reason}")
    # As in the setting's connectors: with dropout no two ways to the same step would agree.
    lora = dataclasses.replace(config.method.lora, dropout=0.0)
    return dataclasses.replace(config, method=dataclasses.replace(config.method, lora=lora))


def encode_all(model, samples, objective="language_modeling", **options):
    template = get_template(model.method.template)
    preprocessor = model.preprocessor(objective)
    return [preprocessor(sample, template, **options) for sample in samples]


def pad_id(model):
    return model.language_model.tokenizer.pad_token_id


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def part_of(key):
    return "language_model" if key == "added_tokens" else key.partition(".")[0]


def changed(before, after):
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


def metric_rows(out):
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


def test_forward_is_finite(config, samples):
    model = build_model(config.method)
    examples = encode_all(model, samples)
    for chosen in (examples, examples[2:3], examples[3:4]):  # all, without media, a video
        output = model(pad(chosen, pad_id=pad_id(model)))
        assert output.logits.isfinite().all() and output.loss_sum.isfinite() and output.loss_sum > 0
        is_decoder = not model.language_model.is_encoder_decoder
        longest = max(len(example) if is_decoder else len(example.target) for example in chosen)
        assert output.logits.shape[:2] == (len(chosen), longest)
        alone = model(pad(chosen, pad_id=pad_id(model)), with_logits=False).loss_sum
        assert alone.item() == pytest.approx(output.loss_sum.item(), rel=1e-5)
        assert output.num_supervised == sum(example.num_supervised for example in chosen)


def test_only_declared_parts_change(config, samples, tmp_path):
    for index, stage in enumerate(config.method.stages):
        method = dataclasses.replace(config.method, stages=(dataclasses.replace(stage, steps=1),))
        model = build_model(method)
        set_trainable(model, stage)
        set_train_mode(model)
        batch = pad(encode_all(model, samples, stage.objective), pad_id=pad_id(model))
        model(batch, objective=stage.objective).loss_sum.backward()
        # The last block of an encoder that is read before its end gets no gradient, nor does what stands behind it; a
        # parameter behind a closed gate gets zeros, and moves by its weight decay alone. Tied ones have several names.
        expected = {
            key
            for key, p in model.named_parameters(remove_duplicate=False)
            if p.grad is not None and (p.grad.any() or (rates(stage, key, p)[1] and p.any()))
        }
        assert all(stage.mode(key) == ("lora" if LORA_MARK in key else "full") for key in expected)
        declared = {part_of(key) for key, mode in stage.train.items() if mode != "frozen"}
        assert {key.split(".")[0] for key in expected} == declared
        untrained = build_model(method)
        prepare_adapters(untrained, method.stages, config.seed)
        before = weights(untrained)
        trained = train(dataclasses.replace(config, method=method), tmp_path / str(index), quiet=True)
        assert changed(before, weights(trained)) == expected


def test_overfits_four_samples_and_stops(config, tmp_path):
    # With an encoder the question is the same for all: the answer is in the image alone.
    blind = config.method.encoder is None
    records, asked = [], []
    for number, colour in enumerate(COLOURS):
        question = f"<image>\nWhat colour is square {number * blind}?"
        picture(colour, seed=number).save(tmp_path / f"{number}.png")
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": f"The square is {colour}."}]
        records.append({"id": colour, "image": f"{number}.png", "conversations": turns})
        asked.append(conversation(colour, [(question, "")], [image(colour, number)]))
    (tmp_path / "four.json").write_text(json.dumps(records))
    last = config.method.stages[-1]
    stage = dataclasses.replace(
        last,
        data=str(tmp_path / "four.json"),
        steps=70,
        batch=4,
        lr=1e-2,
        template=None,
        # Random weights cannot speak; whatever else the stage trains, a language model has to learn that here.
        train=dict(last.train) | {"language_model": "full"},
    )
    training = TrainingConfig(micro_batch=4, tensorboard=False)
    config = dataclasses.replace(config, method=dataclasses.replace(config.method, stages=(stage,)), training=training)
    model = train(config, tmp_path / "run", quiet=True)
    answers = generate_answers(
        model, encode_all(model, asked, generation=True), get_template(model.method.template), max_new_tokens=40
    )
    assert answers == [f"The square is {colour}." for colour in COLOURS]


@torch.no_grad()
def test_packed_equals_padded(config, samples):
    model = build_model(config.method)
    examples = encode_all(model, samples)
    rows = pack(examples, length=max(map(len, examples)) + 60)
    assert 1 < len(rows) < len(examples), "the lengths have to give rows of several samples"
    padded, packed = model(pad(examples, pad_id=pad_id(model))), model(pack_rows(rows, pad_id=pad_id(model)))
    assert packed.num_supervised == padded.num_supervised
    assert abs(packed.loss_sum - padded.loss_sum) < TOLERANCE * padded.num_supervised
    place = {example.sample_id: number for number, example in enumerate(examples)}
    for row, logits in zip(rows, packed.logits):
        start = 0
        for example in row:
            alone = padded.logits[place[example.sample_id], : len(example)]
            assert (logits[start : start + len(example)] - alone).abs().max() < TOLERANCE
            start += len(example)


@torch.no_grad()
def test_batched_equals_single(config, samples):
    model = build_model(config.method)
    template = get_template(config.method.template)
    ends = stop_ids(template, model.language_model.tokenizer)
    prompts = encode_all(model, samples, generation=True)

    def generate(chosen):
        batch = pad(chosen, pad_id=pad_id(model), side="left")
        return model.generate(batch, max_new_tokens=6, stop_ids=ends)

    together = generate(prompts)
    assert len({tuple(ids) for ids in together}) > 1, "the answers have to differ to show a mix-up"
    assert together == [generate([prompt])[0] for prompt in prompts]
    examples = encode_all(model, samples)
    singles = [score_answers(model, [example])[0] for example in examples]
    assert score_answers(model, examples) == pytest.approx(singles, abs=1e-4)
    assert len(set(singles)) == len(singles)


class Recorder:
    """An optimizer that keeps the gradients and changes nothing."""

    def __init__(self, model):
        self.parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
        self.param_groups = [{"params": list(self.parameters.values())}]
        self.gradients = {}

    def step(self):
        self.gradients = {key: p.grad.clone() for key, p in self.parameters.items() if p.grad is not None}

    def zero_grad(self):
        for parameter in self.parameters.values():
            parameter.grad = None


def one_step(config, samples, tmp_path, **training):
    """Loss and gradients of one step of the loop over all samples."""
    stage = dataclasses.replace(config.method.stages[-1], clip=0.0)
    settings = TrainingConfig(tensorboard=False, **training)
    trainer = Trainer(dataclasses.replace(config, training=settings), tmp_path, quiet=True)
    model = build_model(config.method)
    set_trainable(model, stage)
    set_train_mode(model)
    template = get_template(stage.template or config.method.template)
    data = StepData(
        samples, stage=stage, training=settings, preprocessor=model.preprocessor(), template=template, seed=0
    )
    batches, silent = data.assemble(samples)
    recorder = Recorder(model)
    row = trainer._step(model, recorder, batches, silent, stage)
    return len(batches), row["loss"], recorder.gradients


def check_same_step(first, second):
    assert second[1] == pytest.approx(first[1], rel=5e-7)  # a few steps of float32
    assert first[2].keys() == second[2].keys()
    scale = max(float(gradient.abs().max()) for gradient in first[2].values())
    assert scale > 1e-3
    for key, gradient in first[2].items():
        # Where a stage trains little, gradients are small, and so is what may differ.
        assert (gradient - second[2][key]).abs().max() < TOLERANCE * min(1.0, scale / 1e-2), key


def test_accumulated_equals_whole(config, samples, tmp_path):
    whole = one_step(config, samples, tmp_path, micro_batch=8)
    for size in (4, 1):
        accumulated = one_step(config, samples, tmp_path, micro_batch=size)
        assert accumulated[0] == 8 // size
        check_same_step(whole, accumulated)


def test_grouped_by_length_equals_plain(config, samples, tmp_path):
    plain = one_step(config, samples, tmp_path, micro_batch=2)
    check_same_step(plain, one_step(config, samples, tmp_path, micro_batch=2, group_by_length=True))
    if "packed_equals_padded" not in config.method.exemptions:
        check_same_step(plain, one_step(config, samples, tmp_path, micro_batch=2, packing=True))


@pytest.mark.parametrize("mode", ["as_declared", "lora"])
def test_resumed_equals_uninterrupted(config, mode, tmp_path):
    if mode == "lora":
        parts = {key.split(".")[0] for key, p in build_model(config.method).named_parameters()}
        stages = tuple(
            dataclasses.replace(
                stage, train={key: "lora" for key in map(part_of, stage.train) if key in parts} | lora_encoder
            )
            for stage in config.method.stages
            for lora_encoder in [{"encoder": "lora"} if "encoder" in parts else {}]
        )
        lora = LoraConfig(rank=2, alpha=4.0, dropout=0.3)
        config = dataclasses.replace(config, method=dataclasses.replace(config.method, stages=stages, lora=lora))
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, save_every=2))
    expected = train(config, tmp_path / "whole", quiet=True)
    # Before the first checkpoint of a stage, and one step after it.
    for stage in config.method.stages:
        for step in (1, 3):

            def kill(row, stage=stage.name, step=step):
                if (row["stage"], row["step"]) == (stage, step):
                    raise Killed

            with pytest.raises(Killed):
                train(config, tmp_path / "killed", resume=True, quiet=True, on_step=kill)
    resumed = train(config, tmp_path / "killed", resume=True, quiet=True)
    assert not changed(weights(expected), weights(resumed))
    assert metric_rows(tmp_path / "killed") == metric_rows(tmp_path / "whole")
    assert not changed(weights(expected), weights(zoo.load(tmp_path / "killed")))


@torch.no_grad()
def test_merged_adapters_equal_adapters(config, samples):
    model = build_model(config.method)
    batch = pad(encode_all(model, samples), pad_id=pad_id(model))
    plain, plain_weights = model(batch).logits, weights(model)
    adapted = {name: "lora" for name, module in model.parts() if lora_targets(module)}
    stage = dataclasses.replace(config.method.stages[-1], train=adapted)
    prepare_adapters(model, [stage])
    generator = torch.Generator().manual_seed(0)
    for key, parameter in model.named_parameters():
        if LORA_MARK in key:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    with_adapters = model(batch).logits
    for _, module in model.parts():
        merge_lora(module)
    assert (model(batch).logits - with_adapters).abs().max() < TOLERANCE
    assert (plain - with_adapters).abs().max() > 100 * TOLERANCE
    assert weights(model).keys() == plain_weights.keys()
    touched = {key.split(".")[0] for key in changed(plain_weights, weights(model))}
    assert touched == set(adapted)


def test_released_layouts_convert_both_ways(config):
    name = config.method.name
    # Published sizes on the meta device have every key; the tiny model has values, so that a mix-up shows.
    published = build_on_meta(get_method(name)).state_dict()
    tiny = build_model(config.method).state_dict()
    for layout in sorted({row["layout"] for row in entry(name)["weights"]}):
        for state in (published, tiny):
            released = convert(state, layout, "from_canonical")
            again = convert(released, layout, "to_canonical")
            assert again.keys() == state.keys()
            assert all(again[key] is state[key] for key in state)
            assert released.keys() != state.keys()


def test_registry_entry_is_complete(config):
    name = config.method.name
    assert schema_errors(name, entry(name)) == []
    file = Path(methods.__path__[0]) / f"{entry(name)['module']}.py"
    assert len(file.read_text().splitlines()) < MAX_LINES
    published = get_method(name)
    assert published.name == name
    assert published == copy.deepcopy(published) and isinstance(config, RunConfig)
    checks = {key.removeprefix("test_") for key in globals() if key.startswith("test_")}
    assert set(published.exemptions) <= checks
    assert all(reason.strip() for reason in published.exemptions.values())
    for stage in published.stages:
        get_template(stage.template or published.template)
