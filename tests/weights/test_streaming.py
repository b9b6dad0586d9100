"""Weights go from the files into the model one by one; files that are no weights are refused in one line."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from llava_reference import difference, reference
from safetensors.torch import load_file, save_file

from zoo.errors import ZooError
from zoo.weights import load_released, tensors
from zoo.weights.files import open_weights
from zoo.weights.tensors import Weights


def sharded(folder, num_shards=3, **options):
    """A checkpoint of transformers' LLaVA in shards, and the model."""
    model = reference(**options)
    model.save_pretrained(folder)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    names = {
        key: f"model-{1 + i * num_shards // len(state):05d}-of-{num_shards:05d}.safetensors"
        for i, key in enumerate(state)
    }
    (folder / "model.safetensors").unlink()
    for name in set(names.values()):
        save_file({key: state[key] for key in state if names[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return model


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    return {f"layer.{i}": torch.randn(3, i + 1, generator=generator) for i in range(9)}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("kind", ["safetensors", "bin", "legacy"])
@pytest.mark.parametrize("window", [1, 64, 2**20])
def test_every_tensor_comes_once_whatever_the_window(kind, window, state, tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "WINDOW_BYTES", window)
    file = tmp_path / ("model.safetensors" if kind == "safetensors" else "pytorch_model.bin")
    if kind == "safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind == "bin")
    weights = open_weights(tmp_path)
    streamed = list(weights.stream())
    assert len(streamed) == len(state) and equal(dict(streamed), state)
    assert equal(weights, state) and weights.shape("layer.4") == (3, 5)
    renamed = weights.renamed({"layer.1": "one", "layer.8": "eight"})
    assert equal(dict(renamed.stream()), {"one": state["layer.1"], "eight": state["layer.8"]})


def test_shards_of_any_window_give_equal_logits(tmp_path, monkeypatch):
    expected = sharded(tmp_path)
    monkeypatch.setattr(tensors, "WINDOW_BYTES", 1000)
    model = load_released(tmp_path, device="cpu")
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert difference(model, expected) < 1e-5


def test_weights_that_stay_in_their_files_can_be_trained_and_replaced(tmp_path):
    expected = sharded(tmp_path)
    model = load_released(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert difference(model, expected) > 0.1
    assert files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model = load_released(tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        save_file({key: torch.zeros_like(value) for key, value in load_file(path).items()}, path)
    assert difference(model, expected) < 1e-5


def test_a_pickle_may_be_written_into_afterwards(tmp_path):
    expected = reference()
    expected.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(expected.state_dict(), tmp_path / "pytorch_model.bin")
    model = load_released(tmp_path)
    with (tmp_path / "pytorch_model.bin").open("r+b") as file:
        file.write(bytes((tmp_path / "pytorch_model.bin").stat().st_size))
    assert difference(model, expected) < 1e-5


def test_tied_weights_stay_one(tmp_path):
    sharded(tmp_path, text="qwen2", text_fields={"tie_word_embeddings": True})
    network = load_released(tmp_path).language_model.model
    assert network.get_input_embeddings().weight is network.get_output_embeddings().weight


def peak_bytes():
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's memory figures")
@pytest.mark.parametrize("kind", ["safetensors", "half", "bin"])
def test_peak_memory_is_the_models_size(kind, tmp_path, monkeypatch):
    model = sharded(tmp_path, text_fields={"intermediate_size": 40_000, "hidden_size": 128})
    size = sum(parameter.nbytes for parameter in model.parameters())
    if kind == "bin":
        (tmp_path / "model.safetensors.index.json").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    del model
    dtype = torch.float16 if kind == "half" else torch.float32  # then nothing can stay in the files
    size = size // 2 if kind == "half" else size
    monkeypatch.setattr(tensors, "WINDOW_BYTES", 2**20)
    load_released(tmp_path, dtype=dtype)  # imports and caches of the first load are not its memory
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    loaded = load_released(tmp_path, dtype=dtype)
    assert all(parameter.sum().isfinite() for parameter in loaded.parameters())  # every page is read
    grown = peak_bytes() - before
    assert sum(parameter.nbytes for parameter in loaded.parameters()) == size
    # A tensor that is being copied is in memory twice.
    assert grown < 1.15 * size + 40_000 * 128 * 4


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "checkpoint.pt", "mm_projector.bin"])
def test_a_pickle_of_code_is_refused_and_not_run(name, tmp_path):
    torch.save({"weight": torch.ones(2), "payload": Runs(tmp_path / "ran")}, tmp_path / name)
    with pytest.raises(ZooError, match=r"refused: its pickle calls posix\.mkdir.*\.safetensors") as caught:
        open_weights(tmp_path)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / name).write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    with pytest.raises(ZooError, match=name) as caught:
        open_weights(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_truncated_file_is_refused(keep, suffix, tmp_path):
    state = {"a": torch.randn(64, 64), "b": torch.randn(10)}
    file = tmp_path / f"weights{suffix}"
    if suffix == ".bin":
        torch.save(state, file)
    else:
        save_file(state, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(ZooError, match=rf"weights\{suffix} is damaged.*download it again") as caught:
        Weights.of_file(file)
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "pytorch_model.bin")
    with pytest.raises(ZooError, match="holds a list, not weights by name"):
        open_weights(tmp_path)
    torch.save({"step": 3}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ZooError, match="'step' is a int, not a tensor"):
        open_weights(tmp_path)
