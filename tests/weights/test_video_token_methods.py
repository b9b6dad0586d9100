"""Checkpoints of Chat-UniVi and LLaMA-VID: sizes from config.json, names both ways, refusals."""

import dataclasses
import json

import pytest
import torch
from test_llava_releases import CONNECTORS, language_model, refusal, released, same, tower, trained, write  # noqa: F401

from zoo.connectors import ContextContent, TokenMerging
from zoo.weights import convert, load_released

MERGING = TokenMerging(num_clusters=(7, 5), neighbours=(5, 3), events=4.0)
RATES = {"spatial_cluster_rate0": 7, "spatial_cluster_rate1": 5, "temporal_cluster_rate": 4}


@pytest.fixture
def chat_univi(tmp_path, tower, monkeypatch):  # noqa: F811
    monkeypatch.setitem(CONNECTORS, "chat-univi", MERGING)
    model = trained("chat-univi", language_model(tmp_path / "base"), tower)
    state = released(model, "chat-univi-original")
    config = {"use_cluster": True, **RATES}
    return write(tmp_path / "x", state, model, "chat-univi", model_type="ChatUniVi", config=config), model, state


def test_chat_univi(chat_univi):
    folder, model, state = chat_univi
    again = load_released(folder)
    assert again.method.name == "chat-univi" and same(again, model)
    assert again.method.connector == MERGING
    assert again.num_media_tokens([1, 9], [False, True]) == [12, 48]
    canonical = convert(state, "chat-univi-original", "to_canonical")
    back = convert(canonical, "chat-univi-original", "from_canonical")
    assert back.keys() == state.keys() and all(back[key] is state[key] for key in state)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"use_cluster": False}, "use_cluster is false"),
        ({**RATES, "spatial_cluster_rate1": 0.25}, "spatial_cluster_rate1 is 0.25"),
        ({**RATES, "spatial_cluster_rate1": 9}, "do not rise"),
    ],
)
def test_other_rates_of_chat_univi(chat_univi, rates, message):
    folder, *_ = chat_univi
    config = json.loads((folder / "config.json").read_text()) | {"config": rates}
    (folder / "config.json").write_text(json.dumps(config))
    assert message in refusal(folder)


def test_the_published_rates_are_the_defaults(chat_univi):
    folder, *_ = chat_univi
    config = json.loads((folder / "config.json").read_text())
    del config["config"]
    (folder / "config.json").write_text(json.dumps(config))
    assert load_released(folder).method.connector == dataclasses.replace(TokenMerging(), events=1 / 16)


QFORMER = {"num_queries": 3, "width": 64, "num_layers": 3, "num_heads": 1, "intermediate": 24, "dropout": 0.1}


def llama_vid(tmp_path, tower, monkeypatch):  # noqa: F811
    connector = ContextContent(**QFORMER, content_grid=2, instruction_vocabulary=430, max_positions=40)
    monkeypatch.setitem(CONNECTORS, "llama-vid", dataclasses.replace(connector, instruction_tokenizer=""))
    model = trained("llama-vid", language_model(tmp_path / "base"), tower)
    state = released(model, "llama-vid-original")
    state = {key: value for key, value in state.items() if not key.startswith("visual_encoder.")}
    fields = {"mm_projector_type": "mlp2x_gelu", "compress_type": "grid:2", "bert_type": "qformer_pretrain"}
    return write(tmp_path / "x", state, model, "llama-vid", **fields), model, state, connector


def test_llama_vid(tmp_path, tower, monkeypatch):  # noqa: F811
    folder, model, state, connector = llama_vid(tmp_path, tower, monkeypatch)
    assert "model.vlm_att_query" in state and "model.mm_projector.2.bias" in state
    # The text's tokenizer is BERT's, which is not among the files.
    monkeypatch.setattr("zoo.factory.load_instruction_tokenizer", lambda id: model.language_model.tokenizer)
    again = load_released(folder)
    assert again.method.name == "llama-vid"
    ours, theirs = again.state_dict(), model.state_dict()
    loaded = [key for key in theirs if not key.startswith("encoder.")]
    assert all(torch.equal(ours[key], theirs[key]) for key in loaded)
    assert again.method.connector == connector
    canonical = convert(state, "llama-vid-original", "to_canonical")
    back = convert(canonical, "llama-vid-original", "from_canonical")
    assert back.keys() == state.keys() and all(back[key] is state[key] for key in state)
    for key, message in (("compress_type", "'median' is unknown"), ("bert_type", "is no Q-Former")):
        write(folder, state, model, "llama-vid", **{"mm_projector_type": "mlp2x_gelu", key: "median"})
        assert message in refusal(folder)


def test_a_tower_among_the_weights_of_llama_vid():
    """In LAVIS's names, with the bias of queries and values apart."""
    prefix = "model.vision_tower.vision_tower."
    bias = {f"{prefix}blocks.0.attn.{name}_bias": torch.rand(4) for name in "qv"}
    given = bias | {f"{prefix}blocks.0.norm1.weight": torch.rand(4), "model.vlm_att_query": torch.rand(1, 2, 3)}
    found = convert(given, "llama-vid-original", "to_canonical")
    layer = "encoder.model.encoder.layers.0."
    assert found.keys() == {f"{layer}self_attn.qkv.bias", f"{layer}layer_norm1.weight", "connector.body.queries"}
    query, value = bias.values()
    assert torch.equal(found[f"{layer}self_attn.qkv.bias"], torch.cat([query, torch.zeros(4), value]))
