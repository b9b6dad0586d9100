"""Checkpoints: whole or not there, only what was trained, refused by name when they do not fit."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import llama
from training_tools import changed, with_stages

import zoo
from zoo.errors import ZooError
from zoo.run import resolve_run
from zoo.training import checkpoint
from zoo.training.loop import train


@pytest.fixture(scope="module")
def config(tiny_setting):
    """Connector first, then connector and adapters; a checkpoint after every step, all kept."""
    overrides = ["training.save_every=1", "training.keep_checkpoints=0", "lora.rank=2"]
    config = with_stages(resolve_run("llava-1.5", tiny_setting, overrides), steps=2)
    align, instruct = config.method.stages
    instruct = dataclasses.replace(instruct, train={"connector": "full", "language_model": "lora"})
    return dataclasses.replace(config, method=dataclasses.replace(config.method, stages=(align, instruct)))


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A finished run and its model."""
    out = tmp_path_factory.mktemp("finished") / "run"
    return out, train(config, out, quiet=True)


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run that may be spoiled, as if it had not finished."""
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "done.json").unlink()
    shutil.rmtree(tmp_path / "run" / "model")
    return tmp_path / "run"


def newest(run):
    return checkpoint.list_checkpoints(run / "checkpoints")[-1]


def rewrite(file, change, **metadata):
    tensors = load_file(file)
    with safe_open(file, framework="pt") as handle:
        metadata = handle.metadata() | metadata
    change(tensors)
    save_file(tensors, file, metadata=metadata)


def test_saved_set_is_the_trained_set(finished):
    out, model = finished
    connector = {f"connector.{key}" for key, _ in model.connector.named_parameters()}
    adapters = {key for key, _ in model.named_parameters() if "lora_" in key}
    saved = [
        set(load_file(folder / "trained.safetensors")) for folder in checkpoint.list_checkpoints(out / "checkpoints")
    ]
    assert saved == [connector, connector, connector | adapters, connector | adapters]
    assert set(load_file(out / "model" / "trained.safetensors")) == connector | adapters


def test_bases_are_named(finished, config):
    with safe_open(finished[0] / "model" / "trained.safetensors", framework="pt") as handle:
        rows = json.loads(handle.metadata()["bases"])
    assert [(row["part"], row["id"]) for row in rows] == [
        ("encoder", config.method.encoder.id),
        ("language_model", config.method.language_model.id),
    ]
    assert len({row["fingerprint"] for row in rows}) == 2


def test_run_and_each_checkpoint_load(finished):
    out, model = finished
    assert not changed(zoo.load(out), model)
    folders = checkpoint.list_checkpoints(out / "checkpoints")
    assert [folder.name for folder in folders] == [
        f"{i}-{n}-{s:08}" for i, n in enumerate(("align", "instruct")) for s in (1, 2)
    ]
    first = zoo.load(folders[0])
    assert not any("lora_" in key for key in first.state_dict())
    tensors = load_file(folders[0] / "trained.safetensors")
    assert all(torch.equal(first.state_dict()[key], tensors[key]) for key in tensors)
    assert not changed(zoo.load(folders[-1]), model)
    assert not first.training


def test_old_checkpoints_go(config, tmp_path):
    kept = dataclasses.replace(config, training=dataclasses.replace(config.training, keep_checkpoints=2))
    train(kept, tmp_path / "run", quiet=True)
    names = [folder.name for folder in checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert names == ["1-instruct-00000001", "1-instruct-00000002"]


@pytest.mark.parametrize("stage", ["save_weights", "rename"])
def test_crash_while_writing_leaves_the_older_one(config, finished, tmp_path, monkeypatch, stage):
    kept = dataclasses.replace(config, training=dataclasses.replace(config.training, keep_checkpoints=1))
    target, name = (checkpoint, "save_weights") if stage == "save_weights" else (type(tmp_path), "rename")
    original = getattr(target, name)

    def crash(*arguments):
        if "0-align-00000002" in str(arguments):
            raise OSError("the power went out")
        return original(*arguments)

    monkeypatch.setattr(target, name, crash)
    with pytest.raises(OSError, match="power"):
        train(kept, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    folder = tmp_path / "run" / "checkpoints"
    assert [entry.name for entry in checkpoint.list_checkpoints(folder)] == ["0-align-00000001"]
    assert len(list(folder.iterdir())) == 2, "the unfinished one has to be there, under another name"
    assert not changed(train(kept, tmp_path / "run", resume=True, quiet=True), finished[1])
    assert [entry.name for entry in folder.iterdir()] == ["1-instruct-00000002"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.pop("connector.layers.0.bias"),
            r"lacks key 'connector\.layers\.0\.bias' \(1 in all\)",
        ),
        (lambda tensors: tensors.update(other=torch.ones(1)), "has an unknown key 'other'"),
        (
            lambda tensors: tensors.update({"connector.layers.0.bias": torch.ones(5)}),
            r"connector\.layers\.0\.bias has shape \(5,\), expected \(32,\)",
        ),
    ],
)
def test_keys_that_do_not_fit_are_named(run, change, message):
    rewrite(newest(run) / "trained.safetensors", change)
    with pytest.raises(ZooError, match=message):
        zoo.load(run)


@pytest.mark.parametrize("part", ["encoder", "language_model"])
def test_another_base_is_refused(run, config, tmp_path, monkeypatch, part):
    with torch.random.fork_rng():
        torch.manual_seed(9)
        folder = tmp_path / "base"
        if part == "language_model":
            shutil.copytree(config.method.language_model.id, folder)
            llama(420, initializer_range=0.5).save_pretrained(folder)
        else:
            shutil.copytree(config.method.encoder.id, folder)
            rewrite(folder / "model.safetensors", lambda tensors: [tensor.mul_(1.01) for tensor in tensors.values()])
    identifier = getattr(config.method, part).id
    (tmp_path / "paths.yaml").write_text(json.dumps({identifier: str(folder)}))
    zoo.load(run)
    monkeypatch.setenv("ZOO_PATHS", str(tmp_path / "paths.yaml"))
    with pytest.raises(
        ZooError, match=rf"trained on {part} '{identifier}' with fingerprint \w+, but the one loaded has"
    ):
        zoo.load(run)


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "other bytes": lambda file: file.write_bytes(b"no such format" * 20),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("name", ["trained.safetensors", "optimizer.pt", "rng.pt"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_named(run, config, name, damage):
    file = newest(run) / name
    DAMAGES[damage](file)
    with pytest.raises(ZooError, match=rf"{name}.*(damaged|no trained)|no {name}") as caught:
        train(config, run, resume=True, quiet=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["empty", "cut off", "other bytes"])
def test_damaged_state_is_named(run, config, damage):
    DAMAGES[damage](newest(run) / "state.json")
    with pytest.raises(ZooError, match=r"state\.json is damaged"):
        train(config, run, resume=True, quiet=True)


def test_damaged_checkpoint_can_be_deleted(run, config, finished):
    DAMAGES["cut off"](newest(run) / "optimizer.pt")
    shutil.rmtree(newest(run))
    assert not changed(train(config, run, resume=True, quiet=True), finished[1])


def test_checkpoint_of_other_parameters_is_refused(run, config):
    saved = torch.load(newest(run) / "optimizer.pt")
    saved["optimizer"]["param_groups"].pop()
    torch.save(saved, newest(run) / "optimizer.pt")
    with pytest.raises(ZooError, match=r"optimizer\.pt is damaged \(loaded state dict has a different number"):
        train(config, run, resume=True, quiet=True)


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ZooError, match="is no folder"):
        zoo.load(tmp_path / "nothing")
    with pytest.raises(ZooError, match=str(tmp_path)):
        zoo.load(tmp_path)
