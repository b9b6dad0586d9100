"""The command line: every piece of bad input is one line that names the culprit and the fix, with exit code 2."""

import json
import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import zoo
from zoo.cli import main

TURNS = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A square."}]


@pytest.fixture
def run(capsys):
    """Run a command in this process; returns (exit code, stdout, stderr)."""

    def call(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def refused(run):
    """Run a command that must be refused in one line; returns the line."""

    def call(*words):
        code, _, err = run(*words)
        last = err.strip().splitlines()[-1]
        assert code == 2, (code, err)
        assert last.startswith("zoo: error: ")
        assert "Traceback" not in err
        assert sum(line.startswith("zoo: ") for line in err.splitlines()) == 1
        return last

    return call


@pytest.fixture
def write_data(tmp_path):
    def write(*records):
        file = tmp_path / "data.json"
        file.write_text(json.dumps(list(records)))
        return file

    return write


@pytest.fixture
def train(tiny_setting, tmp_path):
    """Words of a training command on a data file."""
    return lambda file: ("train", "llava-1.5", "--setting", tiny_setting, "--data", file, "--out", tmp_path / "run")


def huge_png(path, side):
    """A PNG whose header says side x side; its data would fill the memory when decoded."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = zlib.compress(bytes(side // 8 + 1) * 64)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b""))


def test_help_needs_neither_torch_nor_transformers():
    code = (
        "import sys, zoo.cli\n"
        "try: zoo.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'omegaconf'} & set(sys.modules), 'slow import'"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_list_and_show(run):
    code, out, _ = run("list", "--family", "llava", "--json")
    assert code == 0 and list(json.loads(out)) == zoo.list_methods("llava")
    assert {"llava", "llava-1.5"} <= set(zoo.list_methods("llava"))
    code, out, _ = run("show", "llava-1.5", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["visual_tokens_per_image"] == 576
    assert facts["stages"][0]["trainable"] == {"connector": 20_979_712}
    assert "576" in run("show", "llava-1.5")[1]
    deeper = json.loads(run("show", "llava-1.5", "connector.depth=3", "--json")[1])
    assert deeper["parts"]["connector"]["parameters"] == 20_979_712 + 4096 * 4096 + 4096


def test_unknown_names(refused, tiny_setting, tmp_path):
    assert "'llava-1.6'" in (line := refused("show", "llava-1.6")) and "llava-1.5" in line
    assert "lava" in refused("list", "--family", "lava")
    assert "depth" in refused("show", "llava-1.5", "connector.dpth=3")
    line = refused("train", "llava-1.5", "--setting", tiny_setting, "--out", tmp_path / "a", "stages.align.stepz=3")
    assert "stepz" in line and "steps" in line
    assert "scenes-tiny" in refused("train", "llava-1.5", "--setting", "scenes-tny", "--out", tmp_path / "a")
    line = refused("train", "llava-1.5", "--setting", tiny_setting, "--data", "algin=x.json", "--out", tmp_path / "a")
    assert "'algin'" in line and "align" in line
    assert "--data" in refused("train", "llava-1.5", "--out", tmp_path / "b")


def test_unreadable_media(refused, write_data, train, tmp_path):
    file = write_data({"id": "lost-7", "image": "nowhere.png", "conversations": TURNS})
    line = refused(*train(file))
    assert "lost-7" in line and "nowhere.png" in line
    assert refused("data", "check", tmp_path / "no.json")

    Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    file = write_data({"id": "cut-8", "image": "cut.jpg", "conversations": TURNS})
    line = refused(*train(file))
    assert "cut-8" in line and "cut.jpg" in line

    huge_png(tmp_path / "huge.png", 40_000)
    file = write_data({"id": "huge-9", "image": "huge.png", "conversations": TURNS})
    line = refused(*train(file))
    assert "huge-9" in line and "1600000000 pixels" in line


def test_malformed_data(refused, write_data, train, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    file = write_data({"id": "twice-1", "image": ["a.png", "a.png"], "conversations": TURNS})
    line = refused(*train(file))
    assert "twice-1" in line and "1" in line and "2" in line
    broken = tmp_path / "broken.json"
    broken.write_text('[{"id": "x", "conversations": [}]')
    assert "broken.json" in refused(*train(broken))


def test_data_check_lists_every_problem(run, write_data, tiny_setting, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    good = {"id": "good", "image": "a.png", "conversations": TURNS}
    long_turns = [TURNS[0], {"from": "gpt", "value": ""}, TURNS[0] | {"value": "more " * 2000}]
    long_turns += [{"from": "gpt", "value": "cut"}]
    long = {"id": "long", "image": "a.png", "conversations": long_turns}
    code, out, _ = run("data", "check", write_data(good))
    assert code == 0, out
    file = write_data(good, {"id": "lost", "image": "no.png", "conversations": TURNS}, long)
    code, out, _ = run("data", "check", file, "--method", "llava-1.5", "--setting", tiny_setting)
    assert code == 2
    assert "lost" in out and "long" in out and "no.png" in out
    report = json.loads(run("data", "check", file, "--json")[1])
    assert report["ok"] is False


def test_train_evaluate_and_resume_from_the_saved_config(run, refused, data_file, tiny_setting, tmp_path):
    first = tmp_path / "first"
    words = ["--setting", tiny_setting, "--data", data_file, "stages.instruct.steps=2", "training.tensorboard=false"]
    code, out, err = run("train", "llava-1.5", *words, "--out", first)
    assert code == 0, err
    assert "connector" in out and "trainable" in out
    assert "--resume" in refused("train", "llava-1.5", *words, "--out", first)
    code, _, err = run("train", "--config", first / "config.yaml", "--out", tmp_path / "again")
    assert code == 0, err
    one, two = (load_file(folder / "model" / "trained.safetensors") for folder in (first, tmp_path / "again"))
    assert one.keys() == two.keys() and all((one[key] == two[key]).all() for key in one)
    task = "scenes:existence?num_items=6&image_size=32"
    code, out, err = run("evaluate", first, "--task", task, "--out", tmp_path / "scores", "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["n_items"] == 6 and row["task"] == "existence"
    lines = (tmp_path / "scores" / "existence.jsonl").read_text().splitlines()
    assert len(lines) == 6 and {"prompt", "decoding", "metric_version"} <= json.loads(lines[0]).keys()
    assert "existence" in run("evaluate", first, "--task", task, "--out", tmp_path / "scores")[1]
    code, out, err = run("evaluate", first, "--task", task, "--decoding", "likelihood", "--json")
    assert code == 0, err
    other = ("--decoding", "likelihood", "--out", tmp_path / "scores")
    assert "decoding" in refused("evaluate", first, "--task", task, *other)


def test_checkpoint_with_missing_or_extra_key(run, refused, data_file, tiny_setting, tmp_path):
    out = tmp_path / "run"
    words = ["--setting", tiny_setting, "--data", data_file, "stages.align.steps=1", "stages.instruct.steps=1"]
    assert run("train", "llava-1.5", *words, "--out", out)[0] == 0
    file = out / "model" / "trained.safetensors"
    weights, task = load_file(file), ("--task", "scenes:shape?num_items=1&image_size=32")
    lost = {key: value for key, value in weights.items() if key != "connector.layers.0.bias"}
    save_file(lost, file)
    assert "'connector.layers.0.bias'" in refused("evaluate", out, *task)
    save_file(weights | {"connector.layers.9.bias": weights["connector.layers.0.bias"].clone()}, file)
    assert "'connector.layers.9.bias'" in refused("evaluate", out, *task)
    file.write_bytes(file.read_bytes()[:100])
    assert "trained.safetensors" in refused("evaluate", out, *task)
    assert str(tmp_path) in refused("evaluate", tmp_path, *task)


def test_scenes_written_load_through_the_same_commands(run, tmp_path):
    code, _, err = run("data", "scenes", tmp_path / "world", "--num-train", 6, "--num-eval", 4, "--image-size", 32)
    assert code == 0, err
    code, out, _ = run("data", "check", tmp_path / "world" / "train.json")
    assert code == 0, out
