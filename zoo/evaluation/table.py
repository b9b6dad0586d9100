"""The comparison table as printed: for a terminal of 120 columns and for Markdown."""

import textwrap
from collections.abc import Mapping
from string import ascii_lowercase

from zoo.evaluation.capabilities import FALLBACKS
from zoo.evaluation.statistics import Interval
from zoo.evaluation.summary import Comparison, Result

TABLE_WIDTH = 120
LABEL_WIDTH = 26
COLUMN_WIDTH = 23
NO_DIFFERENCE = "no difference shown"
SHUFFLED = "shuffled"

COST_LABELS = {
    "visual_tokens": "visual tokens per image",
    "trainable_parameters": "trainable parameters",
    "total_parameters": "total parameters",
    "training_tokens": "training tokens",
    "supervised_tokens": "supervised tokens",
    "samples": "training samples",
    "seconds": "training time",
    "peak_memory_bytes": "peak memory",
}
PRINTED_COSTS = ("visual_tokens", "trainable_parameters", "training_tokens", "seconds", "peak_memory_bytes")


def format_interval(interval: Interval) -> str:
    """``"62.4 [58.1, 66.7]"``: percent with one decimal."""
    if interval.low is None or interval.high is None:
        return f"{100 * interval.mean:.1f} [no interval]"
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def format_difference(result: Result) -> str:
    """``"+12.3 (p = 0.004)"`` in percent points with the corrected p, ``"no difference shown"``, or ``"baseline"``.

    Empty for a result that was compared with nothing (``verdict`` is "").
    """
    if result.difference is None:
        return "" if result.verdict == "" else "baseline"
    if result.verdict == NO_DIFFERENCE or result.p_corrected is None:
        return NO_DIFFERENCE
    p = "p < 0.001" if result.p_corrected < 0.001 else f"p = {result.p_corrected:.3f}"
    return f"{100 * result.difference.mean:+.1f} ({p})"


def format_chance(chance: float | None) -> str:
    """``"50.0"``, or ``"-"`` where no chance level is known."""
    return "-" if chance is None else f"{100 * chance:.1f}"


def format_cost(name: str, costs: Mapping[str, float]) -> str:
    """``costs[name]`` with its unit, or ``"-"`` where the run did not record it."""
    if name not in costs:
        return "-"
    value = costs[name]
    if name == "peak_memory_bytes":
        return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
    if name == "seconds":
        return f"{value:.0f} s" if value < 7200 else f"{value / 3600:.1f} h"
    if value < 100_000:
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value / 1e3:.0f} k"


def marked(result: Result | None, fallbacks: tuple[str, ...]) -> str:
    """A result with the marks of the fallbacks it rests on, ``"62.4 [58.1, 66.7] a"``; ``"-"`` where there is none."""
    if result is None:
        return "-"
    marks = "".join(mark(name, fallbacks) for name in result.fallbacks)
    return f"{format_interval(result.interval)} {marks}".strip()


def mark(fallback: str, fallbacks: tuple[str, ...]) -> str:
    return ascii_lowercase[fallbacks.index(fallback)]


def fallback_notes(comparison: Comparison) -> list[str]:
    """What the marks mean."""
    return [f"{mark(name, comparison.fallbacks)}: {FALLBACKS[name]}." for name in comparison.fallbacks]


def render_table(comparison: Comparison) -> str:
    """The table as plain text of at most 120 columns; methods that do not fit beside each other follow below."""
    label_width = min(44, max(LABEL_WIDTH, *(len(task) + 10 for task in comparison.tasks)))
    num_columns = max(1, (TABLE_WIDTH - label_width) // COLUMN_WIDTH)
    panels = [comparison.methods[at : at + num_columns] for at in range(0, len(comparison.methods), num_columns)]
    lines: list[str] = []
    for methods in panels:
        lines += _panel(comparison, methods, label_width)
        lines.append("")
    notes = (*comparison.notes, *fallback_notes(comparison))
    return "\n".join([*lines, *(textwrap.fill(note, TABLE_WIDTH) for note in notes)])


def any_result_of(comparison: Comparison, task: str) -> Result:
    """A result on the task, for what all of them share: items, groups, metric, chance."""
    return next(result for (_, name), result in comparison.results.items() if name == task)


def size_of(result: Result) -> str:
    """``"240 items, 80 groups"``, and the score of the prior answers where it is known."""
    prior = f", prior {100 * result.extra['prior']:.1f}" if "prior" in result.extra else ""
    return f"{result.num_items} items, {result.num_clusters} groups{prior}"


def format_shuffled(result: Result | None) -> str:
    """The score on shuffled media, formatted as the score itself; empty where it was not taken."""
    if result is None or SHUFFLED not in result.extra:
        return ""
    return format_interval(Interval(**result.extra[SHUFFLED], covers=result.interval.covers))


def _panel(comparison: Comparison, methods: tuple[str, ...], label_width: int) -> list[str]:
    def line(label: str, cells: list[str]) -> str:
        return (f"{label:<{label_width}}" + "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells)).rstrip()

    rule = "-" * (label_width + COLUMN_WIDTH * len(methods))
    lines = [line(f"{'task':<{label_width - 8}}{'chance':>6}", [_shortened(name) for name in methods]), rule]
    for task in comparison.tasks:
        results = [comparison.results.get((method, task)) for method in methods]
        any_result = any_result_of(comparison, task)
        label = f"{task:<{label_width - 8}}{format_chance(any_result.chance):>6}"
        lines.append(line(label, [marked(result, comparison.fallbacks) for result in results]))
        lines.append(
            line(f"  {size_of(any_result)}", [format_difference(result) if result else "" for result in results])
        )
        if any(SHUFFLED in result.extra for result in results if result):
            lines.append(line("  shuffled", [format_shuffled(result) for result in results]))
    lines.append(rule)
    for name in PRINTED_COSTS:
        lines.append(
            line(COST_LABELS[name], [format_cost(name, comparison.costs.get(method, {})) for method in methods])
        )
    return lines


def _shortened(name: str) -> str:
    return name if len(name) < COLUMN_WIDTH else name[: COLUMN_WIDTH - 2] + "…"


def render_markdown(comparison: Comparison) -> str:
    """The same table for a README: a row per task, a column per method, the notes below."""
    lines = [
        _markdown_row(["task", "items", "chance", *comparison.methods]),
        _markdown_row(["---", "---:", "---:", *["---:"] * len(comparison.methods)]),
    ]
    for task in comparison.tasks:
        results = [comparison.results.get((method, task)) for method in comparison.methods]
        any_result = any_result_of(comparison, task)
        cells = [_markdown_cell(result, comparison.fallbacks) for result in results]
        prior = f"<br>prior {100 * any_result.extra['prior']:.1f}" if "prior" in any_result.extra else ""
        lines.append(_markdown_row([task + prior, str(any_result.num_items), format_chance(any_result.chance), *cells]))
    for name in PRINTED_COSTS:
        cells = [format_cost(name, comparison.costs.get(method, {})) for method in comparison.methods]
        lines.append(_markdown_row([COST_LABELS[name], "", "", *cells]))
    notes = (*comparison.notes, *fallback_notes(comparison))
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def _markdown_cell(result: Result | None, fallbacks: tuple[str, ...]) -> str:
    if result is None:
        return "-"
    parts = [marked(result, fallbacks), format_difference(result)]
    if shown := format_shuffled(result):
        parts.append(f"shuffled {shown}")
    return "<br>".join(part for part in parts if part)


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
