"""Tiny parts in the hub's layout, a setting made of them, and samples of every shape, shared by all tests."""

import gc
import json
from pathlib import Path

import pytest
import torch
import yaml
from hub_server import local_hub  # noqa: F401 - a fixture for all
from tiny import COLOURS, IMAGE_SIZE, clip, conversation, image, llama, picture, t5, train_tokenizer

from zoo.data.sample import Box, Medium, Sample
from zoo.registry import get_method, list_methods

# Sizes of the kinds of connectors whose published ones are large.
TINY_CONNECTORS = {
    "spatiotemporal": {"num_temporal": 9},
    "video_qformer": {
        "num_frame_queries": 3,
        "num_queries": 4,
        "max_frames": 8,
        "width": 32,
        "num_layers": 2,
        "num_heads": 2,
        "dropout": 0.0,
    },
    "gpt4roi": {
        "levels": [1, 2],
        "pyramid_scales": [2, 1],
        "width": 8,
        "num_rounds": 2,
        "num_groups": 2,
        "roi_size": 3,
    },
    "kosmos-2": {"num_queries": 4, "num_heads": 2, "dropout": 0.0},
    "qformer": {
        "num_queries": 4,
        "width": 32,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate": 48,
        "dim_common": 8,
        "dropout": 0.0,
        "instruction_tokenizer": "",
        "instruction_vocabulary": 0,
    },
    "context_content": {
        "content_grid": 2,
        "num_queries": 4,
        "width": 32,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate": 48,
        "dropout": 0.0,
        "instruction_tokenizer": "",
        "instruction_vocabulary": 0,
    },
    "position_resampler": {"num_queries": 4, "num_heads": 2},
    "token_merging": {"num_clusters": [8, 5, 4]},
    "resampler": {"num_latents": 4, "depth": 2, "num_heads": 2, "head_dim": 8},
}
# Open gates: behind closed ones no medium would matter, and nothing would be tested.
TINY_FUSIONS = {
    "gated_cross_attention": {"every": 1, "num_heads": 2, "head_dim": 8, "gate": 0.5},
    "idefics_cross_attention": {"every": 1, "gate": 0.5},
}


@pytest.fixture(scope="session", autouse=True)
def quick():
    # Two test processes share two cores; more threads only wait for each other.
    torch.set_num_threads(1)
    # The loop collects garbage after every stage, which takes long with all of torch and transformers in the heap.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory) -> Path:
    """Folder with encoder/ (CLIP, 16 patches), language_model/ (Llama, byte-level BPE) and encoder_decoder/ (T5)."""
    folder = tmp_path_factory.mktemp("parts")
    clip().save_pretrained(folder / "encoder")
    tokenizer = train_tokenizer()
    tokenizer.save_pretrained(folder / "language_model")
    llama(len(tokenizer)).save_pretrained(folder / "language_model")
    tokenizer.save_pretrained(folder / "encoder_decoder")
    t5(len(tokenizer)).save_pretrained(folder / "encoder_decoder")
    return folder


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """An image, several images, no image, a video, several turns, boxes; of different lengths."""
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
        conversation(
            "boxes",
            [("<image>\nWhat is at <box>?", "A green square at <box>.")],
            [image("green", 6)],
            [Box(x0=4, y0=3, x1=30, y1=20), Box(x0=5.5, y0=3, x1=31, y1=19)],
        ),
    ]


@pytest.fixture(scope="session")
def data_file(tmp_path_factory) -> Path:
    """LLaVA JSON of twelve samples with images, several images and none, half of them with a box."""
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
        elif number % 5 < 2:
            question, record["boxes"] = question.replace("square", "square <box>"), [[number, 2, 20 + number, 25]]
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
        "encoder_layers": [-2, -3, 1],
        "language_model": {"id": str(tiny_parts / "language_model")},
        "encoder_decoder": {"id": str(tiny_parts / "encoder_decoder")},
        "connector": TINY_CONNECTORS,
        "fusion": TINY_FUSIONS,
        "stages": {name: stage for name in sorted(names)},
        "training": {"micro_batch": 2, "tensorboard": False},
        "evaluation": {"tasks": ["existence"], "num_items": 8},
        "seeds": [0],
    }
    file = tiny_parts / "tiny.yaml"
    file.write_text(yaml.safe_dump(setting))
    return str(file)
