"""``zoo verify`` on what the original code of Chat-UniVi and LLaMA-VID gave (tests/data), also with mistakes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from zoo.errors import ZooError
from zoo.verification import verify

DATA = Path(__file__).parents[1] / "data"
OUTPUTS = {
    "chat_univi": {"image/cluster_index", "image/merged", "image/projected", "video/projected"},
    "llama_vid": {"main/tokens.0", "main/tokens.1"},
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_tokens_are_those_of_the_original(name):
    report = verify(DATA / name)
    assert {f"{difference.probe}/{difference.output}" for difference in report.differences} == OUTPUTS[name]
    assert report.passed and not report.not_compared


@pytest.mark.parametrize("name", OUTPUTS)
def test_other_weights_are_seen(name, tmp_path):
    folder = shutil.copytree(DATA / name, tmp_path / name)
    weights = load_file(folder / "model.safetensors")
    key = next(key for key in weights if key.endswith("mm_projector.weight") or key.endswith("mm_projector.0.weight"))
    save_file(weights | {key: weights[key] * 1.01}, folder / "model.safetensors")
    assert not verify(folder).passed
    del weights[key]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises((ZooError, KeyError)):
        verify(folder)


def test_a_share_of_the_patches_is_refused(tmp_path):
    folder = shutil.copytree(DATA / "chat_univi", tmp_path / "chat_univi")
    config = json.loads((folder / "config.json").read_text()) | {"rates": [12, 0.5, 3, 5]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ZooError, match=r"spatial_cluster_rate1 is 0\.5"):
        verify(folder)


def test_the_order_of_frames_is_seen(tmp_path):
    folder = shutil.copytree(DATA / "chat_univi", tmp_path / "chat_univi")
    inputs = load_file(folder / "inputs.safetensors")
    inputs["video/features"] = inputs["video/features"].flip(0).contiguous()
    save_file(inputs, folder / "inputs.safetensors")
    passed = {f"{d.probe}/{d.output}": d.passed for d in verify(folder).differences}
    assert passed["image/projected"] and not passed["video/projected"]
    assert torch.isfinite(inputs["video/features"]).all()
