"""What the report shows beside the numbers: example answers and where everything came from."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from zoo.comparison.job import task_items
from zoo.data.media import load_frames
from zoo.run import RunConfig

EXAMPLES_PER_TASK = 2
# A stride that shares no factor with the number of answers of a task: examples are drawn, not chosen by eye.
EXAMPLE_STRIDE = 17


def collect_examples(predictions: list[dict[str, Any]], config: RunConfig) -> list[dict[str, Any]]:
    """A few items of every task with each method's answer at the first seed; drawn at a fixed stride, not chosen."""
    answers: dict[str, dict[str, tuple[str, bool]]] = {}
    first_seed = config.seed
    for row in predictions:
        if row["seed"] == first_seed:
            answers.setdefault(row["id"], {})[row["method"]] = (row["prediction"], row["score"] >= 0.5)
    examples = []
    for items in task_items(config):
        for item in items[::EXAMPLE_STRIDE][:EXAMPLES_PER_TASK]:
            frames = [load_frames(medium, sample_id=item.sample.id) for medium in item.sample.media]
            question = item.sample.messages[-1].content
            example = {
                "task": item.task,
                "question": question.replace("<image>", "").replace("<video>", "").strip(),
                "references": list(item.references),
                "image": frames[0] if len(frames[0]) > 1 else frames[0][0],
                "answers": answers[item.sample.id],
            }
            if item.boxes:
                box = item.boxes[0]
                example["boxes"] = {"reference": (box.x0, box.y0, box.x1, box.y1)}
            examples.append(example)
    return examples


def provenance(names: Sequence[str], setting: str, seeds: Sequence[int], overrides: Sequence[str]) -> dict[str, str]:
    """What and when, for the report: command, versions, machine, date, commit."""
    seeds_text = ",".join(map(str, seeds))
    command = ["zoo compare", *(name for name in names), f"--setting {setting}", f"--seeds {seeds_text}", *overrides]
    root = Path(__file__).resolve().parent.parent
    commit = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "command": " ".join(command),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or "unknown (not a git checkout)",
        "versions": ", ".join(
            f"{name} {version}"
            for name, version in (
                ("Python", platform.python_version()),
                ("torch", torch.__version__),
                ("transformers", transformers.__version__),
            )
        ),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
