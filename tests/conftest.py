"""Tiny parts in the hub's layout, a setting made of them, and samples of every shape, shared by all tests."""

import gc
import json
from pathlib import Path

import pytest
import torch
import yaml
from tiny import COLOURS, IMAGE_SIZE, clip, conversation, image, llama, picture, train_tokenizer

from zoo.data.sample import Medium, Sample
from zoo.registry import get_method, list_methods


@pytest.fixture(scope="session", autouse=True)
def quick():
    # Two test processes share two cores; more threads only wait for each other.
    torch.set_num_threads(1)
    # The loop collects garbage after every stage, which takes long with all of torch and transformers in the heap.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory) -> Path:
    """Folder with encoder/ (CLIP, 16 patches) and language_model/ (Llama with a byte-level tokenizer)."""
    folder = tmp_path_factory.mktemp("parts")
    clip().save_pretrained(folder / "encoder")
    tokenizer = train_tokenizer()
    tokenizer.save_pretrained(folder / "language_model")
    llama(len(tokenizer)).save_pretrained(folder / "language_model")
    return folder


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """An image, several images, no image, a video, several turns; of different lengths."""
    video = Medium(kind="video", source=[picture(colour, seed=7) for colour in ("red", "green", "blue")], name="video")
    pair = [image("red", 1), image("blue", 2, (24, 24))]
    return [
        conversation("image", [("<image>\nWhat colour is the square?", "The square is red.")], [image("red")]),
        conversation("pair", [("First <image>, then <image>. Which is blue?", "The second.")], pair),
        conversation("text", [("Is water wet?", "Yes.")]),
        conversation("video", [("<video>\nWhich colours, in order?", "Red, green, blue.")], [video]),
        conversation(
            "turns",
            [("<image>\nWhat colour?", "White."), ("Really?", "Yes, the square is white.")],
            [image("white", 3)],
        ),
        conversation("short", [("<image>\nColour?", "Blue.")], [image("blue", 4)]),
        conversation("tall", [("<image>\nIs the square red or green?", "Green.")], [image("green", 5, (20, 50))]),
        conversation("second", [("<image>\nWhat is it?", "A green square.")], [image("green", 6)]),
    ]


@pytest.fixture(scope="session")
def data_file(tmp_path_factory) -> Path:
    """LLaVA JSON of twelve samples with images, several images and none."""
    folder = tmp_path_factory.mktemp("data")
    records = []
    for number in range(12):
        colour = list(COLOURS)[number % 4]
        picture(colour, seed=number).save(folder / f"{number}.png")
        question, answer = f"<image>\nWhat colour is square {number}?", f"The square is {colour}."
        record = {"id": f"sample-{number}", "image": f"{number}.png"}
        if number % 5 == 3:
            question, record = question.removeprefix("<image>\n"), {"id": f"sample-{number}"}
        elif number % 5 == 4:
            question, record["image"] = "<image> or <image>?", ["0.png", "1.png"]
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        records.append(record | {"conversations": turns})
    (folder / "train.json").write_text(json.dumps(records))
    return folder / "train.json"


@pytest.fixture(scope="session")
def tiny_setting(tiny_parts, data_file) -> str:
    """Path of a setting under which every registered method runs in seconds."""
    names = {stage.name for method in list_methods() for stage in get_method(method).stages}
    stage = {"data": str(data_file), "steps": 3, "batch": 4, "lr": 3e-3, "part_lr": {}, "max_length": 512}
    setting = {
        "description": "tiny random parts, for tests",
        "encoder": {"id": str(tiny_parts / "encoder"), "image_size": IMAGE_SIZE},
        "language_model": {"id": str(tiny_parts / "language_model")},
        "stages": {name: stage for name in sorted(names)},
        "training": {"micro_batch": 2, "tensorboard": False},
        "evaluation": {"tasks": ["existence"], "num_items": 8},
        "seeds": [0],
    }
    file = tiny_parts / "tiny.yaml"
    file.write_text(yaml.safe_dump(setting))
    return str(file)
