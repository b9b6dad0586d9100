"""LoRA adapters of a run: read by peft onto the plain base with equal logits, or merged into the weights for good."""

import dataclasses

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, CLIPVisionModel, LlavaForConditionalGeneration

import zoo
from zoo import cli
from zoo.data.batch import pad
from zoo.data.templates import get_template
from zoo.errors import ZooError
from zoo.run import load_run
from zoo.weights.adapters import merge_run, save_adapters

LORA = {"lora": zoo.LoraConfig(rank=2, alpha=6.0, dropout=0.1)}


def trained(name, tiny_setting, out, **train):
    """A run whose last stage trains these parts; adapters far enough from zero to show."""
    overrides = LORA | {"stages.instruct.train": train, "stages.instruct.lr": 0.05}
    zoo.train(name, out, tiny_setting, quiet=True, **{key: as_text(value) for key, value in overrides.items()})
    return out


def as_text(value):
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    return "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}" if isinstance(value, dict) else value


@pytest.fixture(scope="module")
def run(tiny_setting, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "run"
    return trained("llava-1.5", tiny_setting, folder, connector="full", encoder="lora", language_model="lora")


@torch.no_grad()
def logits(model, samples):
    template, preprocess = get_template(model.method.template), model.preprocessor()
    return model(pad([preprocess(sample, template) for sample in samples], pad_id=0)).logits


@torch.no_grad()
def test_peft_reads_the_adapters_onto_the_plain_bases(run, tiny_parts, tmp_path, capsys):
    assert cli.main(["export", str(run), str(tmp_path), "--layout", "peft"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "encoder"), str(tmp_path / "language_model")]
    model = zoo.load(run)
    ids = torch.arange(5, 60)[None]
    base = AutoModelForCausalLM.from_pretrained(tiny_parts / "language_model").eval()
    plain = base(ids).logits
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "language_model").eval()
    ours = model.language_model.model(ids).logits
    assert (adapted(ids).logits - ours).abs().max() < 1e-5 and (plain - ours).abs().max() > 1e-2
    assert (adapted.merge_and_unload()(ids).logits - ours).abs().max() < 1e-5
    assert adapted.peft_config["default"].base_model_name_or_path == str(tiny_parts / "language_model")

    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tower = CLIPVisionModel.from_pretrained(tiny_parts / "encoder").eval()
    plain = tower(pixels).last_hidden_state
    tower = peft.PeftModel.from_pretrained(tower, tmp_path / "encoder").eval()
    ours = model.encoder.model(pixels).last_hidden_state
    assert (tower(pixels).last_hidden_state - ours).abs().max() < 1e-5 and (plain - ours).abs().max() > 1e-2


def test_a_merged_run_is_a_plain_one(run, samples, tmp_path, capsys):
    assert cli.main(["merge", str(run), str(tmp_path / "merged")]) == 0
    wanted = logits(zoo.load(run), samples[:3])
    merged = zoo.load(tmp_path / "merged")
    assert not any("lora" in key for key in merged.state_dict())
    assert (logits(merged, samples[:3]) - wanted).abs().max() < 1e-5
    assert not any("lora" in key for key in load_file(tmp_path / "merged" / "trained.safetensors"))
    config = load_run(tmp_path / "merged")
    assert config.merged == ("encoder", "language_model")
    assert config.method.stages[-1].train["language_model"] == "lora"  # what was trained stays said
    with pytest.raises(ZooError, match="as it would be merged"):
        merge_run(tmp_path / "merged", tmp_path / "again")


@torch.no_grad()
def test_export_merges(run, tmp_path):
    assert cli.main(["export", str(run), str(tmp_path / "llava")]) == 0
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "llava").eval()
    model = zoo.load(run)
    ids = torch.arange(5, 60)[None]
    ours = model.language_model.model(ids).logits
    assert (again(input_ids=ids).logits[..., : ours.shape[-1]] - ours).abs().max() < 1e-5


def test_what_an_adapter_would_not_hold_is_said(run, tiny_setting, tmp_path):
    with pytest.raises(ZooError, match="no LoRA adapters; train a part with lora"):
        save_adapters(zoo.build("llava-1.5", tiny_setting), tmp_path)
    with pytest.raises(ZooError, match="has rows for added tokens"):
        folder = trained("openflamingo", tiny_setting, tmp_path / "rows", language_model="lora", fusion="full")
        save_adapters(zoo.load(folder), tmp_path)
    with pytest.raises(ZooError, match="adapters of the connector have no base"):
        folder = trained("llava-1.5", tiny_setting, tmp_path / "connector", connector="lora", language_model="full")
        save_adapters(zoo.load(folder), tmp_path)


def test_an_encoder_decoder(tiny_setting, tiny_parts, tmp_path):
    folder = trained("instructblip-flan-t5", tiny_setting, tmp_path / "t5", connector="full", language_model="lora")
    model = zoo.load(folder)
    save_adapters(model, tmp_path / "adapters")
    base = AutoModelForSeq2SeqLM.from_pretrained(tiny_parts / "encoder_decoder").eval()
    inputs = {"input_ids": torch.arange(5, 30)[None], "decoder_input_ids": torch.tensor([[0, 7, 8]])}
    with torch.no_grad():
        plain, ours = base(**inputs).logits, model.language_model.model(**inputs).logits
        adapted = peft.PeftModel.from_pretrained(base, tmp_path / "adapters" / "language_model").eval()
        assert (adapted(**inputs).logits - ours).abs().max() < 1e-5 and (plain - ours).abs().max() > 1e-2
