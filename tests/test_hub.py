"""Pulling and pushing against a server of the hub's routes on this machine: pinned, resumed, checked, refused."""

import json
import os
import subprocess
import sys

import pytest
import torch
from hub_server import sha256
from huggingface_hub import constants
from safetensors.torch import save

import zoo.hub
from zoo.errors import ZooError
from zoo.hub import pull, push, wanted_files
from zoo.registry import registry_path

ID = "someone/model"
WEIGHTS = save({"weight": torch.arange(2000.0)})


@pytest.fixture
def hub(local_hub):
    local_hub.repos[ID] |= {"config.json": b'{"model_type": "x"}', "model.safetensors": WEIGHTS}
    return local_hub


def refusal(*arguments, **options):
    with pytest.raises(ZooError) as caught:
        pull(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_come_into_the_cache_and_stay_there(hub, monkeypatch):
    folder = pull(ID)
    assert folder.name == hub.commit and str(folder).startswith(constants.HF_HUB_CACHE)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert pull(ID) == folder == pull(ID, revision=hub.commit)
    assert sorted(hub.fetched()) == ["config.json", "model.safetensors"]
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull(ID) == folder and not hub.requests
    assert "HF_HUB_OFFLINE" in refusal("someone/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    silent = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", silent)
    assert pull(ID) == folder
    assert f"no answer from {silent}" in refusal("someone/other")


def test_a_folder_of_ones_own(hub, tmp_path):
    folder = pull(ID, local_dir=tmp_path / "mine")
    assert folder == tmp_path / "mine" and not (folder / "model.safetensors").is_symlink()
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_only_what_a_model_is_loaded_from_comes(hub):
    hub.repos[ID] |= {"pytorch_model.bin": b"pickle" * 300, "optimizer.pt": b"o" * 2000, "video.mp4": b"v" * 2000}
    hub.repos[ID] |= {"qformer_tokenizer/tokenizer.json": b"{}", "README.md": b"# card"}
    folder = pull(ID)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"config.json", "model.safetensors", "qformer_tokenizer/tokenizer.json", "README.md"}


def test_safetensors_go_before_pickles():
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert wanted_files(["consolidated.safetensors", *shards, "pytorch_model.bin"]) == shards
    assert wanted_files(["trained.safetensors", "x.bin", "config.yaml"]) == ["config.yaml", "trained.safetensors"]
    assert wanted_files(["pytorch_model-00001-of-00001.bin", "mm_projector.bin"]) == [
        "pytorch_model-00001-of-00001.bin"
    ]
    assert wanted_files(["checkpoint.pt", "training_args.bin", "sub/other.bin"]) == ["checkpoint.pt"]


def test_a_broken_connection_goes_on_where_it_broke(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cuts["model.safetensors"] = [3000, 2000]
    folder = pull(ID)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [rows[2] for rows in hub.requests if rows[0] == "GET" and rows[1].endswith("model.safetensors")]
    assert ranges == [None, "bytes=3000-", "bytes=5000-"]


def test_what_was_fetched_before_an_end_is_not_fetched_again(hub):
    del hub.repos[ID]["model.safetensors"]
    pull(ID)
    hub.repos[ID]["model.safetensors"] = WEIGHTS
    hub.commit = "decade" + 34 * "1"
    hub.requests.clear()
    pull(ID)
    assert hub.fetched() == ["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_another_content_than_stated_is_deleted_and_refused(name, hub):
    good = hub.repos[ID][name]
    hub.stated[ID, name] = good
    hub.repos[ID][name] = bytes(reversed(good))
    message = refusal(ID)
    assert name in message and "the hub says" in message and "pull it again" in message
    assert name != "model.safetensors" or sha256(good) in message
    hub.repos[ID][name] = good
    assert (pull(ID) / name).read_bytes() == good


def test_a_truncated_file_is_not_kept(hub):
    hub.stated[ID, "model.safetensors"] = WEIGHTS
    hub.repos[ID]["model.safetensors"] = WEIGHTS[:-100]
    message = refusal(ID)
    assert "model.safetensors" in message
    assert not list((zoo.hub.Path(constants.HF_HUB_CACHE)).rglob("model.safetensors"))


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "..\\evil.json", "c:evil.json"]
)
def test_a_path_out_of_the_folder_is_refused(name, hub, tmp_path):
    hub.repos[ID][name] = b"{}"
    message = refusal(ID, local_dir=tmp_path / "in" / "mine")
    assert repr(name) in message and "outside" in message
    assert not hub.fetched() and not list(tmp_path.rglob("*evil*"))


def test_the_registry_pins_revision_and_hash(hub, monkeypatch):
    facts = {"m": {"weights": [{"id": ID, "revision": hub.commit, "sha256": {"model.safetensors": sha256(b"other")}}]}}
    monkeypatch.setattr(zoo.registry, "entries", lambda: facts)
    assert "registry.yaml says" in refusal(ID)
    assert all(hub.commit in path for method, path, _ in hub.requests if "/resolve/" in path)
    facts["m"]["weights"][0]["sha256"] = {"model.safetensors": sha256(WEIGHTS)}
    assert pull(ID).name == hub.commit
    facts["m"]["weights"][0]["revision"] = "0" * 40
    assert "has no revision" in refusal(ID)


def test_a_file_that_changed_on_the_disk_is_noticed(hub):
    file = (pull(ID) / "model.safetensors").resolve()
    file.write_bytes(WEIGHTS[:-1] + b"?")
    assert "model.safetensors" in refusal(ID)


def test_unknown_names_are_told_apart(hub):
    hub.private.add("someone/secret")
    _ = hub.repos["someone/secret"]
    assert "no repository someone/nothing" in refusal("someone/nothing")
    assert "hf auth login" in refusal("someone/secret")
    assert "no revision 'v9'" in refusal(ID, revision="v9")
    assert "owner/name" in refusal("just-a-name")


def test_what_is_pushed_is_pulled(hub, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trained.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "out" / "config.yaml").write_text("a: 1\n")
    with pytest.raises(ZooError, match="hf auth login"):
        push(tmp_path / "out", "me/mine", message="first")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    address = push(tmp_path / "out", "me/mine", message="first")
    assert address.startswith(f"{hub.url}/me/mine/commit/")
    folder = pull("me/mine")
    assert {path.name for path in folder.iterdir()} == {"trained.safetensors", "config.yaml"}
    assert (folder / "trained.safetensors").read_bytes() == WEIGHTS


def test_the_environment_is_respected_and_nothing_heavy_imported(hub, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "elsewhere"), "HF_HUB_OFFLINE": "0"}
    code = "import sys, zoo.cli; code = zoo.cli.main(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(code)"

    def zoo_pull(id, **variables):
        command = [sys.executable, "-c", code, "pull", id]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment | variables, cwd=registry_path().parent, timeout=60
        )

    folder = zoo_pull(ID).stdout.strip()
    assert folder.startswith(str(tmp_path / "elsewhere")) and json.loads(
        (zoo.hub.Path(folder) / "config.json").read_text()
    ) == {"model_type": "x"}
    assert zoo_pull(ID, HF_HUB_OFFLINE="1").stdout.strip() == folder
    failed = zoo_pull("someone/other", HF_HUB_OFFLINE="1")
    assert (
        failed.returncode == 2
        and failed.stderr.startswith("zoo: error: someone/other")
        and "\n" not in failed.stderr[:-1]
    )
