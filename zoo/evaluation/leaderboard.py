"""One table of several comparisons and evaluations, where their numbers may stand in one column."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.entries import iterate_entries
from zoo.evaluation.held import held_notes
from zoo.evaluation.statistics import Difference, Interval
from zoo.evaluation.summary import COST_NAMES, Comparison, Result, identity, summarise

RESULTS_FILE = "results.jsonl"
COSTS_FILE = "costs.jsonl"
# What must agree within a column, and how a disagreement is called.
IDENTITY = {
    "setting": "setting",
    "metric_version": "metric version",
    "decoding": "decoding",
    "items": "set of items",
}
NOT_RECORDED = "not recorded"
_FIELDS = (
    "method task metric metric_version n_items n_clusters seeds mean low high interval_covers per_seed difference "
    "chance fallbacks"
).split()


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One folder: its result rows, the costs by method, and its prediction rows where they are there."""

    name: str
    rows: tuple[Mapping[str, Any], ...]
    costs: tuple[Mapping[str, Any], ...]
    predictions: tuple[Mapping[str, Any], ...]


def read_source(directory: str | Path) -> Source:
    """A folder of ``zoo compare --out`` (results.jsonl), or of ``zoo evaluate --out`` (its predictions).

    Raises ZooError for a folder that is neither, or holds malformed rows.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ZooError(f"{folder} is not a folder; give the --out of zoo compare or zoo evaluate")
    costs = tuple(row for _, row in iterate_entries(folder / COSTS_FILE, None)) if _has(folder, COSTS_FILE) else ()
    if _has(folder, RESULTS_FILE):
        rows = tuple(_result_row(row, where) for where, row in iterate_entries(folder / RESULTS_FILE, None))
        answered = {(row["method"], row["task"]) for row in rows}
        paths = sorted(Path(folder, "predictions").glob("*/seed-*/*.jsonl"))
        read = [row for path in paths for _, row in iterate_entries(path, None)]
        # A folder may hold runs of earlier calls that its results are not about.
        predictions = tuple(row for row in read if (row["method"], row["task"]) in answered)
        rows = tuple(_with_identity(row, predictions) for row in rows)
    else:
        paths = [path for path in sorted(folder.glob("*.jsonl")) if path.name != COSTS_FILE]
        predictions = tuple(row for path in paths for _, row in iterate_entries(path, None))
        if not predictions:
            raise ZooError(f"{folder} holds neither {RESULTS_FILE} nor predictions; give the --out of zoo compare")
        rows = tuple(summarise(predictions, baseline=predictions[0]["method"]).rows())
    if not rows:
        raise ZooError(f"{folder / RESULTS_FILE} is empty; run the comparison again")
    return Source(name=folder.name or str(folder), rows=rows, costs=costs, predictions=predictions)


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _with_identity(row: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """A row of before decoding and items were recorded, with what its predictions say."""
    if "items" in row:
        return row
    answers = [found for found in predictions if (found["method"], found["task"]) == (row["method"], row["task"])]
    return {**row, **identity(answers)} if answers else row


def _result_row(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    missing = [name for name in _FIELDS if name not in row]
    if missing:
        raise ZooError(f"{where} lacks {', '.join(missing)}; it is no line of a comparison's {RESULTS_FILE}")
    return row


def leaderboard(directories: Sequence[str | Path], *, baseline: str = "", separate: bool = False) -> Comparison:
    """The comparison of all methods of all folders.

    Where every folder has its predictions, differences are paired and corrected anew over all methods. Otherwise scores
    stand without differences. A method that two folders have with other numbers is named with its folder.

    Args:
        baseline: default: the first method of the first folder.
        separate: give every metric version, setting, decoding and set of items a row of its own, instead of refusing.

    Raises:
        ZooError: a task has several of them (which ones is said), an unknown baseline, or a folder is none of ours.
    """
    return compare_sources([read_source(directory) for directory in directories], baseline=baseline, separate=separate)


def merge(sources: Sequence[Source], *, separate: bool = False) -> Source:
    """The rows, costs and predictions of all folders, with the names that methods and tasks have in one table."""
    named = _with_unique_methods(sources)
    labels = _task_labels(named, separate)
    predictions = [
        dict(row) | {"task": labels[source.name, row["task"]]} for source in named for row in source.predictions
    ]
    rows = [dict(row) | {"task": labels[source.name, row["task"]]} for source in named for row in source.rows]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    # A method that several folders have alike is there once.
    predictions = list({(row["method"], row["seed"], row["task"], row["id"]): row for row in predictions}.values())
    predictions.sort(key=lambda row: (tasks.index(row["task"]), methods.index(row["method"]), row["seed"]))
    return Source(
        name=", ".join(source.name for source in named),
        rows=tuple({(row["method"], row["task"]): row for row in rows}.values()),
        costs=tuple({(row["method"], row.get("seed")): row for source in named for row in source.costs}.values()),
        predictions=tuple(predictions),
    )


def compare_sources(sources: Sequence[Source], *, baseline: str = "", separate: bool = False) -> Comparison:
    """``leaderboard`` of folders that were read already."""
    merged = merge(sources, separate=separate)
    rows, predictions, costs = merged.rows, merged.predictions, merged.costs
    methods = list(dict.fromkeys(row["method"] for row in rows))
    if baseline and baseline not in methods:
        raise ZooError(f"baseline {baseline!r} is in none of the folders; they have {', '.join(methods)}")
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    answered = {(row["method"], row["task"]) for row in predictions}
    if {(row["method"], row["task"]) for row in rows} <= answered:
        found = summarise(
            predictions,
            costs,
            baseline=baseline or methods[0],
            chance={row["task"]: row["chance"] for row in rows if row["chance"] is not None},
            impossible={
                (method, task): "result" for method in methods for task in tasks if (method, task) not in answered
            },
        )
        notes = tuple(note for note in found.notes if not note.startswith("-: "))
        kept = {(row["method"], row["task"]): row for row in rows}
        results = {
            key: replace(result, extra={**_extra(kept[key]), **result.extra}) for key, result in found.results.items()
        }
        return replace(found, results=results, notes=(*notes, *_notes(merged, methods, tasks)))
    results = {(row["method"], row["task"]): _result(row, compared=len(sources) == 1) for row in rows}
    return Comparison(
        baseline=baseline or methods[0],
        methods=tuple(methods),
        tasks=tuple(tasks),
        results=results,
        costs=_costs(costs, methods),
        notes=("Score: percent of items with its 95 % interval.", *_notes(merged, methods, tasks)),
    )


def _with_unique_methods(sources: Sequence[Source]) -> list[Source]:
    """Methods that several folders have with other numbers get their folder's name; folders get names of their own."""
    names: list[str] = []
    for source in sources:
        names.append(source.name if source.name not in names else f"{source.name} {len(names) + 1}")
    seen: dict[str, list[dict[tuple[str, str], Any]]] = {}
    for source in sources:
        for method in dict.fromkeys(row["method"] for row in source.rows):
            scores = {
                (row["task"], row["metric_version"]): row["per_seed"] for row in source.rows if row["method"] == method
            }
            seen.setdefault(method, []).append(scores)
    double = {
        method
        for method, found in seen.items()
        if any(found[0].get(key, value) != value for other in found[1:] for key, value in other.items())
    }

    def named(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        return {**row, "method": f"{row['method']} ({name})"} if row["method"] in double else row

    return [
        Source(
            name=name,
            rows=tuple(named(row, name) for row in source.rows),
            costs=tuple(named(row, name) for row in source.costs),
            predictions=tuple(named(row, name) for row in source.predictions),
        )
        for name, source in zip(names, sources, strict=True)
    ]


def _task_labels(sources: Sequence[Source], separate: bool) -> dict[tuple[str, str], str]:
    """What each folder's task is called: its name, with what differs in brackets where that is wanted."""
    identities: dict[str, dict[str, tuple[str, ...]]] = {}
    for source in sources:
        for row in source.rows:
            found = tuple(str(row.get(key) or NOT_RECORDED) for key in IDENTITY)
            identities.setdefault(row["task"], {})[source.name] = found
    labels = {}
    for task, by_source in identities.items():
        for place, (key, called) in enumerate(IDENTITY.items()):
            values = {found[place] for found in by_source.values()}
            unsure = len(by_source) > 1 and NOT_RECORDED in values and not (key == "setting" and len(values) == 1)
            if not separate and (len(values) > 1 or unsure):
                said = "; ".join(f"{name}: {found[place]}" for name, found in by_source.items())
                raise ZooError(
                    f"task {task!r} has more than one {called} ({said}); leave a folder out, or give each a row of its "
                    "own with --separate"
                )
        for name, found in by_source.items():
            differing = [
                found[place]
                for place in range(len(IDENTITY))
                if len({other[place] for other in by_source.values()}) > 1 or found[place] == NOT_RECORDED
            ]
            apart = separate and len(by_source) > 1 and differing
            named = [name if part == NOT_RECORDED else part for part in differing]
            labels[name, task] = f"{task} ({', '.join(dict.fromkeys(named))})" if apart else task
    return labels


def _result(row: Mapping[str, Any], *, compared: bool) -> Result:
    difference = row["difference"] if compared else None
    return Result(
        method=row["method"],
        task=row["task"],
        metric=row["metric"],
        metric_version=row["metric_version"],
        num_items=row["n_items"],
        num_clusters=row["n_clusters"],
        interval=Interval(mean=row["mean"], low=row["low"], high=row["high"], covers=row["interval_covers"]),
        per_seed={int(seed): mean for seed, mean in row["per_seed"].items()},
        difference=difference
        and Difference(
            **{name: difference[name] for name in ("mean", "low", "high", "p")}, covers=row["interval_covers"]
        ),
        p_corrected=difference and difference["p_corrected"],
        verdict=difference["verdict"] if difference else None if compared else "",
        chance=row["chance"],
        fallbacks=tuple(row["fallbacks"]),
        extra=_extra(row),
    )


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in _FIELDS}


def _costs(records: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {method: {} for method in methods}
    for name in COST_NAMES:
        for method in methods:
            values = [row[name] for row in records if row["method"] == method and row.get(name) is not None]
            if values:
                found[method][name] = max(values) if name == "peak_memory_bytes" else sum(values) / len(values)
    return found


def _notes(merged: Source, methods: Sequence[str], tasks: Sequence[str]) -> list[str]:
    settings = {str(row.get("setting")) for row in merged.rows if row.get("setting")}
    notes = [f"From {merged.name}."]
    if settings:
        notes.append(f"Setting: {', '.join(sorted(settings))}.")
    else:
        notes += held_notes(methods, tasks)
    return notes


def write_rows(path: str | Path, comparison: Comparison, setting: str | None) -> None:
    """results.jsonl: a line a task and method, the setting in each."""
    rows = (row | {"setting": setting} for row in comparison.rows())
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
