"""Checkpoints of Chat-UniVi: sizes from config.json, names both ways, refusals."""

import dataclasses
import json

import pytest
from test_llava_releases import language_model, refusal, released, same, tower, trained, write  # noqa: F401

from zoo.connectors import TokenMerging
from zoo.weights import convert, load_released

MERGING = TokenMerging(num_clusters=(7, 5), neighbours=(5, 3), events=4.0)
RATES = {"spatial_cluster_rate0": 7, "spatial_cluster_rate1": 5, "temporal_cluster_rate": 4}


@pytest.fixture
def chat_univi(tmp_path, tower):  # noqa: F811
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
