"""Every method against every other: paired differences by task, wins, ties and losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from zoo.evaluation.statistics import Difference, Interval, estimate_over_tasks, holm, paired_difference, verdict

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The scores of one method on one task: (seeds, items) with the ids and clusters of the items."""

    values: np.ndarray
    items: tuple[str, ...]
    clusters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """``first`` minus ``second`` on a task; ``p_corrected`` by Holm over all pairs and tasks of the comparison."""

    first: str
    second: str
    task: str
    difference: Difference
    p_corrected: float | None

    def outcome(self, method: str) -> str:
        """``win``, ``tie`` or ``loss`` for one of the two."""
        found = verdict(self.difference, self.p_corrected)
        if found not in ("better", "worse"):
            return "tie"
        return "win" if (found == "better") == (method == self.first) else "loss"


def scores_of(predictions: Sequence[Row]) -> dict[tuple[str, str], Scores]:
    """By method and task, the items in the order of the task's first run. Rows are those that ``summarise`` accepts."""
    runs: dict[tuple[str, str], dict[int, dict[str, Row]]] = {}
    for row in predictions:
        runs.setdefault((row["method"], row["task"]), {}).setdefault(row["seed"], {})[row["id"]] = row
    first: dict[str, tuple[str, ...]] = {}
    found = {}
    for (method, task), seeds in runs.items():
        rows = seeds[min(seeds)]
        items = first.setdefault(task, tuple(rows))
        values = np.asarray([[seeds[seed][item]["score"] for item in items] for seed in sorted(seeds)], dtype=float)
        clusters = tuple(str(rows[item].get("group") or item) for item in items)
        found[method, task] = Scores(values=values, items=items, clusters=clusters)
    return found


def pairwise(scores: Mapping[tuple[str, str], Scores], methods: Sequence[str], tasks: Sequence[str]) -> list[Pair]:
    """All pairs of methods on all tasks that both answered."""
    keys = [
        (first, second, task)
        for first, second in combinations(methods, 2)
        for task in tasks
        if (first, task) in scores and (second, task) in scores
    ]
    differences = [
        paired_difference(scores[first, task].values, scores[second, task].values, scores[first, task].clusters)
        for first, second, task in keys
    ]
    corrected = holm([difference.p for difference in differences])
    return [
        Pair(first=first, second=second, task=task, difference=difference, p_corrected=p)
        for (first, second, task), difference, p in zip(keys, differences, corrected, strict=True)
    ]


def tally(pairs: Sequence[Pair], method: str, other: str) -> dict[str, list[Pair]]:
    """The tasks on which ``method`` wins, ties and loses against ``other``."""
    between = [pair for pair in pairs if {pair.first, pair.second} == {method, other}]
    return {kind: [pair for pair in between if pair.outcome(method) == kind] for kind in ("win", "tie", "loss")}


def mean_over(scores: Mapping[tuple[str, str], Scores], method: str, tasks: Sequence[str]) -> Interval | None:
    """The mean of a method's means on ``tasks`` with its interval; None where it has not answered all of them."""
    parts = [scores.get((method, task)) for task in tasks]
    found = [(part.values, part.clusters) for part in parts if part is not None]
    if len(found) < len(tasks) or not found or len({len(values) for values, _ in found}) > 1:
        return None
    return estimate_over_tasks(found)
