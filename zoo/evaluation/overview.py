"""The report's view of methods as wholes: means over task groups, what they cost, and each against every other."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from zoo.evaluation.charts import marker, style_of, ticks
from zoo.evaluation.groups import grouped
from zoo.evaluation.pairs import Pair, Scores, mean_over, pairwise, scores_of, tally
from zoo.evaluation.statistics import Interval
from zoo.evaluation.summary import Comparison
from zoo.evaluation.table import COST_LABELS, format_cost, format_interval

ALL_TASKS = "all tasks"
CHARTED_COSTS = ("visual_tokens", "trainable_parameters")
_TIE = "tie"


class Overview:
    """What needs the predictions themselves; ``means`` by method and group, None where not all tasks were answered."""

    def __init__(self, comparison: Comparison, predictions: Sequence[Mapping[str, Any]]) -> None:
        self.comparison = comparison
        self.scores: dict[tuple[str, str], Scores] = scores_of(predictions)
        groups = grouped(comparison.tasks)
        self.groups = {ALL_TASKS: list(comparison.tasks)} | (groups if len(groups) > 1 else {})
        self.means: dict[tuple[str, str], Interval | None] = {
            (method, group): mean_over(self.scores, method, tasks)
            for method in comparison.methods
            for group, tasks in self.groups.items()
        }
        self.pairs: list[Pair] = pairwise(self.scores, comparison.methods, comparison.tasks)

    def table(self) -> str:
        """A row a method: means over groups and costs, sortable."""
        costs = [name for name in COST_LABELS if any(name in found for found in self.comparison.costs.values())]
        heads = ["method", *self.groups, *(COST_LABELS[name] for name in costs)]
        rows = []
        for method in self.comparison.methods:
            cells = [f'<th scope="row">{escape(method)}</th>']
            for group in self.groups:
                mean = self.means[method, group]
                shown = "-" if mean is None else format_interval(mean)
                cells.append(f'<td data-value="{"" if mean is None else mean.mean}">{shown}</td>')
            for name in costs:
                found = self.comparison.costs.get(method, {})
                cells.append(f'<td data-value="{found.get(name, "")}">{format_cost(name, found)}</td>')
            rows.append(f"<tr>{''.join(cells)}</tr>")
        head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
        return f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'

    def bars(self) -> str:
        """A bar with its interval for every method in every group of tasks."""
        methods = self.comparison.methods
        left, right, top, bar = 190, 24, 26, 16
        width, band = 860, bar * len(methods) + 18
        height = top + band * len(self.groups) + 8
        scale = (width - left - right) / 100
        parts = []
        for tick in range(0, 101, 20):
            x = left + tick * scale
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - 8}"/>')
            parts.append(f'<text class="axis" x="{x:.1f}" y="16" text-anchor="middle">{tick} %</text>')
        for number, group in enumerate(self.groups):
            start = top + band * number
            middle = start + band / 2 + 4
            parts.append(
                f'<text class="label" x="{left - 12}" y="{middle:.1f}" text-anchor="end">{escape(group)}</text>'
            )
            for place, method in enumerate(methods):
                mean = self.means[method, group]
                if mean is None:
                    continue
                y, end = start + 9 + bar * place, left + 100 * mean.mean * scale
                title = f"<title>{escape(f'{group}, {method}: {format_interval(mean)}')}</title>"
                style = style_of(method, methods)
                parts.append(
                    f'<g>{title}<rect class="{style} fill bar" x="{left}" y="{y + 2}" width="{end - left:.1f}" '
                    f'height="{bar - 4}"/>'
                )
                if mean.low is not None and mean.high is not None:
                    low, high = left + 100 * mean.low * scale, left + 100 * mean.high * scale
                    parts.append(f'<path class="whisker" d="M{low:.1f} {y + bar / 2}H{high:.1f}"/>')
                parts.append("</g>")
        return (
            f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Mean score by group of tasks with 95 % '
            f'intervals; the numbers are in the table of methods">{"".join(parts)}</svg>'
        )

    def cost_charts(self) -> str:
        """The mean over all tasks against visual tokens and against trainable parameters."""
        return "".join(self._scatter(name) for name in CHARTED_COSTS)

    def _scatter(self, cost: str) -> str:
        points = [
            (method, float(self.comparison.costs.get(method, {})[cost]), mean)
            for method in self.comparison.methods
            if cost in self.comparison.costs.get(method, {}) and (mean := self.means[method, ALL_TASKS])
        ]
        if len(points) < 2:
            return ""
        place_of, labels = _axis([value for _, value, _ in points])
        width, height, left, right, top, bottom = 420, 270, 46, 20, 12, 40

        def at(value: float, mean: float) -> tuple[float, float]:
            return left + place_of(value) * (width - left - right), height - bottom - mean * (height - top - bottom)

        parts = []
        for tick in range(0, 101, 20):
            y = at(points[0][1], tick / 100)[1]
            parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="axis" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick} %</text>')
        for value in labels:
            x = at(value, 0)[0]
            shown = format_cost(cost, {cost: value})
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}"/>')
            parts.append(f'<text class="axis" x="{x:.1f}" y="{height - 22}" text-anchor="middle">{shown}</text>')
        parts.append(
            f'<text class="axis" x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">'
            f"{COST_LABELS[cost]}</text>"
        )
        for method, value, mean in points:
            style, number = style_of(method, self.comparison.methods), self.comparison.methods.index(method)
            x, y = at(value, mean.mean)
            title = f"{method}: {format_interval(mean)} at {format_cost(cost, {cost: value})}"
            whisker = ""
            if mean.low is not None and mean.high is not None:
                low, high = at(value, mean.low)[1], at(value, mean.high)[1]
                whisker = f'<path class="{style} stroke" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
            parts.append(f"<g><title>{escape(title)}</title>{whisker}{marker(number, x, y, style)}</g>")
        label = f"Mean over all tasks against {COST_LABELS[cost]}"
        return (
            f'<figure><figcaption>{label}</figcaption><svg viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{label}; the numbers are in the table of methods">{"".join(parts)}</svg></figure>'
        )

    def matrix(self) -> str:
        """Wins, ties and losses of the row's method against the column's; a table of its own for each task."""
        if not self.pairs:
            return "<p>Nothing to compare: one method.</p>"
        options = "".join(f'<option value="{number}">{escape(task)}</option>' for number, task in enumerate(self.tasks))
        tables = [self._tallies(), *(self._differences(number, task) for number, task in enumerate(self.tasks))]
        return (
            '<p><label>Show <select id="matrix-task"><option value="all">wins / ties / losses over all tasks</option>'
            f"{options}</select></label></p>{''.join(tables)}"
        )

    @property
    def tasks(self) -> list[str]:
        return [task for task in self.comparison.tasks if any(pair.task == task for pair in self.pairs)]

    def _matrix_table(self, name: str, cells: Mapping[tuple[str, str], str]) -> str:
        methods = self.comparison.methods
        head = "".join(f'<th scope="col">{escape(method)}</th>' for method in ("", *methods))
        rows = "".join(
            f'<tr><th scope="row">{escape(method)}</th>'
            + "".join(cells.get((method, other), "<td>·</td>") for other in methods)
            + "</tr>"
            for method in methods
        )
        return (
            f'<div class="scroll" data-matrix="{name}"><table class="matrix"><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )

    def _tallies(self) -> str:
        cells = {}
        methods = self.comparison.methods
        for method in methods:
            for other in methods:
                if method == other:
                    continue
                found = tally(self.pairs, method, other)
                wins, ties, losses = (len(found[kind]) for kind in ("win", "tie", "loss"))
                style = "better" if wins > losses else "worse" if losses > wins else "faint"
                parts = [f"{kind}: {', '.join(pair.task for pair in pairs)}" for kind, pairs in found.items() if pairs]
                cells[method, other] = (
                    f'<td class="{style}" title="{escape("; ".join(parts))}">{wins} / {ties} / {losses}</td>'
                )
        return self._matrix_table("all", cells)

    def _differences(self, number: int, task: str) -> str:
        cells = {}
        for pair in self.pairs:
            if pair.task != task:
                continue
            for method, other, sign in ((pair.first, pair.second, 1), (pair.second, pair.first, -1)):
                style = {"win": "better", "loss": "worse", _TIE: "faint"}[pair.outcome(method)]
                p = "no test" if pair.p_corrected is None else _p(pair.p_corrected)
                difference = 100 * sign * pair.difference.mean
                cells[method, other] = f'<td class="{style}">{difference:+.1f}<small>{p}</small></td>'
        return self._matrix_table(str(number), cells)


def _p(value: float) -> str:
    return "p &lt; 0.001" if value < 0.001 else f"p = {value:.3f}"


def _axis(values: Sequence[float]) -> tuple[Any, list[float]]:
    """From a value to its place in [0, 1], and round values to label; logarithmic over more than a factor of 20.

    A zero has no logarithm: it stands at the left, half a decade before the smallest value.
    """
    positive = [value for value in values if value > 0]
    margin = 0.06
    if not positive or max(positive) / min(positive) <= 20:
        low, high = min(values), max(values)
        span = (high - low) or max(high, 1.0)
        return lambda value: margin + (1 - 2 * margin) * (value - low) / span, ticks(low, high, 4)
    logs = {value: math.log10(value) for value in positive}
    low = min(logs.values()) - (0.5 if 0 in values else 0.0)
    span = max(logs.values()) - low

    def place(value: float) -> float:
        return margin + (1 - 2 * margin) * ((math.log10(value) if value > 0 else low) - low) / span

    decades = range(math.ceil(min(logs.values()) - 1e-9), math.floor(max(logs.values()) + 1e-9) + 1)
    return place, ([0.0] if 0 in values else []) + [10.0**power for power in decades]
