"""What a comparison found: from prediction rows and the runs' costs to one result per method and task."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.errors import ZooError, nearest
from zoo.evaluation.metrics import summarise_yes_no
from zoo.evaluation.set_figures import set_figures
from zoo.evaluation.statistics import Difference, Interval, estimate, holm, paired_difference, verdict

COST_NAMES = (
    "visual_tokens",
    "trainable_parameters",
    "total_parameters",
    "training_tokens",
    "supervised_tokens",
    "samples",
    "seconds",
    "peak_memory_bytes",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One method on one task, scores and differences as fractions; ``difference`` is None for the baseline.

    ``fallbacks``: what the task asks for and the method was not made for, replaced as ``capabilities.FALLBACKS`` says.
    """

    method: str
    task: str
    metric: str
    metric_version: str
    num_items: int
    num_clusters: int
    interval: Interval
    per_seed: Mapping[int, float]
    difference: Difference | None = None
    p_corrected: float | None = None
    verdict: str | None = None
    chance: float | None = None
    fallbacks: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The line of results.jsonl."""
        difference = None
        if self.difference is not None:
            difference = {
                **{name: getattr(self.difference, name) for name in ("mean", "low", "high", "p")},
                "p_corrected": self.p_corrected,
                "verdict": self.verdict,
            }
        return {
            "method": self.method,
            "task": self.task,
            "metric": self.metric,
            "metric_version": self.metric_version,
            "n_items": self.num_items,
            "n_clusters": self.num_clusters,
            "seeds": list(self.per_seed),
            "mean": self.interval.mean,
            "low": self.interval.low,
            "high": self.interval.high,
            "interval_covers": self.interval.covers,
            "per_seed": {str(seed): mean for seed, mean in self.per_seed.items()},
            "difference": difference,
            "chance": self.chance,
            "fallbacks": list(self.fallbacks),
            **self.extra,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Methods (the baseline first) and tasks in the order of their first prediction; ``costs`` by method and name.

    A method and task without a result cannot be had: the method has no form for the task, and there is no fallback.
    """

    baseline: str
    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    results: Mapping[tuple[str, str], Result]
    costs: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """What results.jsonl holds: one row per task and method."""
        pairs = [(method, task) for task in self.tasks for method in self.methods]
        return [self.results[pair].row() for pair in pairs if pair in self.results]

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Those that some result rests on, in the order of their marks in the tables (a, b, ...)."""
        return tuple(sorted({name for result in self.results.values() for name in result.fallbacks}))


def summarise(
    predictions: Sequence[Mapping[str, Any]],
    costs: Sequence[Mapping[str, Any]] = (),
    *,
    baseline: str,
    chance: Mapping[str, float] | None = None,
    impossible: Mapping[tuple[str, str], str] | None = None,
) -> Comparison:
    """Compare every method with ``baseline`` on every task.

    ``predictions``: the lines of predictions/METHOD/seed-N/TASK.jsonl, each with method, seed, task, id, group, score
    (in [0, 1]), metric and metric_version; parsed and references feed the yes/no figures, unseen those on new
    combinations;
    ``costs``: one record per method and seed; ``chance``: the chance level of a task as a fraction; ``impossible``:
    what a method lacks that has no predictions for a task. P-values are corrected by Holm over the methods of a task.

    Raises ZooError if methods or seeds did not answer the same items, or were scored by different versions of a metric.
    """
    grouped = _grouped(predictions)
    methods = list(dict.fromkeys(row["method"] for row in predictions))
    tasks = tuple(dict.fromkeys(row["task"] for row in predictions))
    if baseline not in methods:
        raise ZooError(f"baseline {baseline!r} has no predictions.{nearest(baseline, methods)}")
    methods = (baseline, *(method for method in methods if method != baseline))
    results: dict[tuple[str, str], Result] = {}
    for task in tasks:
        able = [method for method in methods if (method, task) not in (impossible or {})]
        results |= _summarise_task(task, grouped, able, (chance or {}).get(task), baseline)
    return Comparison(
        baseline=baseline,
        methods=methods,
        tasks=tasks,
        results=results,
        costs={method: _cost_of(method, costs) for method in methods},
        notes=(*_notes(predictions, results), *_dashes(impossible or {})),
    )


_Runs = dict[tuple[str, str, int], dict[str, Mapping[str, Any]]]


def _grouped(predictions: Sequence[Mapping[str, Any]]) -> _Runs:
    runs: _Runs = {}
    for row in predictions:
        missing = [
            key for key in ("id", "method", "seed", "task", "metric", "metric_version", "score") if key not in row
        ]
        if missing:
            raise ZooError(f"prediction row {row.get('id', row)!r} lacks {', '.join(missing)}; evaluate the run again")
        rows = runs.setdefault((row["task"], row["method"], row["seed"]), {})
        if row["id"] in rows:
            raise ZooError(
                f"{row['method']} seed {row['seed']}, task {row['task']!r}: item {row['id']!r} was answered twice; "
                "give every item an id of its own or delete the doubled line"
            )
        rows[row["id"]] = row
    return runs


def _summarise_task(
    task: str, runs: _Runs, methods: Sequence[str], chance: float | None, baseline: str
) -> dict[tuple[str, str], Result]:
    seeds = {
        method: sorted(seed for name, other, seed in runs if name == task and other == method) for method in methods
    }
    for method in methods:
        if not seeds[method]:
            raise ZooError(f"method {method!r} has no predictions for task {task!r}; evaluate it on the same tasks")
    reference = runs[task, methods[0], seeds[methods[0]][0]]
    ids = list(reference)
    first = reference[ids[0]]
    clusters = [reference[item].get("group") or item for item in ids]
    scores: dict[str, np.ndarray] = {}
    for method in methods:
        for seed in seeds[method]:
            _check_same(task, methods[0], method, seed, reference, runs[task, method, seed])
        scores[method] = np.asarray(
            [[runs[task, method, seed][item]["score"] for item in ids] for seed in seeds[method]]
        )
    challengers = [method for method in methods if method != baseline] if baseline in methods else []
    differences = {method: paired_difference(scores[method], scores[baseline], clusters) for method in challengers}
    corrected = dict(zip(challengers, holm([differences[method].p for method in challengers]), strict=True))
    rows = {method: [[runs[task, method, seed][item] for item in ids] for seed in seeds[method]] for method in methods}
    figures = set_figures(rows, clusters, baseline)
    results = {}
    for method in methods:
        difference = differences.get(method)
        answers = [row for of_seed in rows[method] for row in of_seed]
        per_seed = {seed: float(mean) for seed, mean in zip(seeds[method], scores[method].mean(axis=1), strict=True)}
        results[method, task] = Result(
            method=method,
            task=task,
            metric=first["metric"],
            metric_version=first["metric_version"],
            num_items=len(ids),
            num_clusters=len(set(clusters)),
            interval=estimate(scores[method], clusters),
            per_seed=per_seed,
            difference=difference,
            p_corrected=corrected.get(method),
            verdict=None if difference is None else verdict(difference, corrected[method]),
            chance=chance,
            fallbacks=tuple(sorted({name for row in answers for name in row.get("fallbacks", ())})),
            extra={**identity(answers), **_extra(answers), **figures.get(method, {})},
        )
    return results


def _check_same(
    task: str, baseline: str, method: str, seed: int, reference: Mapping[str, Any], rows: Mapping[str, Any]
) -> None:
    different = set(reference) ^ set(rows)
    if different:
        raise ZooError(
            f"task {task!r}: {method} seed {seed} and {baseline} answered different items ({len(different)} of them, "
            f"{min(map(str, different))!r} first); evaluate both on the same file"
        )
    for item, row in rows.items():
        for key in ("metric_version", "group"):
            if row.get(key) != reference[item].get(key):
                raise ZooError(
                    f"task {task!r}, item {item!r}: {key} is {row.get(key)!r} for {method} seed {seed} but "
                    f"{reference[item].get(key)!r} for {baseline}; evaluate both with the same version"
                )


def identity(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What must be equal for two results to stand in one column, beside the metric's version and the setting."""
    questions = sorted({json.dumps([row["id"], row.get("references")], default=str) for row in rows})
    return {
        "decoding": "; ".join(sorted({str(row.get("decoding")) for row in rows})),
        "items": hashlib.sha256("\n".join(questions).encode()).hexdigest()[:12],
    }


def _extra(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    unseen = [row["score"] for row in rows if row.get("unseen")]
    if unseen and len(unseen) < len(rows):
        extra["unseen"] = {"mean": float(np.mean(unseen)), "n_answers": len(unseen)}
    if losses := [row["loss"] for row in rows if "loss" in row]:
        extra["loss"] = {name: float(np.mean([loss[name] for loss in losses])) for name in ("own", "others")}
    if rows[0]["metric"] == "yes_no" and all(row.get("references") for row in rows):
        summary = summarise_yes_no([row["references"][0] for row in rows], [row.get("parsed") for row in rows])
        extra["yes_no"] = {
            name: getattr(summary, name) for name in ("precision", "recall", "f1", "yes_ratio", "num_unparsed")
        }
    return extra


def _dashes(impossible: Mapping[tuple[str, str], str]) -> list[str]:
    return [f"-: {method} has no {missing} for {task}." for (method, task), missing in impossible.items()]


def _cost_of(method: str, records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    costs = {}
    for name in COST_NAMES:
        values = [record[name] for record in records if record["method"] == method and record.get(name) is not None]
        if values:
            # Memory must fit at its worst; the rest is what a run takes on average.
            costs[name] = max(values) if name == "peak_memory_bytes" else sum(values) / len(values)
    return costs


def _notes(predictions: Sequence[Mapping[str, Any]], results: Mapping[tuple[str, str], Result]) -> tuple[str, ...]:
    seeds = sorted({seed for result in results.values() for seed in result.per_seed})
    notes = [f"Score: percent of items, mean over seeds {', '.join(map(str, seeds))}."]
    if any(result.interval.covers == "items" for result in results.values()):
        notes.append(
            "Brackets: 95 % interval over items clustered by image or video. A method with one seed: the interval does "
            "not cover training variation."
        )
    else:
        notes.append("Brackets: 95 % interval over training seeds and items clustered by image or video.")
    if len({method for method, _ in results}) > 1:
        notes.append(
            "Below a score: paired difference to the baseline in points, p corrected by Holm over the methods of a "
            "task; 'no difference shown' where p >= 0.05."
        )
    decodings = {str(row.get("decoding")) for row in predictions}
    if len(decodings) > 1:
        notes.append(f"Decoding was not the same everywhere: {'; '.join(sorted(decodings))}.")
    for (method, task), result in results.items():
        if found := result.extra.get("loss"):
            notes.append(
                f"{task}: loss of a caption's tokens beside its own image and beside others: {method} "
                f"{found['own']:.2f} and {found['others']:.2f}."
            )
    if any(result.num_clusters < 2 for result in results.values()):
        notes.append("A task with a single image or video has no interval.")
    return tuple(notes)
