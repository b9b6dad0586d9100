"""The report of a comparison: one HTML file without network access, whose one script sorts and filters."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from zoo.evaluation.charts import Curves, loss_chart, marker, stages_of, style_of, task_chart
from zoo.evaluation.entries import iterate_entries
from zoo.evaluation.overview import Overview
from zoo.evaluation.summary import Comparison, Result
from zoo.evaluation.table import (
    COST_LABELS,
    any_result_of,
    fallback_notes,
    format_chance,
    format_cost,
    format_difference,
    format_shuffled,
    marked,
    size_of,
)

MAX_IMAGE_SIDE = 384
MAX_FRAMES = 8
# Photographs are a tenth of their size as JPEG; drawings and small pictures stay exact.
MAX_PNG_BYTES = 30_000


def read_predictions(directory: str | Path) -> list[dict[str, Any]]:
    """The lines of predictions/METHOD/seed-N/TASK.jsonl below a comparison's directory, in the order of their paths."""
    paths = sorted(Path(directory, "predictions").glob("*/seed-*/*.jsonl"))
    return [row for path in paths for _, row in iterate_entries(path, None)]


def read_curves(directory: str | Path) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """The lines of runs/METHOD/seed-N/metrics.jsonl below a comparison's directory, by method and seed."""
    curves: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for path in sorted(Path(directory, "runs").glob("*/seed-*/metrics.jsonl")):
        seed = int(path.parent.name.removeprefix("seed-"))
        curves.setdefault(path.parent.parent.name, {})[seed] = [row for _, row in iterate_entries(path, None)]
    return curves


def write_report(
    path: str | Path,
    comparison: Comparison,
    *,
    curves: Curves,
    examples: Sequence[Mapping[str, Any]],
    config_diff: str,
    provenance: Mapping[str, str],
    predictions: Sequence[Mapping[str, Any]] = (),
    title: str | None = None,
) -> None:
    """Write the report to ``path`` (UTF-8, self-contained, images inline).

    Args:
        curves: rows with stage, step and loss, by method and seed.
        examples: dicts with task, question, references, image (a PIL image, or a list: the frames of a video), answers
            (method -> (text, whether right)) and optionally boxes ("reference", "question" or a method -> x0, y0, x1,
            y1 in pixels of the image, drawn on it).
        predictions: the rows that the comparison is made of, for groups of tasks and each method against every other.
        config_diff: the diff of the resolved configs as text; empty where there is none.
        provenance: what and when: command, versions, date, commit.
    """
    title = title or f"{', '.join(comparison.methods)}: comparison"
    legend = _legend(comparison)
    overview = Overview(comparison, predictions) if predictions else None
    missing = "<p>Needs the predictions, which are not here.</p>"
    script = _resource("report.js")
    charts = [loss_chart(curves, stage, comparison.methods) for stage in stages_of(curves)]
    page = Template(_resource("report.html")).substitute(
        script=script,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        overview_legend=legend,
        bars=overview.bars() if overview else missing,
        methods_table=overview.table() if overview else missing,
        cost_charts=overview.cost_charts() if overview else "",
        matrix=overview.matrix() if overview else missing,
        examples_note=escape(_examples_note(examples, comparison)),
        task_options=_options([str(example["task"]) for example in examples]),
        method_options="".join(
            f'<option value="{place}">{escape(method)}</option>' for place, method in enumerate(comparison.methods)
        ),
        title=escape(title),
        summary=escape(
            f"{len(comparison.methods)} methods on {len(comparison.tasks)} tasks; "
            f"baseline of the differences: {comparison.baseline}."
        ),
        legend=legend.replace("</ul>", _CHANCE_KEY + "</ul>"),
        loss_legend=legend,
        task_chart=task_chart(comparison),
        table=_score_table(comparison),
        notes="".join(f"<li>{escape(note)}</li>" for note in (*comparison.notes, *fallback_notes(comparison))),
        costs=_cost_table(comparison),
        loss_charts="".join(charts) or "<p>No training was recorded.</p>",
        examples="".join(_example(example, comparison.methods) for example in examples) or "<p>No examples.</p>",
        config_diff=escape(config_diff.strip() or "Nothing."),
        provenance="".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in provenance.items()),
    )
    Path(path).write_text(page, encoding="utf-8")


def _resource(name: str) -> str:
    return files("zoo.evaluation").joinpath(name).read_text(encoding="utf-8")


def _options(values: Sequence[str]) -> str:
    return "".join(f'<option value="{escape(value)}">{escape(value)}</option>' for value in dict.fromkeys(values))


def _examples_note(examples: Sequence[Mapping[str, Any]], comparison: Comparison) -> str:
    total = sum(any_result_of(comparison, task).num_items for task in comparison.tasks)
    note = f"{len(examples)} of {total} items, drawn at a fixed stride, with the answers of the first seed."
    if any(example.get("boxes") for example in examples):
        note += " Boxes: dashed the accepted one, yellow that of the question, in a method's colour its answer."
    return note


_CHANCE_KEY = (
    '<li><svg viewBox="0 0 30 14" aria-hidden="true"><line class="chance" x1="15" x2="15" y1="0" y2="14"/></svg>'
    "chance</li>"
)


def _legend(comparison: Comparison) -> str:
    entries = []
    for place, method in enumerate(comparison.methods):
        style = style_of(method, comparison.methods)
        key = f'<path class="{style} stroke" d="M1 7H29"/>{marker(place, 15, 7, style)}'
        entries.append(f'<li><svg viewBox="0 0 30 14" aria-hidden="true">{key}</svg>{escape(method)}</li>')
    return f'<ul class="legend">{"".join(entries)}</ul>'


def _head(first: Sequence[str], methods: Sequence[str]) -> str:
    return (
        "<thead><tr>" + "".join(f'<th scope="col">{escape(text)}</th>' for text in [*first, *methods]) + "</tr></thead>"
    )


def _score_table(comparison: Comparison) -> str:
    rows = []
    for task in comparison.tasks:
        results = [comparison.results.get((method, task)) for method in comparison.methods]
        any_result = any_result_of(comparison, task)
        size = f"{size_of(any_result)}; {any_result.metric}"
        cells = [
            f'<th scope="row">{escape(task)}<small>{escape(size)}</small></th>',
            f'<td data-value="{"" if any_result.chance is None else any_result.chance}">'
            f"{format_chance(any_result.chance)}</td>",
        ]
        for result in results:
            if result is None:
                cells.append('<td data-value="">-</td>')
                continue
            style = result.verdict if result.verdict in ("better", "worse") else "faint"
            difference = f'<small class="{style}">{escape(format_difference(result))}</small>'
            shuffled = f'<small class="faint">shuffled {text}</small>' if (text := format_shuffled(result)) else ""
            score = marked(result, comparison.fallbacks)
            cells.append(
                f'<td data-value="{result.interval.mean}">{score}{difference}{_figures(result)}{shuffled}</td>'
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = _head(["task", "chance"], comparison.methods)
    return f'<table class="sortable">{head}<tbody>{"".join(rows)}</tbody></table>'


def _figures(result: Result) -> str:
    """F1 and its like with their intervals, below the score."""
    parts = []
    for name, figure in result.extra.get("figures", {}).items():
        scale = 100 if name in ("f1", "auc") else 1
        known = figure["low"] is not None
        interval = f" [{scale * figure['low']:.1f}, {scale * figure['high']:.1f}]" if known else ""
        parts.append(f'<small class="faint">{escape(name.upper())} {scale * figure["mean"]:.1f}{interval}</small>')
    return "".join(parts)


def _cost_table(comparison: Comparison) -> str:
    rows = []
    for name, label in COST_LABELS.items():
        if any(name in costs for costs in comparison.costs.values()):
            cells = [f"<td>{format_cost(name, comparison.costs.get(method, {}))}</td>" for method in comparison.methods]
            rows.append(f'<tr><th scope="row">{escape(label)}</th>{"".join(cells)}</tr>')
    if not rows:
        return "<p>No costs were recorded.</p>"
    return f"<table>{_head(['per run'], comparison.methods)}<tbody>{''.join(rows)}</tbody></table>"


def _example(example: Mapping[str, Any], methods: Sequence[str]) -> str:
    images = example["image"] if isinstance(example["image"], list | tuple) else [example["image"]]
    kept = np.unique(np.linspace(0, len(images) - 1, min(MAX_FRAMES, len(images)), dtype=int)) if images else []
    described = escape(f"Image of the question: {example['question']}")
    frames = "".join(_picture(images[at], described, example.get("boxes", {}), methods) for at in kept)
    answers = []
    for method, (text, correct) in example["answers"].items():
        mark = '<span class="right">✓ right</span>' if correct else '<span class="wrong">✗ wrong</span>'
        answers.append(f"<li>{mark} <b>{escape(method)}</b>: {escape(str(text)) or '<i>(empty)</i>'}</li>")
    places = {method: str(place) for place, method in enumerate(methods)}
    answered = " ".join(places[method] for method in example["answers"] if method in places)
    right = " ".join(places[method] for method, (_, ok) in example["answers"].items() if ok and method in places)
    accepted = " / ".join(map(str, example["references"])) or "the dashed box"
    return (
        f'<article class="example" data-task="{escape(str(example["task"]))}" data-right="{right}" '
        f'data-answered="{answered}"><small>{escape(example["task"])}</small><div class="frames">{frames}</div>'
        f"<p><b>{escape(example['question'])}</b></p><p>Accepted: {escape(accepted)}</p>"
        f"<ul>{''.join(answers)}</ul></article>"
    )


def _picture(image: Image.Image, described: str, boxes: Mapping[str, Sequence[float]], methods: Sequence[str]) -> str:
    width, height = image.size
    small = image.convert("RGB")
    small.thumbnail((MAX_IMAGE_SIDE, MAX_IMAGE_SIDE))
    kind, encoded = "png", _encoded(small, "PNG", optimize=True)
    if len(encoded) > MAX_PNG_BYTES:
        kind, encoded = "jpeg", _encoded(small, "JPEG", quality=82)
    data = base64.b64encode(encoded).decode("ascii")
    parts = [f'<image href="data:image/{kind};base64,{data}" width="{width}" height="{height}"/>']
    for owner, (x0, y0, x1, y1) in boxes.items():
        style = f"{style_of(owner, methods)} stroke" if owner in methods else "reference"
        style = "question" if owner == "question" else style
        place = f'x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
        # A dark line below keeps any colour visible on any image.
        parts.append(f'<rect class="under box" {place}/>')
        parts.append(f'<rect class="{style} box" {place}><title>{escape(owner)}</title></rect>')
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{described}">{"".join(parts)}</svg>'


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()
