"""Overrides, settings and saved configs: exact, typed, and with the nearest match of what is misspelt."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from zoo.config import (
    LoraConfig,
    Stage,
    TrainingConfig,
    differences,
    from_dict,
    override,
    read_yaml,
    save_yaml,
    to_dict,
)
from zoo.connectors import MLP, Linear
from zoo.definition import EvaluationSetting, Method, Setting, get_setting, list_settings
from zoo.encoders import EncoderConfig
from zoo.errors import ZooError
from zoo.factory import configure
from zoo.fusion import Splice
from zoo.language import LanguageModelConfig
from zoo.registry import get_method, list_methods
from zoo.run import RunConfig, load_run, resolve_run, save_run
from zoo.training.loop import train


def get(config, path):
    for key in path.split("."):
        if isinstance(config, dict):
            config = config.get(key)
        else:
            config = config[int(key)] if key.isdigit() else getattr(config, key)
    return config


VALUES = [
    ("seed=7", "seed", 7),
    ("training.micro_batch=3", "training.micro_batch", 3),
    ("training.packing=true", "training.packing", True),
    ("training.precision=bf16", "training.precision", "bf16"),
    ("template=plain", "method.template", "plain"),
    ("connector.depth=3", "method.connector.depth", 3),
    ("method.connector.depth=3", "method.connector.depth", 3),
    ("encoder.id=clip-vit-l-224", "method.encoder.id", "clip-vit-l-224"),
    ("encoder.layers=[-2,-5]", "method.encoder.layers", (-2, -5)),
    ("encoder.mean=[0.5,0.5,0.5]", "method.encoder.mean", (0.5, 0.5, 0.5)),
    ("encoder.image_size=null", "method.encoder.image_size", None),
    ("language_model.id=own/model", "method.language_model.id", "own/model"),
    ("language_model.architecture.model_type=llama", "method.language_model.architecture", {"model_type": "llama"}),
    ("stages.align.lr=1e-4", "method.stages.0.lr", 1e-4),
    ("stages.1.steps=12", "method.stages.1.steps", 12),
    ("stages.instruct.steps=12", "method.stages.1.steps", 12),
    ("stages.instruct.betas=[0.9,0.95]", "method.stages.1.betas", (0.9, 0.95)),
    ("stages.instruct.template=null", "method.stages.1.template", None),
    ("stages.instruct.train.language_model=lora", "method.stages.1.train.language_model", "lora"),
    ("stages.instruct.train.encoder=full", "method.stages.1.train.encoder", "full"),
    ("stages.instruct.part_lr.connector=0.5", "method.stages.1.part_lr", {"connector": 0.5}),
    (
        "stages.align.data=scenes:caption?num_samples=20&seed=1",
        "method.stages.0.data",
        "scenes:caption?num_samples=20&seed=1",
    ),
    ("stages.instruct.train={connector: lora}", "method.stages.1.train", {"connector": "lora"}),
    ("added_tokens=[<region>]", "method.added_tokens", ("<region>",)),
    ("lora.rank=4", "method.lora.rank", 4),
    ("connector=linear", "method.connector", Linear()),
    ("method.connector=linear", "method.connector", Linear()),
    ("connector.kind=linear", "method.connector", Linear()),
    ("connector={kind: mlp, depth: 4}", "method.connector", MLP(depth=4)),
    ("fusion=splice", "method.fusion", Splice()),
]


@pytest.mark.parametrize(("text", "path", "value"), VALUES, ids=[text for text, *_ in VALUES])
def test_override_sets_one_value(text, path, value):
    plain, config = resolve_run("llava-1.5"), resolve_run("llava-1.5", overrides=[text])
    assert get(config, path) == value and type(get(config, path)) is type(value)
    key = path.replace("method.stages.0", "method.stages.align").replace("method.stages.1", "method.stages.instruct")
    changed = [name for name, *_ in differences(to_dict(plain), to_dict(config))]
    assert all(name.startswith(key) for name in changed)
    assert bool(changed) == (get(plain, path) != value)
    # Every override can be saved and read back.
    assert from_dict(RunConfig, to_dict(config)) == config


ERRORS = [
    ("sede=7", "unknown key 'sede'. Did you mean 'seed'?"),
    ("conector.depth=3", "unknown key 'conector.depth'. Did you mean 'connector'?"),
    ("connector.dept=3", "unknown key 'method.connector.dept': no field 'dept'. Did you mean 'depth'?"),
    ("connector.depth.x=3", "'x' lies below a plain value"),
    ("stages.aling.lr=1", "no entry 'aling'. Did you mean 'align'?"),
    ("stages.2.lr=1", "no entry '2'. Known: align, instruct."),
    ("stages.align.rl=1", "no field 'rl'. Did you mean 'lr'?"),
    ("training.micro_bach=1", "Did you mean 'micro_batch'?"),
    ("connector=mpl", "method.connector: unknown kind 'mpl'. Did you mean 'mlp'?"),
    ("connector.kind=mpl", "method.connector: unknown kind 'mpl'. Did you mean 'mlp'?"),
    ("connector={kind: mlp, dept: 4}", "unknown key 'method.connector.dept'. Did you mean 'depth'?"),
    ("connector.depth=three", "connector.depth=three"),
    ("seed=1.5", "seed=1.5"),
    ("training.packing=maybe", "training.packing=maybe"),
    ("stages.align.lr=fast", "stages.align.lr=fast"),
    ("stages.align.train.encoder=ful", "encoder cannot be 'ful'. Did you mean 'full'?"),
    ("stages.align.train.encodr=full", "unknown part 'encodr' in train. Did you mean 'encoder'?"),
    ("stages.align.part_lr.encodr=1", "unknown part 'encodr' in part_lr. Did you mean 'encoder'?"),
    ("stages.align.batch=0", "batch is 0; it counts samples per step, at least 1"),
    ("connector.depth", "override 'connector.depth' has no '='; write key=value"),
    ("encoder.id.x=3", "'x' lies below a plain value"),
    ("stages.align.data=${home}", "stages.align.data=${home}: Interpolation key 'home' not found"),
    ("encoder=null", "an encoder needs a connector"),
    ("seed={a: [", "seed={a: ["),
]


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[text for text, _ in ERRORS])
def test_bad_override_is_one_line_with_the_nearest_match(text, message):
    with pytest.raises(ZooError, match=re.escape(message)) as caught:
        resolve_run("llava-1.5", overrides=[text])
    assert "\n" not in str(caught.value)


def test_encoder_and_connector_can_be_taken_away_together():
    config = resolve_run("llava-1.5", overrides=["encoder=null", "connector=null"])
    assert config.method.encoder is None and config.method.connector is None
    assert from_dict(RunConfig, to_dict(config)) == config


def test_part_that_is_not_there_has_no_fields():
    with pytest.raises(ZooError, match=r"'method\.encoder\.id': 'id' lies below a part that is not there"):
        resolve_run("blind", overrides=["encoder.id=clip-vit-l-224"])


def test_kind_in_use_keeps_its_fields():
    assert resolve_run("llava-1.5", overrides=["connector.depth=3", "connector.kind=mlp"]).method.connector == MLP(
        depth=3
    )


def test_overrides_as_a_mapping():
    config = configure(
        "llava-1.5", None, {"connector": MLP(depth=5), "stages.align.lr": 0.5, "lora": LoraConfig(rank=3)}
    )
    assert config.connector == MLP(depth=5) and config.stages[0].lr == 0.5 and config.lora.rank == 3
    assert config.stages[1] == get_method("llava-1.5").stages[1]


@pytest.mark.parametrize("name", list_methods())
def test_resolved_config_is_saved_and_read_back_equal(name, tiny_setting, tmp_path):
    last = get_method(name).stages[-1].name
    for setting in (None, tiny_setting):
        config = resolve_run(name, setting, ["seed=3", f"stages.{last}.lr=1e-7"])
        assert config.method.stages[-1].lr == 1e-7
        save_run(config, tmp_path)
        again = load_run(tmp_path)
        assert again == config and (again.setting, again.overrode) == (setting, config.overrode)
    assert load_run(tmp_path / "config.yaml") == again


def test_running_a_saved_config_repeats_the_run(tiny_setting, tmp_path):
    config = resolve_run("llava-1.5", tiny_setting, ["stages.align.steps=1", "stages.instruct.steps=1", "seed=4"])
    first = train(config, tmp_path / "first", quiet=True).state_dict()
    second = train(load_run(tmp_path / "first"), tmp_path / "second", quiet=True).state_dict()
    assert all((first[key] == second[key]).all() for key in first)


def test_saved_config_of_an_unknown_method_or_key_is_refused(tmp_path):
    config = to_dict(resolve_run("llava-1.5"))
    for change, message in (
        ({"method": config["method"] | {"name": "llava-15"}}, "unknown method 'llava-15'. Did you mean 'llava-1.5'?"),
        ({"method": config["method"] | {"conector": None}}, "unknown key 'method.conector'. Did you mean 'connector'?"),
        ({"sede": 1}, "unknown key 'sede'. Did you mean 'seed'?"),
        ({"seed": "one"}, "seed"),
        ({"training": {"micro_batch": "many"}}, "micro_batch"),
        ({"method": config["method"] | {"encoder": "clip"}}, "encoder"),
        ({"method": config["method"] | {"stages": [{"name": "align"}]}}, "stages.0"),
    ):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | change))
        with pytest.raises(ZooError, match=re.escape(message)) as caught:
            load_run(tmp_path)
        assert "\n" not in str(caught.value)


def test_bad_yaml_is_named(tmp_path):
    file = tmp_path / "config.yaml"
    with pytest.raises(ZooError, match="no such file"):
        read_yaml(file)
    file.write_text("a: [1\nb: 2")
    with pytest.raises(ZooError, match=r"config\.yaml is not valid YAML") as caught:
        read_yaml(file)
    assert "\n" not in str(caught.value)
    file.write_text("- 1\n- 2\n")
    with pytest.raises(ZooError, match="holds no mapping"):
        read_yaml(file)


def test_saving_and_reading_keeps_special_texts(tmp_path):
    # Hashes that look like numbers come back as text.
    stage = Stage("a", template="12e45", data="scenes:caption?a=1&b=: #c", train={"connector": "full"}, lr=1e-5)
    save_yaml(stage, tmp_path / "stage.yaml")
    assert from_dict(Stage, read_yaml(tmp_path / "stage.yaml")) == stage


def setting(**fields):
    evaluation = EvaluationSetting(tasks=("existence",), num_items=4)
    stages = {"align": {"steps": 2, "lr": 0.5}, "instruct": {"steps": 3}}
    return Setting(**{"name": "own", "stages": stages, "evaluation": evaluation} | fields)


class TestUnder:
    def test_exactly_what_is_fixed_is_replaced_and_listed(self):
        published = get_method("llava-1.5")
        method, overrode = published.under(
            setting(encoder={"id": "own/encoder", "layer": -2}, language_model={"id": "own/lm"})
        )
        found = {key: (old, new) for key, old, new in differences(to_dict(published), to_dict(method))}
        assert found == {
            "encoder.id": ("clip-vit-l-336", "own/encoder"),
            "language_model.id": ("vicuna-7b-v1.5", "own/lm"),
            "stages.align.lr": (1e-3, 0.5),
            "stages.align.steps": (None, 2),
            "stages.instruct.steps": (None, 3),
        }
        assert sorted(overrode) == [f"{key}: {old} -> {new}" for key, (old, new) in found.items()]

    def test_nothing_fixed_nothing_replaced(self):
        published = dataclasses.replace(
            get_method("llava-1.5"),
            encoder=EncoderConfig(id="a/b", revision="r1"),
            language_model=LanguageModelConfig(id="c/d", revision="r2"),
        )
        assert published.under(setting(stages={"align": {}, "instruct": {}})) == (published, [])

    def test_what_belongs_to_the_replaced_part_goes_with_it(self):
        published = dataclasses.replace(
            get_method("llava-1.5"),
            encoder=EncoderConfig(id="a/b", revision="r1"),
            language_model=LanguageModelConfig(id="c/d", revision="r2", tokenizer="e/f"),
        )
        method, _ = published.under(
            setting(encoder={"id": "own/encoder"}, language_model={"architecture": {"model_type": "llama"}})
        )
        assert method.encoder == EncoderConfig(id="own/encoder")
        assert method.language_model == LanguageModelConfig(architecture={"model_type": "llama"})

    def test_equal_values_are_no_override(self):
        stages = {"align": {"betas": [0.9, 0.999], "batch": 256}, "instruct": {}}
        published = get_method("llava-1.5")
        assert published.under(setting(stages=stages)) == (published, [])

    def test_blind_method_takes_no_encoder(self):
        method, overrode = get_method("blind").under(setting(encoder={"id": "own/encoder"}))
        assert method.encoder is None and not any("encoder" in line for line in overrode)

    def test_stage_without_budget_is_refused(self):
        with pytest.raises(ZooError, match=r"no budget for stage 'instruct' of llava-1\.5; it has align"):
            get_method("llava-1.5").under(setting(stages={"align": {}}))

    def test_value_of_the_wrong_type_is_refused(self):
        with pytest.raises(ZooError, match="steps"):
            get_method("llava-1.5").under(setting(stages={"align": {"steps": "two"}, "instruct": {}}))


class TestSettings:
    def write(self, tmp_path, **fields):
        values = {"evaluation": {"tasks": ["existence"], "num_items": 4}} | fields
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
        return str(tmp_path / "own.yaml")

    def test_file_is_read_and_named_after_itself(self, tmp_path):
        read = get_setting(self.write(tmp_path, seeds=[4, 5]))
        assert (read.name, read.seeds, read.evaluation.tasks) == ("own", (4, 5), ("existence",))

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"encodr": {}}, "unknown key 'encodr'. Did you mean 'encoder'?"),
            ({"encoder": {"layr": 1}}, "'layr'. Did you mean 'layer'?"),
            ({"language_model": {"idd": 1}}, "'idd'. Did you mean 'id'?"),
            ({"stages": {"align": {"step": 1}}}, "'step'. Did you mean 'steps'?"),
            ({"stages": {"align": None}}, "align"),
            ({"training": {"micro_bach": 1}}, "Did you mean 'micro_batch'?"),
            ({"evaluation": {"num_items": 4}}, "evaluation"),
            ({"seeds": ["first"]}, "seeds"),
        ],
    )
    def test_bad_setting_is_refused(self, tmp_path, fields, message):
        with pytest.raises(ZooError, match=re.escape(message)) as caught:
            resolve_run("llava-1.5", self.write(tmp_path, **fields))
        assert "\n" not in str(caught.value)

    def test_setting_holds_what_differs_from_its_base(self, tmp_path):
        base = get_setting("scenes-tiny")
        read = get_setting(self.write(tmp_path, base="scenes-tiny", stages={"align": {"steps": 7}}, seeds=[4]))
        assert read.stages["align"] == base.stages["align"] | {"steps": 7}
        assert (read.stages["instruct"], read.seeds) == (base.stages["instruct"], (4,))
        assert read.evaluation.tasks == ("existence",) and read.encoder == base.encoder

    def test_setting_cannot_be_its_own_base(self, tmp_path):
        path = str(tmp_path / "own.yaml")
        with pytest.raises(ZooError, match="is its own base"):
            get_setting(self.write(tmp_path, base=path))

    def test_unknown_setting_names_the_nearest(self):
        with pytest.raises(ZooError, match=r"unknown setting 'scenes-tini'\. Did you mean 'scenes-tiny'\?"):
            get_setting("scenes-tini")

    @pytest.mark.parametrize("name", list_settings())
    def test_shipped_settings_fit_every_method_with_their_stages(self, name):
        fixed = get_setting(name)
        for method in list_methods():
            if {stage.name for stage in get_method(method).stages} <= fixed.stages.keys():
                config = resolve_run(method, name)
                assert isinstance(config.method, Method) and config.evaluation == fixed.evaluation
        assert not any(Path(str(part.get("id", ""))).is_absolute() for part in (fixed.encoder, fixed.language_model))


class TestData:
    def test_data_of_every_stage_or_of_one(self):
        config = resolve_run("llava-1.5", data={"*": "a.json"}, media_root="images")
        assert [(s.data, s.media_root) for s in config.method.stages] == [("a.json", "images")] * 2
        config = resolve_run("llava-1.5", data={"instruct": "a.json"})
        assert [s.data for s in config.method.stages] == ["llava-558k", "a.json"]

    def test_unknown_stage_names_the_nearest(self):
        with pytest.raises(ZooError, match=r"llava-1\.5 has no stage 'instrct'\. Did you mean 'instruct'\?"):
            resolve_run("llava-1.5", data={"instrct": "a.json"})


def test_method_needs_both_encoder_and_connector():
    with pytest.raises(ZooError, match="give both or neither"):
        dataclasses.replace(get_method("llava-1.5"), connector=None)


def test_configs_cannot_be_changed_in_place():
    config = override(TrainingConfig(), ["micro_batch=2"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.micro_batch = 3
