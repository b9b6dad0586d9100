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
from zoo.evaluation.leaderboard import merge, read_source
from zoo.evaluation.report import write_report
from zoo.evaluation.summary import Comparison
from zoo.run import CONFIG_FILE, RunConfig, load_run

EXAMPLES_PER_TASK = 36
# A stride that shares no factor with the number of answers of a task: examples are drawn, not chosen by eye.
EXAMPLE_STRIDE = 17


def collect_examples(predictions: list[dict[str, Any]], config: RunConfig) -> list[dict[str, Any]]:
    """Items of every task with each method's answer at the first seed; drawn at a fixed stride, not chosen."""
    answers: dict[str, dict[str, tuple[str, bool]]] = {}
    found_boxes: dict[str, dict[str, tuple[float, ...]]] = {}
    first_seed = config.seed
    for row in predictions:
        if row["seed"] == first_seed:
            answers.setdefault(row["id"], {})[row["method"]] = (row["prediction"], row["score"] >= 0.5)
            if row["metric"] == "box_iou" and row["parsed"]:
                box = tuple(float(value) for value in row["parsed"].split())
                found_boxes.setdefault(row["id"], {})[row["method"]] = box
    examples = []
    for items in task_items(config):
        places = dict.fromkeys(EXAMPLE_STRIDE * number % len(items) for number in range(EXAMPLES_PER_TASK))
        for item in (items[place] for place in places if items[place].sample.id in answers):
            frames = [load_frames(medium, sample_id=item.sample.id) for medium in item.sample.media]
            question = item.sample.messages[-1].content
            example = {
                "task": item.task,
                "question": question.replace("<image>", "").replace("<video>", "").strip(),
                "references": list(item.references),
                "image": frames[0] if len(frames[0]) > 1 else frames[0][0],
                "answers": answers[item.sample.id],
            }
            shown = {"question": item.sample.boxes, "reference": item.boxes}
            boxes = {owner: (one[0].x0, one[0].y0, one[0].x1, one[0].y1) for owner, one in shown.items() if one}
            example["boxes"] = boxes | found_boxes.get(item.sample.id, {})
            examples.append(example)
    return examples


def write_leaderboard(
    path: str | Path, directories: Sequence[str | Path], comparison: Comparison, *, separate: bool = False
) -> None:
    """The report of several folders; items with pictures come from the first folder of ``zoo compare`` among them."""
    merged = merge([read_source(directory) for directory in directories], separate=separate)
    configs = [
        file for directory in directories for file in sorted(Path(directory).glob(f"runs/*/seed-*/{CONFIG_FILE}"))
    ]
    predictions = list(merged.predictions)
    write_report(
        path,
        comparison,
        curves={},
        examples=collect_examples(predictions, load_run(configs[0])) if configs else [],
        config_diff="",
        predictions=predictions,
        provenance={
            "command": " ".join(["zoo leaderboard", *map(str, directories)]),
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        },
        title=f"{', '.join(comparison.methods)}: leaderboard",
    )


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
