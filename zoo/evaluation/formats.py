"""The table of a comparison in every format: for a terminal, Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Callable
from typing import Any

from zoo.evaluation.summary import COST_NAMES, Comparison, Result
from zoo.evaluation.table import (
    COST_LABELS,
    NO_DIFFERENCE,
    PRINTED_COSTS,
    any_result_of,
    fallback_notes,
    format_chance,
    format_cost,
    mark,
    render_markdown,
    render_table,
)

CSV_COLUMNS = (
    "task",
    "method",
    "metric_version",
    "n_items",
    "n_clusters",
    "seeds",
    "mean",
    "low",
    "high",
    "interval_covers",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "p_corrected",
    "verdict",
    "chance",
    "prior",
    "shuffled",
    "fallbacks",
)
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def render_csv(comparison: Comparison) -> str:
    """A line per task and method, fractions at full precision, the costs of the method's run behind them."""
    costs = [name for name in COST_NAMES if any(name in found for found in comparison.costs.values())]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*CSV_COLUMNS, *costs], lineterminator="\n")
    writer.writeheader()
    for row in comparison.rows():
        difference = row["difference"] or {}
        values: dict[str, Any] = {name: row.get(name) for name in CSV_COLUMNS if name in row}
        values |= {
            "seeds": " ".join(map(str, row["seeds"])),
            "difference": difference.get("mean"),
            "difference_low": difference.get("low"),
            "difference_high": difference.get("high"),
            **{name: difference.get(name) for name in ("p", "p_corrected", "verdict")},
            "shuffled": row.get("shuffled", {}).get("mean"),
            "fallbacks": " ".join(row["fallbacks"]),
        }
        writer.writerow(values | {name: comparison.costs.get(row["method"], {}).get(name) for name in costs})
    return text.getvalue().rstrip("\n")


def escape_latex(text: str) -> str:
    """Text as LaTeX sets it literally."""
    return "".join(_LATEX.get(character, character) for character in text)


def render_latex(comparison: Comparison) -> str:
    """A table environment for booktabs: mean with its interval below; arrows mark what differs from the baseline."""
    head = ["task", "chance", *map(escape_latex, comparison.methods)]
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
    ]
    for task in comparison.tasks:
        results = [comparison.results.get((method, task)) for method in comparison.methods]
        cells = [escape_latex(task), format_chance(any_result_of(comparison, task).chance)]
        lines.append(" & ".join([*cells, *(_latex_score(comparison, result) for result in results)]) + r" \\")
        lines.append(" & ".join(["", "", *(_latex_interval(result) for result in results)]) + r" \\")
    lines.append(r"\midrule")
    for name in PRINTED_COSTS:
        if any(name in found for found in comparison.costs.values()):
            costs = [format_cost(name, comparison.costs.get(method, {})) for method in comparison.methods]
            lines.append(" & ".join([COST_LABELS[name], "", *map(escape_latex, costs)]) + r" \\")
    notes = [*comparison.notes, *fallback_notes(comparison)]
    if any(result.difference for result in comparison.results.values()):
        notes.append("Arrows: better or worse than the baseline at p < 0.05.")
    lines += [r"\bottomrule", r"\end{tabular}", r"\caption{" + escape_latex(" ".join(notes)) + "}", r"\end{table}"]
    return "\n".join(lines)


def _latex_score(comparison: Comparison, result: Result | None) -> str:
    if result is None:
        return "--"
    arrow = {"better": r"$^{\uparrow}$", "worse": r"$^{\downarrow}$", NO_DIFFERENCE: ""}.get(result.verdict or "", "")
    marks = "".join(mark(name, comparison.fallbacks) for name in result.fallbacks)
    return f"{100 * result.interval.mean:.1f}{arrow}" + (rf"\textsuperscript{{{marks}}}" if marks else "")


def _latex_interval(result: Result | None) -> str:
    if result is None or result.interval.low is None or result.interval.high is None:
        return ""
    return rf"{{\scriptsize [{100 * result.interval.low:.1f}, {100 * result.interval.high:.1f}]}}"


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "terminal": render_table,
    "markdown": render_markdown,
    "csv": render_csv,
    "latex": render_latex,
}
SUFFIXES = {"terminal": "txt", "markdown": "md", "csv": "csv", "latex": "tex"}
