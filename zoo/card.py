"""The card of trained weights (README.md on the hub), generated from the run alone: nothing in it is typed by hand."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

from zoo.config import Stage
from zoo.evaluation.capabilities import FALLBACKS
from zoo.evaluation.statistics import Interval
from zoo.evaluation.summary import summarise
from zoo.evaluation.tasks import chance_levels
from zoo.hub import is_hub_id
from zoo.registry import entry
from zoo.run import RunConfig

LIBRARY = "visual-instruction-zoo"
# The fingerprint of a part that was trained whole.
_NOTHING = hashlib.sha256().hexdigest()[:16]


def render_card(
    config: RunConfig,
    weights: Path,
    *,
    name: str,
    totals: Mapping[str, Any] | None = None,
    predictions: Sequence[Mapping[str, Any]] = (),
    licence: str | None = None,
) -> str:
    """The card as Markdown with the hub's YAML header.

    Args:
        weights: the file of trained parameters; its header names the frozen bases.
        name: id or folder that the weights are loaded by.
        totals: what the run counted (done.json).
        predictions: rows of an evaluation of this run (OUT/TASK.jsonl of ``zoo evaluate`` or ``zoo compare``).
    """
    with safe_open(weights, framework="pt") as file:
        bases = json.loads((file.metadata() or {}).get("bases", "[]"))
        sizes = {key: file.get_slice(key).get_shape() for key in file.keys()}
    facts = entry(config.method.name)
    paper = facts["paper"]
    sections = [
        _header(config, bases, licence),
        f"# {config.name}" + (f", trained under {config.setting}" if config.setting else ""),
        f"{facts['summary']} Method of {paper['authors']} {paper['year']}, *{paper['title']}*"
        + (f" ([arXiv {paper['arxiv']}](https://arxiv.org/abs/{paper['arxiv']}))." if paper["arxiv"] else "."),
        f"Weights of seed {config.seed}, trained with {LIBRARY}; they are what was trained, on the bases below.",
        "## Use\n\n```\nzoo chat " + name + " --image FILE\n```\n\n```python\nimport zoo\n\nmodel = zoo.load("
        f'"{name}")\n```',
        _parts(config, bases, sizes),
        _training(config, totals),
        _evaluation(config, predictions),
    ]
    return "\n\n".join(sections) + "\n"


def _header(config: RunConfig, bases: Sequence[Mapping[str, Any]], licence: str | None) -> str:
    header: dict[str, Any] = {
        "library_name": LIBRARY,
        "pipeline_tag": "image-text-to-text",
        "tags": ["visual-instruction-tuning", config.method.name],
    }
    if licence:
        header["license"] = licence
    if ids := [base["id"] for base in bases if is_hub_id(base["id"])]:
        header["base_model"] = ids
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _parts(config: RunConfig, bases: Sequence[Mapping[str, Any]], sizes: Mapping[str, Sequence[int]]) -> str:
    method = config.method
    base_of = {base["part"]: base for base in bases}
    rows = []
    for part in ("encoder", "connector", "fusion", "language_model"):
        described = getattr(method, part)
        if described is None:
            continue
        what = getattr(described, "id", "") or getattr(described, "kind", "") or "from its config"
        if (base := base_of.get(part)) and base["revision"]:
            what += f" at {base['revision']}"
        number = sum(_product(shape) for key, shape in sizes.items() if key.startswith(f"{part}."))
        frozen = "" if base is None or base["fingerprint"] == _NOTHING else base["fingerprint"]
        rows.append([part, what, f"{number:,}", frozen])
    table = _table(["part", "what", "trained parameters in this file", "fingerprint of what is not"], rows)
    return f"## Parts\n\n{table}\n\nTemplate `{method.template}`, boxes as `{method.box_codec}`."


def _product(shape: Sequence[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def _training(config: RunConfig, totals: Mapping[str, Any] | None) -> str:
    rows = [
        [
            stage.name,
            f"`{_shown(stage.data)}`",
            ", ".join(f"{part} {mode}" for part, mode in stage.train.items()),
            _amount(stage),
            stage.batch,
            _rates(stage),
            stage.schedule,
        ]
        for stage in config.method.stages
    ]
    text = "## Training\n\n" + _table(["stage", "data", "trains", "length", "batch", "rate", "schedule"], rows)
    if totals:
        text += (
            f"\n\n{totals['samples']:,} samples, {totals['tokens']:,} tokens ({totals['supervised_tokens']:,} of them "
            f"supervised), {totals['seconds']:,.0f} seconds."
        )
    return text + "\n\nThe resolved `config.yaml` repeats it: `zoo train --config config.yaml --out runs/again`."


def _shown(data: str) -> str:
    """A data spec without the folders of the machine that it was read on."""
    return data if ":" in data else Path(data).name


def _amount(stage: Stage) -> str:
    return f"{stage.steps} steps" if stage.steps is not None else f"{stage.epochs:g} epochs"


def _rates(stage: Stage) -> str:
    """The rate, and those of the parts trained here that have their own."""
    trained = {key.partition(".")[0] for key in stage.train}
    own = {key: lr for key, lr in stage.part_lr.items() if key.partition(".")[0] in trained}
    return f"{stage.lr:g}" + "".join(f"<br>{key} {lr:g}" for key, lr in own.items())


def _evaluation(config: RunConfig, predictions: Sequence[Mapping[str, Any]]) -> str:
    if not predictions:
        return "## Evaluation\n\nNone was made of this run."
    tasks = list(dict.fromkeys(row["task"] for row in predictions))
    found = summarise(predictions, baseline=predictions[0]["method"], chance=chance_levels(tasks))
    rows = []
    for task in found.tasks:
        result = found.results[found.baseline, task]
        interval, chance = result.interval, result.chance
        rows.append(
            [
                task,
                result.num_items,
                result.metric_version,
                f"{100 * interval.mean:.1f}{_bounds(interval)}",
                "" if chance is None else f"{100 * chance:.1f}",
                "; ".join(FALLBACKS[need] for need in result.fallbacks),
            ]
        )
    decodings = sorted({row["decoding"] for row in predictions})
    table = _table(["task", "items", "metric", "percent [95 % interval]", "chance", "fallbacks"], rows)
    notes = "\n".join(f"- {note}" for note in (*found.notes, f"Decoding: {'; '.join(decodings)}."))
    return f"## Evaluation\n\n{table}\n\n{notes}"


def _bounds(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
