"""Released checkpoints by their hub id, from a hub of this machine: the same model, and the same refusals."""

import json

import pytest
import torch
from llava_reference import difference, reference

import zoo
from zoo.errors import ZooError

ID = "llava-hf/llava-tiny"


@pytest.fixture
def published(local_hub, tmp_path):
    """A sharded LLaVA of transformers on the hub, with the same weights as a pickle beside it, and the model."""
    model = reference()
    model.save_pretrained(tmp_path / "saved", max_shard_size="60KB")
    assert len(list((tmp_path / "saved").glob("model-*.safetensors"))) > 1
    torch.save(model.state_dict(), tmp_path / "saved" / "pytorch_model.bin")
    local_hub.repos[ID] |= {file.name: file.read_bytes() for file in (tmp_path / "saved").iterdir()}
    return model


def test_an_id_is_loaded_as_its_folder_is(published, local_hub):
    model = zoo.load(ID, revision=local_hub.commit)
    assert difference(model, published) < 1e-5
    assert "pytorch_model.bin" not in local_hub.fetched()
    with pytest.raises(ZooError, match="has no revision 'v2'"):
        zoo.load(ID, revision="v2")


def test_a_pickle_is_taken_where_there_is_nothing_else(published, local_hub):
    files = local_hub.repos[ID]
    for name in [name for name in files if name.startswith("model")]:
        del files[name]
    assert difference(zoo.load(ID), published) < 1e-5
    files["pytorch_model.bin"] = b"\x80\x02cposix\nmkdir\nX\x04\x00\x00\x00evil\x85R."
    local_hub.commit = "bad" + 37 * "0"
    with pytest.raises(ZooError, match=r"pytorch_model\.bin is (refused|damaged)") as caught:
        zoo.load(ID)
    assert "\n" not in str(caught.value)


def test_a_shard_that_is_not_what_the_hub_says(published, local_hub):
    name = next(name for name in local_hub.repos[ID] if name.endswith(".safetensors"))
    good = local_hub.repos[ID][name]
    local_hub.stated[ID, name] = good
    local_hub.repos[ID][name] = good[:-4] + bytes(4)
    with pytest.raises(ZooError, match=f"{name} has the hash .* the hub says"):
        zoo.load(ID)


def test_an_index_that_leads_out_of_the_folder(published, local_hub):
    index = json.loads(local_hub.repos[ID]["model.safetensors.index.json"])
    key = next(iter(index["weight_map"]))
    index["weight_map"][key] = "../../../secret.safetensors"
    local_hub.repos[ID]["model.safetensors.index.json"] = json.dumps(index).encode()
    with pytest.raises(ZooError, match=r"'\.\./\.\./\.\./secret\.safetensors', which is outside its folder"):
        zoo.load(ID)


def test_a_mistyped_folder_is_no_id(local_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ZooError, match="runs/mien is no folder"):
        zoo.load("runs/mien")
    assert not local_hub.requests
