"""What a stage trains: groups of the optimizer, modes of the parts, adapters, the printed table."""

import dataclasses

import pytest
import torch
from torch import nn

from zoo.config import LoraConfig, Stage
from zoo.data.batch import pad
from zoo.data.templates import get_template
from zoo.errors import ZooError
from zoo.factory import build_model, configure
from zoo.training.checkpoint import trained_parameters
from zoo.training.tuning import (
    LORA_MARK,
    add_lora,
    has_adapter,
    lora_targets,
    merge_lora,
    parameter_groups,
    part_table,
    prepare_adapters,
    render_part_table,
    set_train_mode,
    set_trainable,
)


@pytest.fixture
def method(tiny_setting):
    method = configure("llava-1.5", tiny_setting)
    return dataclasses.replace(method, lora=LoraConfig(rank=2, alpha=4.0, dropout=0.5))


@pytest.fixture
def model(method):
    return build_model(method)


def stage(lr=1.0, **fields):
    return Stage("align", **{"data": "", "train": {"connector": "full"}, "lr": lr} | fields)


EVERYTHING = {"encoder": "full", "connector": "full", "language_model": "full"}


def test_norms_and_biases_are_not_decayed_and_parts_have_their_rate(model):
    chosen = stage(train=EVERYTHING, part_lr={"encoder": 0.1}, weight_decay=0.25)
    set_trainable(model, chosen)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    seen = []
    for group in parameter_groups(model, chosen):
        for parameter in group["params"]:
            key = names[id(parameter)]
            seen.append(key)
            assert key.split(".")[0] == group["name"]
            assert group["lr"] == (0.1 if group["name"] == "encoder" else 1.0)
            exempt = key.endswith("bias") or "norm" in key or "class_embedding" in key
            assert group["weight_decay"] == (0.0 if exempt else 0.25), key
    assert sorted(seen) == sorted(names.values())


def test_only_trained_parameters_are_in_groups(model):
    set_trainable(model, stage())
    grouped = [parameter for group in parameter_groups(model, stage()) for parameter in group["params"]]
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in model.connector.parameters()}


@pytest.mark.parametrize("mode", ["frozen", "full", "lora"])
def test_modes_of_a_part(model, mode):
    chosen = stage(train={"connector": "full", "language_model": mode})
    set_trainable(model, chosen)
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    language_model = {f"language_model.{key}" for key, _ in model.language_model.named_parameters()}
    adapters = {key for key in language_model if LORA_MARK in key}
    assert bool(adapters) == (mode == "lora")
    assert trained - language_model == {f"connector.{key}" for key, _ in model.connector.named_parameters()}
    assert trained & language_model == {"frozen": set(), "full": language_model, "lora": adapters}[mode]
    assert trained_parameters(model, [chosen]).keys() == trained


def test_frozen_parts_are_in_evaluation_mode(model):
    set_trainable(model, stage(train={"language_model": "lora"}))
    set_train_mode(model)
    assert not any(module.training for module in (*model.encoder.modules(), *model.connector.modules()))
    assert all(module.training for module in model.language_model.modules())


def test_dropout_is_active_only_while_training(model, samples):
    template, preprocessor = get_template("vicuna_v1"), model.preprocessor()
    batch = pad([preprocessor(sample, template) for sample in samples[:2]])
    set_trainable(model, stage(train={"language_model": "lora"}))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
        plain = model(batch).logits
        assert torch.equal(model(batch).logits, plain), "adapters added to a model in evaluation had active dropout"
        set_train_mode(model)
        assert not torch.equal(model(batch).logits, model(batch).logits)
        assert torch.equal(model.eval()(batch).logits, plain)


def test_adapters_land_on_every_linear_layer_but_the_head(model):
    linear = {name for name, module in model.language_model.named_modules() if isinstance(module, nn.Linear)}
    assert linear - set(lora_targets(model.language_model)) == {"model.lm_head"}
    assert len(lora_targets(model.language_model)) == 2 * 7
    prepare_adapters(model, [stage(train={"language_model": "lora"})])
    assert has_adapter(model.language_model) and not has_adapter(model.encoder) and not has_adapter(model.connector)
    adapted = {key.split(".lora_A")[0] for key, _ in model.language_model.named_parameters() if "lora_A" in key}
    assert adapted == linear - {"model.lm_head"}


def test_same_seed_gives_the_same_adapters(method):
    chosen = [stage(train={"language_model": "lora", "connector": "lora"})]
    models = [build_model(method) for _ in range(3)]
    for model, seed in zip(models, (4, 4, 5)):
        torch.rand(seed)
        prepare_adapters(model, chosen, seed)
    first, second, other = ({k: v for k, v in m.state_dict().items() if "lora_A" in k} for m in models)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)
    prepare_adapters(models[0], chosen, 9)
    assert all(torch.equal(first[key], value) for key, value in models[0].state_dict().items() if "lora_A" in key)


def test_adapter_is_the_formula_of_its_config():
    part = nn.Sequential(nn.Linear(6, 5)).eval()
    plain = part[0]
    add_lora(part, LoraConfig(rank=2, alpha=6.0, dropout=0.5))
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    a, b = part[0].lora_A["default"].weight, part[0].lora_B["default"].weight
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    expected = plain(x) if not has_adapter(part) else part[0].base_layer(x) + 6.0 / 2 * (x @ a.T @ b.T)
    assert torch.allclose(part(x), expected, atol=1e-6)
    merge_lora(part)
    assert isinstance(part[0], nn.Linear) and torch.allclose(part(x), expected, atol=1e-5)


def test_part_without_linear_layer_takes_no_adapter():
    with pytest.raises(ZooError, match="no linear layer"):
        add_lora(nn.Sequential(nn.LayerNorm(4)), LoraConfig())


def test_stage_that_trains_nothing_is_refused(tiny_setting):
    blind = build_model(configure("blind", tiny_setting))
    with pytest.raises(ZooError, match=r"'align' trains nothing: .*connector.* blind"):
        set_trainable(blind, stage())


def test_table_counts_parts(model):
    chosen = stage(train={"connector": "full", "language_model": "lora"}, part_lr={"connector": 0.5}, lr=2e-5)
    set_trainable(model, chosen)
    rows = {row[0]: row[1:] for row in part_table(model, chosen)}
    assert list(rows) == ["encoder", "connector", "fusion", "language_model"]
    for name, module in model.parts():
        assert rows[name][1] == sum(parameter.numel() for parameter in module.parameters())
    # Rank 2 on q, o (32 x 32), k, v (32 x 16), gate, up, down (32 x 64) of two layers.
    adapters = 2 * 2 * (2 * 64 + 2 * 48 + 3 * 96)
    assert rows["encoder"][2:] == (0, 0.0) and rows["connector"][2:] == (32 * 32 * 2 + 32 * 2, 0.5)
    assert rows["language_model"][0] == "lora" and rows["language_model"][2:] == (adapters, 2e-5)
    lines = render_part_table(model, chosen).splitlines()
    assert lines[0] == "stage align"
    assert lines[1].split() == ["part", "mode", "parameters", "trainable", "lr"]
    assert lines[3].split() == ["connector", "full", "2,112", "2,112", "0.5"]
    assert lines[5].split()[0::3] == ["language_model", f"{adapters:,}"]
    assert lines[2].split()[-2:] == ["0", "-"]
