"""A run's weights as a folder with a card, on a hub of this machine and back; conversations with them."""

import io
import json
import shutil
import socket

import pytest
import torch
import yaml
from tiny import picture

import zoo
from zoo import chat as chat_module
from zoo import cli, loading
from zoo.chat import answer, open_chat, talk
from zoo.errors import ZooError
from zoo.package import package, push_run

SHORT = {
    f"stages.{stage}.{key}": value for stage in ("align", "instruct") for key, value in (("steps", 2), ("batch", 2))
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run under scenes-tiny, laid out and answered for as zoo compare does it."""
    out = tmp_path_factory.mktemp("comparison")
    folder = out / "runs" / "llava-1.5" / "seed-3"
    zoo.train("llava-1.5", folder, "scenes-tiny", seed=3, quiet=True, **SHORT)
    zoo.evaluate(
        folder, ["scenes:shape?num_items=12&image_size=48"], out=out / "predictions" / "llava-1.5" / "seed-3", batch=12
    )
    return folder


@pytest.fixture
def images(tmp_path):
    files = []
    for colour in ("red", "blue"):
        files.append(tmp_path / f"{colour}.png")
        picture(colour, (48, 48)).save(files[-1])
    return files


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_the_card_says_what_the_run_says(run, tmp_path):
    folder = package(run, tmp_path / "out", licence="apache-2.0")
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.yaml", "trained.safetensors"}
    card = (folder / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "apache-2.0" and "llava-1.5" in header["tags"]
    rows = [json.loads(line) for line in (run.parents[2] / "predictions/llava-1.5/seed-3/shape.jsonl").open()]
    score = 100 * sum(row["score"] for row in rows) / len(rows)
    totals = json.loads((run / "done.json").read_text())
    for fact in (
        "llava-1.5, trained under scenes-tiny",
        "seed 3",
        "arxiv.org/abs/2310.03744",
        "zoo:scenes-tiny/encoder",
        "28,928",
        "| align | `scenes:caption",
        "connector full, language_model full | 2 steps | 2 |",
        f"{totals['tokens']:,} tokens",
        f"| shape | 12 | exact_match/1 lower-case, trailing full stop removed | {score:.1f} [",
        "zoo train --config config.yaml",
        f'zoo.load("{folder}")',
    ):
        assert fact in card, fact
    assert same(zoo.load(folder), zoo.load(run))
    shutil.move(run.parents[2] / "predictions", run.parents[2] / "elsewhere")
    try:
        assert "None was made of this run." in (package(run, tmp_path / "again") / "README.md").read_text()
    finally:
        shutil.move(run.parents[2] / "elsewhere", run.parents[2] / "predictions")


def test_what_cannot_be_packed_is_said(run, tmp_path):
    with pytest.raises(ZooError, match=r"holds no trained\.safetensors; give the folder of a run that has ended"):
        package(tmp_path, tmp_path / "out")
    (tmp_path / "answers").mkdir()
    with pytest.raises(ZooError, match=r"holds no TASK\.jsonl"):
        package(run, tmp_path / "out", evaluation=tmp_path / "answers")
    (tmp_path / "answers" / "shape.jsonl").write_text(json.dumps({"method": "otter"}) + "\n")
    with pytest.raises(ZooError, match=r"answers of 'otter', the run is of 'llava-1\.5'"):
        package(run, tmp_path / "out", evaluation=tmp_path / "answers")
    assert not (tmp_path / "out").exists()


def test_pushed_weights_are_loaded_by_their_id(run, local_hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    assert cli.main(["push", str(run), "me/llava-tiny"]) == 0
    assert f"{local_hub.url}/me/llava-tiny/commit/" in capsys.readouterr().out
    assert local_hub.repos["me/llava-tiny"].keys() == {"README.md", "config.yaml", "trained.safetensors"}
    assert b'zoo.load("me/llava-tiny")' in local_hub.repos["me/llava-tiny"]["README.md"]
    assert same(zoo.load("me/llava-tiny"), zoo.load(run))
    with pytest.raises(ZooError, match="no repository me/other"):
        zoo.load("me/other")


def test_bases_of_this_machine_are_not_pushed(run, tiny_parts, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run" / "model" / "config.yaml"
    config.write_text(config.read_text().replace("zoo:scenes-tiny/language_model", str(tiny_parts / "language_model")))
    with pytest.raises(ZooError, match=r"language_model\.id .* is a folder of this machine"):
        push_run(tmp_path / "run", "me/llava-tiny")


@pytest.fixture
def shipped(run, tmp_path, monkeypatch):
    """The package as it is with weights of llava-1.5 in it."""
    (tmp_path / "assets" / "scenes-tiny").mkdir(parents=True)
    for part in ("encoder", "language_model"):
        (tmp_path / "assets" / "scenes-tiny" / part).symlink_to(loading.ASSETS / "scenes-tiny" / part)
    package(run, tmp_path / "assets" / "scenes-tiny" / "weights" / "llava-1.5")
    monkeypatch.setattr(loading, "ASSETS", tmp_path / "assets")


def test_one_question_from_the_command_line(shipped, images, capsys, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("the network is not needed")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    question = ["--image", str(images[0]), "--message", "What colour is it?", "--max-new-tokens", "4"]
    assert cli.main(["chat", "llava-1.5", *question]) == 0
    written = capsys.readouterr().out.strip()
    conversation = open_chat("llava-1.5", max_new_tokens=4)
    conversation.show("image", images[0])
    assert conversation.ask("What colour is it?") == written
    assert conversation.template.inference is None  # prompts have the form that the weights were trained with
    assert same(conversation.model, zoo.load("llava-1.5"))


def test_a_conversation_remembers(shipped, images, capsys):
    conversation = open_chat("llava-1.5", max_new_tokens=4)
    conversation.show("image", images[0])
    first = conversation.ask("What colour?")
    conversation.show("image", images[1])
    answer(conversation, "And <box 1 2 30.5 40>?")
    contents = [message.content for message in conversation.messages]
    assert contents[:3] == ["<image>\nWhat colour?", first, "<image>\nAnd <box>?"]
    assert [box.medium for box in conversation.boxes] == [1] and conversation.boxes[0].x1 == 30.5
    assert "a box in the question is written as numerals" in capsys.readouterr().err
    with pytest.raises(ZooError, match="placeholders"):
        conversation.ask("Which <image>?")
    assert len(conversation.messages) == 4
    conversation.reset()
    conversation.show("image", images[0])
    assert conversation.ask("What colour?") == first


def test_the_terminal(shipped, images, monkeypatch, capsys):
    lines = f"/image {images[0]}\nWhat colour?\n/image nothing.png\n/help\n/reset\nReally?\n/quit\nnever\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    conversation = open_chat("llava-1.5", max_new_tokens=3)
    talk(conversation)
    shown = capsys.readouterr().out
    assert "no such image: nothing.png" in shown and shown.count(chat_module.HELP) == 2
    assert conversation.messages[0].content == "Really?" and len(conversation.messages) == 2


def test_models_that_are_not_there(shipped, run):
    with pytest.raises(
        ZooError, match=r"no weights of otter come with scenes-tiny \(there are llava-1\.5\); give --weig"
    ):
        open_chat("otter")
    with pytest.raises(ZooError, match=r"holds weights of 'llava-1\.5', not of 'llava'"):
        open_chat("llava", weights=str(run))
    with pytest.raises(ZooError, match="--weights goes with a method"):
        open_chat("runs", weights=str(run))
    with pytest.raises(ZooError, match=r"is no folder; .* a method with shipped weights \(llava-1\.5\)"):
        open_chat("nothing")
