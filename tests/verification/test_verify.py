"""What ``zoo verify`` says of folders that agree, differ, or cannot be read; exit codes 0, 1 and 2."""

import json

import pytest
import torch
from cases import write_case, write_gradients
from safetensors.torch import load_file, save_file
from tiny import fill
from transformers import LlavaConfig, LlavaForConditionalGeneration

from zoo.cli import main
from zoo.errors import ZooError
from zoo.verification import verify

IMAGE = 60
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture
def folder(tmp_path):
    """A right-padded batch of two, whose second row is text alone, and a prompt to go on from."""
    config = LlavaConfig(
        text_config={
            "model_type": "llama",
            **SIZES,
            "vocab_size": 64,
            "pad_token_id": 0,
            "max_position_embeddings": 64,
        },
        vision_config={"model_type": "clip_vision_model", **SIZES, "image_size": 20, "patch_size": 10},
        image_token_index=IMAGE,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fill(LlavaForConditionalGeneration(config), 0.2)
    ids = torch.tensor([[1, *[IMAGE] * 4, 5, 6, 2], [1, 7, 8, 2, 0, 0, 0, 0]])
    pixels = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    main = {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": pixels}
    main["labels"] = ids.masked_fill((ids == IMAGE) | (ids == 0), -100)
    gen = {"input_ids": ids[:1], "attention_mask": torch.ones(1, 8).long(), "pixel_values": pixels}
    write_case(tmp_path, model, {"main": main, "gen": gen}, generate={"max_new_tokens": 5})
    write_gradients(tmp_path, model, main)
    return tmp_path


def change(file, key, edit):
    tensors = load_file(file)
    tensors[key] = edit(tensors[key])
    save_file(tensors, file)


def change_meta(folder, **fields):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | fields))


def run(capsys, *words):
    code = main(["verify", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_equal_results_are_exit_0_and_named(folder, capsys):
    code, out, _ = run(capsys, folder, "--json", "--gradients")
    found = json.loads(out)
    assert code == 0 and found["passed"]
    assert found["layout"] == "llava-hf" and found["method"] == "method llava-1.5"
    compared = {f"{row['probe']}/{row['output']}": row for row in found["differences"]}
    assert {"main/logits", "main/loss", "gen/new_tokens"} < compared.keys()
    assert any(name.startswith("main/gradients") for name in compared)
    assert all(row["passed"] and row["largest"] <= row["limit"] for row in compared.values())
    assert compared["main/logits"]["largest"] < 1e-4
    assert found["not_compared"] == []


def test_a_tolerance_below_the_difference_is_exit_1(folder, capsys):
    change(folder / "outputs.safetensors", "main/logits", lambda x: x + 1e-5)
    assert run(capsys, folder)[0] == 0
    code, out, _ = run(capsys, folder, "--tolerance", "1e-7")
    assert code == 1
    assert "BEYOND" in out and "NOT equal" in out


@pytest.mark.parametrize("output", ["main/logits", "main/loss", "gen/new_tokens"])
def test_a_wrong_result_is_exit_1(folder, capsys, output):
    change(folder / "outputs.safetensors", output, lambda x: x + (1 if x.dtype == torch.long else 1e-3))
    code, out, _ = run(capsys, folder, "--json")
    wrong = [row for row in json.loads(out)["differences"] if not row["passed"]]
    assert code == 1
    assert [f"{row['probe']}/{row['output']}" for row in wrong] == [output]


def test_logits_that_are_no_numbers_are_exit_1(folder, capsys):
    change(folder / "outputs.safetensors", "main/logits", lambda x: x * torch.nan)
    code, out, _ = run(capsys, folder, "--json")
    row = next(row for row in json.loads(out)["differences"] if row["output"] == "logits")
    assert code == 1 and row["largest"] is None and not row["passed"]


def test_what_stands_at_padding_does_not_count(folder):
    change(folder / "outputs.safetensors", "main/logits", lambda x: x + torch.arange(8)[None, :, None].ge(4) * 9.0)
    assert not verify(folder).passed
    change(
        folder / "outputs.safetensors",
        "main/logits",
        lambda x: torch.cat([x[:1] - 9.0 * torch.arange(8)[:, None].ge(4), x[1:]]),
    )
    assert verify(folder).passed


def test_wrong_gradients_count_only_where_asked_for(folder):
    norms = json.loads((folder / "grads.json").read_text())
    key = max(norms, key=norms.get)
    (folder / "grads.json").write_text(json.dumps(norms | {key: norms[key] * 1.01}))
    assert verify(folder).passed
    report = verify(folder, gradients=True)
    assert not report.passed
    assert key in next(difference.note for difference in report.differences if not difference.passed)


def test_the_references_own_noise_widens_the_limit_unless_a_tolerance_is_given(folder):
    change(folder / "outputs.safetensors", "main/logits", lambda x: x + 5e-4)
    assert not verify(folder).passed
    change_meta(folder, noise={"main": {"eager_vs_sdpa": 1e-3, "logit_std": 3.0}})
    assert verify(folder).passed
    assert not verify(folder, tolerance=1e-4).passed


def test_an_output_stored_under_another_name_is_found(folder):
    outputs = load_file(folder / "outputs.safetensors")
    outputs["main/image_hidden_states"] = torch.zeros(4, 16)
    save_file(outputs, folder / "outputs.safetensors")
    change_meta(folder, probes={"main": {"same_as": {"projected": "image_hidden_states"}}})
    report = verify(folder)
    assert [d.output for d in report.differences if not d.passed] == ["image_hidden_states"]


def test_an_unknown_output_is_named(folder):
    outputs = load_file(folder / "outputs.safetensors") | {"main/hidden_states.1": torch.zeros(2, 8, 16)}
    save_file(outputs, folder / "outputs.safetensors")
    report = verify(folder)
    assert report.passed and report.not_compared == ["main/hidden_states.1"]


def test_an_input_that_nothing_reads_fails_its_probe(folder):
    inputs = load_file(folder / "inputs.safetensors") | {"main/token_type_ids": torch.zeros(2, 8).long()}
    save_file(inputs, folder / "inputs.safetensors")
    report = verify(folder)
    failed = [difference for difference in report.differences if not difference.passed]
    assert not report.passed
    assert [d.probe for d in failed] == ["main"] and "token_type_ids" in failed[0].note


def test_too_few_placeholders_fail_the_probe(folder):
    change(folder / "inputs.safetensors", "main/input_ids", lambda ids: torch.where(ids == IMAGE, 9, ids))
    report = verify(folder)
    assert "0 places for 1 images" in next(d.note for d in report.differences if not d.passed)


REFUSALS = {
    "no folder": (lambda f: f / "nothing", "is no folder"),
    "no meta": (lambda f: (f / "meta.json").unlink(), "no such file"),
    "no reference": (lambda f: change_meta(f, **{"class": None}), "neither class nor reference"),
    "damaged inputs": (lambda f: (f / "inputs.safetensors").write_bytes(b"1234567890"), "damaged"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "missing weight": (
        lambda f: save_file(
            {k: v for k, v in load_file(f / "model.safetensors").items() if "linear_2.bias" not in k},
            f / "model.safetensors",
        ),
        "linear_2.bias",
    ),
    "unknown layout": (lambda f: (f / "config.json").write_text('{"model_type": "nothing"}'), "layouts"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_loaded_is_exit_2_and_one_line(folder, capsys, name):
    spoil, reason = REFUSALS[name]
    spoiled = spoil(folder)
    code, out, err = run(capsys, spoiled if name == "no folder" else folder)
    assert code == 2 and not out
    assert err.startswith("zoo: error: ") and reason in err and err.count("\n") == 1


def test_an_unknown_reference_is_exit_2_with_the_nearest(folder, capsys):
    change_meta(folder, **{"class": "PlavaForConditionalGeneration"})
    code, _, err = run(capsys, folder)
    assert code == 2 and "Did you mean 'LlavaForConditionalGeneration'?" in err


@pytest.mark.parametrize("tolerance", ["-1", "nan"])
def test_a_tolerance_is_no_negative_number(folder, capsys, tolerance):
    code, _, err = run(capsys, folder, f"--tolerance={tolerance}")
    assert code == 2 and "--tolerance" in err


def test_gradients_without_a_file_are_refused(folder):
    (folder / "grads.json").unlink()
    with pytest.raises(ZooError, match=r"grads\.json"):
        verify(folder, gradients=True)
