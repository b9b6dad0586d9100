"""What ``zoo benchmarks`` prints."""

import textwrap
from typing import Any

from zoo.data.sample import Message
from zoo.data.templates import get_template
from zoo.evaluation.benchmarks.benchmark import GROUPS, Benchmark, Prompt
from zoo.evaluation.benchmarks.registry import list_benchmarks
from zoo.evaluation.benchmarks.styles import STYLES
from zoo.evaluation.metrics import get_metric

WIDTH = 118


def describe(benchmark: Benchmark) -> dict[str, Any]:
    """Everything about a benchmark, for JSON."""
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "group": benchmark.group,
        "source": benchmark.source,
        "metric": benchmark.metric,
        "judged": benchmark.judged,
        "splits": {split: dict(places) for split, places in benchmark.splits.items()},
        "demonstrations": benchmark.train or None,
        "prompts": {style: _prompt(benchmark, prompt) for style, prompt in benchmark.prompts.items()},
        "notes": list(benchmark.notes),
    }


def _prompt(benchmark: Benchmark, prompt: Prompt) -> dict[str, str]:
    shown = {"prompt": prompt.text}
    if prompt.form:
        form = prompt.form(get_template("openflamingo"))
        asked = form.render((Message(role="user", content=f"<image>\n{prompt.text}".strip()),), generation=True)
        shown["as asked"] = "".join(segment.text for segment in asked)
    return shown | {
        "decoding": prompt.decoding.describe(),
        "processing": prompt.processing,
        "metric": prompt.metric or benchmark.metric,
        "source": prompt.source,
    }


def render_list() -> str:
    """A line a benchmark, by group."""
    benchmarks = list_benchmarks()
    names = max(len(benchmark.name) for benchmark in benchmarks)
    metrics = max(len(benchmark.metric) for benchmark in benchmarks)
    lines = []
    for group in GROUPS:
        inside = [benchmark for benchmark in benchmarks if benchmark.group == group]
        if inside:
            lines.append(f"{group}:")
        lines += [
            f"  {one.name:<{names}}  {one.metric:<{metrics}}  {one.title}{' (judged)' if one.judged else ''}"
            for one in inside
        ]
    return "\n".join(lines)


def render(benchmark: Benchmark) -> str:
    """Files, prompts by style, metric and how to run it, for a terminal."""
    metric = get_metric(benchmark.metric)
    lines = [
        f"{benchmark.name}: {benchmark.title}",
        f"  source:  {benchmark.source}",
        f"  metric:  {metric.full_name}, {metric.summary}",
        f"  judge:   {'yes: a language model grades the answers' if benchmark.judged else 'no'}",
    ]
    for split, places in benchmark.splits.items():
        lines.append(f"  split {split}{' (default)' if split == benchmark.default_split else ''}, below FOLDER:")
        width = max(map(len, places)) + 1
        lines += [f"    {role + ':':<{width}} {place.replace('|', '  or  ')}" for role, place in places.items()]
    for style, prompt in benchmark.prompts.items():
        lines.append(f"  prompt in style {style} ({STYLES[style][0]}):")
        lines.append(f"    {prompt.text!r}")
        for name, text in _prompt(benchmark, prompt).items():
            if name != "prompt" and not (name == "metric" and not prompt.metric):
                lines += textwrap.wrap(
                    f"{name + ':':<11} {text}", WIDTH, initial_indent="    ", subsequent_indent=" " * 16
                )
    for note in benchmark.notes:
        lines += textwrap.wrap(f"note: {note}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    lines.append(f"  run:     zoo evaluate MODEL --task {benchmark.name}:FOLDER")
    if benchmark.train:
        lines.append(
            f"  shots:   --task '{benchmark.name}:FOLDER?shots=4&selection=similar' (0, 4, 8, 16, 32; random or "
            f"similar), from split {benchmark.train}"
        )
    return "\n".join(lines)
