"""From the answers to a benchmark to its figures, by the official formats of its metric.

A row of predictions holds everything that its metric reads (``key``, ``annotation``, ``parsed``), so that answers can
be scored again, by another metric or over a resampled set, without the benchmark's files or the model.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics import MetricResult, get_metric
from zoo.evaluation.metrics.mmbench import ROTATION

Row = Mapping[str, Any]
Inputs = tuple[Any, Any]


def _by_id(rows: Sequence[Row]) -> Inputs:
    return {row["key"]: row["parsed"] for row in rows}, {row["key"]: row["annotation"] for row in rows}


def _pope(rows: Sequence[Row]) -> Inputs:
    return {row["key"]: row["parsed"] for row in rows}, [row["annotation"] for row in rows]


def _mme(rows: Sequence[Row]) -> Inputs:
    return [row["annotation"] | {"response": row["parsed"]} for row in rows], None


def _boxes(rows: Sequence[Row]) -> Inputs:
    return {row["key"]: row["box"] for row in rows}, {row["key"]: row["annotation"] for row in rows}


def _seed(rows: Sequence[Row]) -> Inputs:
    said: dict[str, Any] = {}
    for row in rows:
        scores = row.get("candidate_scores")
        options = row["annotation"].get("options", ())
        ranked = scores is not None and all(option in scores for option in options)
        said[row["key"]] = [-scores[option] for option in options] if ranked else row["parsed"]
    return said, {"questions": [row["annotation"] for row in rows]}


def _roc_auc(rows: Sequence[Row]) -> Inputs:
    said = {}
    for row in rows:
        scores = row.get("candidate_scores")
        if scores is None:
            raise ZooError(f"{row['benchmark']}: roc_auc needs the likelihood of yes and no; decode by likelihood")
        difference = scores["no"] - scores["yes"]
        said[row["key"]] = 0.0 if difference > 700 else 1 / (1 + math.exp(difference))
    return said, {row["key"]: row["annotation"] for row in rows}


_INPUTS: dict[str, Callable[[Sequence[Row]], Inputs]] = {
    "pope": _pope,
    "mme": _mme,
    "iou": _boxes,
    "pointing": _boxes,
    "seed_bench": _seed,
    "roc_auc": _roc_auc,
}


def score_rows(rows: Sequence[Row], metric: str = "") -> MetricResult:
    """The figures of the answers to one benchmark.

    Args:
        rows: as ``zoo.evaluate`` returns them for it or keeps them in OUT/answers; any subset that the metric accepts.
        metric: default: the one that the rows name.

    Raises:
        ZooError: no rows, rows of several benchmarks, or what the metric raises.
    """
    names = {(row["benchmark"], row["split"], row["metric"]) for row in rows}
    if len(names) != 1:
        raise ZooError(f"score the answers to one benchmark at a time, not to {len(names)}")
    rule = get_metric(metric or rows[0]["metric"])
    return rule(*_INPUTS.get(rule.name, _by_id)(rows))


def with_scores(rows: Sequence[Row], result: MetricResult) -> list[dict[str, Any]]:
    """The rows with the score of each item, and the exact name of what scored them.

    Under CircularEval one row stands for a question: it holds the answers to all of its rotations. Where the figure is
    no mean over items (ROC-AUC), scores stay None.
    """
    rotations: dict[str, dict[str, str]] = {}
    if result.metric == "mmbench:circular":
        for row in rows:
            rotations.setdefault(str(int(row["key"]) % ROTATION), {})[row["key"]] = row["prediction"]
    scored = []
    for row in rows:
        if rotations and row["key"] not in rotations:
            continue
        shown = {"rotations": rotations[row["key"]]} if rotations else {}
        scored.append({**row, **shown, "score": result.items.get(row["key"]), "metric": result.metric})
    return scored


def write_result(folder: Path, stem: str, rows: Sequence[Row], result: MetricResult) -> None:
    """FOLDER/STEM.metric.json, and FOLDER/STEM.jsonl where items have scores of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.metric.json").write_text(json.dumps(result.as_dict(), indent=1) + "\n")
    scored = [row for row in rows if row["score"] is not None]
    if scored:
        (folder / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
