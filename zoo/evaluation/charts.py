"""Charts of the report as inline SVG. Colours come from the page's style sheet, so that light and dark both work."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from zoo.evaluation.summary import Comparison
from zoo.evaluation.table import any_result_of, format_chance, format_difference, format_interval

NUM_STYLES = 8
MAX_POINTS = 240

Curves = Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]


def style_of(method: str, methods: Sequence[str]) -> str:
    """The class that gives a method its colour; after eight methods the colours repeat."""
    return f"m{list(methods).index(method) % NUM_STYLES}"


def marker(shape: int, x: float, y: float, style: str, size: float = 4.5) -> str:
    """A point whose shape tells methods apart where the colour does not."""
    shape = (shape + shape // NUM_STYLES) % 4
    if shape == 0:
        return f'<circle class="{style} fill" cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'
    outlines = {
        1: ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        2: ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
        3: ((0, -1.2), (1.2, 1), (-1.2, 1)),
    }
    points = " ".join(f"{x + dx * size:.1f},{y + dy * size:.1f}" for dx, dy in outlines[shape])
    return f'<polygon class="{style} fill" points="{points}"/>'


def ticks(low: float, high: float, num_wanted: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) within [low, high]."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / num_wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * number for number in range(first, last + 1)]


def task_chart(comparison: Comparison) -> str:
    """Per task a mark with its 95 % interval for every method, and a dashed line at the chance level."""
    label_width = min(260, max(110, 8 * max(map(len, comparison.tasks)) + 20))
    left, right, top, row_height = label_width, 24, 26, 17
    width = 860
    band = row_height * len(comparison.methods) + 14
    height = top + band * len(comparison.tasks) + 10

    def x_of(fraction: float) -> float:
        return left + fraction * (width - left - right)

    parts = [
        f'<rect class="stripe" x="0" y="{top + band * number}" width="{width}" height="{band}"/>'
        for number in range(1, len(comparison.tasks), 2)
    ]
    for tick in range(0, 101, 20):
        x = x_of(tick / 100)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - 10}"/>')
        parts.append(f'<text class="axis" x="{x:.1f}" y="16" text-anchor="middle">{tick} %</text>')
    for number, task in enumerate(comparison.tasks):
        start = top + band * number
        parts.append(
            f'<text class="label" x="{left - 12}" y="{start + band / 2 + 4:.1f}" text-anchor="end">'
            f"{escape(_shortened(task, label_width // 8))}</text>"
        )
        chance = any_result_of(comparison, task).chance
        if chance is not None:
            x = x_of(chance)
            parts.append(
                f'<line class="chance" x1="{x:.1f}" x2="{x:.1f}" y1="{start + 3}" y2="{start + band - 3}">'
                f"<title>{escape(task)}: chance {format_chance(chance)} %</title></line>"
            )
        for place, method in enumerate(comparison.methods):
            y = start + 7 + row_height * (place + 0.5)
            result = comparison.results.get((method, task))
            if result is None:
                continue
            style = style_of(method, comparison.methods)
            described = f"{task}, {method}: {format_interval(result.interval)}; {format_difference(result)}"
            parts.append(f"<g><title>{escape(described)}</title>")
            interval = result.interval
            if interval.low is not None and interval.high is not None:
                low, high = x_of(interval.low), x_of(interval.high)
                ends = "".join(f"M{x:.1f} {y - 4:.1f}V{y + 4:.1f}" for x in (low, high))
                parts.append(f'<path class="{style} stroke" d="M{low:.1f} {y:.1f}H{high:.1f}{ends}"/>')
            parts.append(marker(place, x_of(interval.mean), y, style) + "</g>")
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Score of every method by task, in percent, with '
        f'95 % intervals; the numbers are in the table">{"".join(parts)}</svg>'
    )


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def stages_of(curves: Curves) -> list[str]:
    """The training stages of all runs, in the order in which they were trained."""
    names = (str(row["stage"]) for runs in curves.values() for rows in runs.values() for row in rows)
    return list(dict.fromkeys(names))


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving average over ``window`` values, shorter at both ends; the length stays."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first = np.maximum(at - (window - 1) // 2, 0)
    last = np.minimum(at + window // 2 + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def loss_chart(curves: Curves, stage: str, methods: Sequence[str]) -> str:
    """The loss of one stage, a line for each run, smoothed over a fortieth of its steps; the caption says so."""
    lines, windows = [], set()
    for method in methods:
        for seed, rows in curves.get(method, {}).items():
            points = [(row["step"], row["loss"]) for row in rows if str(row["stage"]) == stage]
            points = [(step, loss) for step, loss in points if loss is not None and math.isfinite(loss)]
            if points:
                steps, losses = (np.asarray(column, dtype=np.float64) for column in zip(*points, strict=True))
                windows.add(window := max(1, len(points) // 40))
                kept = np.unique(np.linspace(0, len(points) - 1, min(MAX_POINTS, len(points)), dtype=int))
                lines.append((method, seed, steps[kept], smooth(losses, window)[kept]))
    if not lines:
        return ""
    width, height, left, right, top, bottom = 420, 250, 46, 14, 12, 38
    last_step = max(steps[-1] for *_, steps, _ in lines)
    first_step = min(steps[0] for *_, steps, _ in lines)
    highest = max(losses.max() for *_, losses in lines) * 1.04 or 1.0

    def place(step: float, loss: float) -> tuple[float, float]:
        x = left + (step - first_step) / max(1, last_step - first_step) * (width - left - right)
        return x, height - bottom - loss / highest * (height - top - bottom)

    parts = []
    for loss in ticks(0, highest):
        y = place(first_step, loss)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{loss:g}</text>')
    for step in ticks(first_step, last_step, 4):
        x = place(step, 0)[0]
        parts.append(f'<text class="axis" x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{step:g}</text>')
    parts.append(
        f'<text class="axis" x="{(left + width - right) / 2}" y="{height - 5}" text-anchor="middle">step</text>'
    )
    for method, seed, steps, losses in lines:
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in zip(steps, losses, strict=True))
        title = f"<title>{escape(method)}, seed {escape(str(seed))}: {losses[-1]:.3f} at the end</title>"
        parts.append(f'<polyline class="{style_of(method, methods)} stroke" points="{path}">{title}</polyline>')
    window = f"over {max(windows)} steps" if max(windows) > 1 else "not smoothed"
    return (
        f"<figure><figcaption>Stage {escape(stage)}: loss, {'moving average ' if max(windows) > 1 else ''}{window}"
        f'</figcaption><svg viewBox="0 0 {width} {height}" role="img" aria-label="Training loss in stage '
        f'{escape(stage)}">{"".join(parts)}</svg></figure>'
    )
