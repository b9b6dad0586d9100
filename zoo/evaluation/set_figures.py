"""F1, AUC and MME's score of a set of answers, with intervals and paired differences, from prediction rows."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.evaluation.bootstrap import Figure, bootstrap_difference, bootstrap_estimate
from zoo.evaluation.figures import auc_figure, f1_figure, mme_figure
from zoo.evaluation.parsing import normalise_answer
from zoo.evaluation.statistics import holm, verdict

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class SetFigure:
    """How a figure is read off rows: ``build`` gives the function of one seed's rows, ``stratum`` that of an item."""

    name: str
    build: Callable[[Sequence[Row]], Figure]
    bounds: tuple[float, float] = (0.0, 1.0)
    stratum: Callable[[Row], str] | None = None


def _f1(rows: Sequence[Row]) -> Figure:
    labels = [normalise_answer(row["references"][0]) == "yes" for row in rows]
    return f1_figure(labels, [row.get("parsed") == "yes" for row in rows])


def _pope_f1(rows: Sequence[Row]) -> Figure:
    # Its rule makes every answer a yes or a no: a wrong one is the other word.
    labels = [str(row["annotation"]["label"]) != "no" for row in rows]
    return f1_figure(labels, [label == (row["score"] == 1) for label, row in zip(labels, rows)])


def _auc(rows: Sequence[Row]) -> Figure:
    scores = [row["candidate_scores"]["yes"] - row["candidate_scores"]["no"] for row in rows]
    return auc_figure([bool(int(row["annotation"])) for row in rows], scores)


def _mme(rows: Sequence[Row]) -> Figure:
    right = [row["score"] == 1 for row in rows]
    return mme_figure(right, [str(row["group"]) for row in rows], [_subtask(row) for row in rows])


def _subtask(row: Row) -> str:
    return str(row["annotation"]["category"])


_F1 = SetFigure(name="f1", build=_f1)
_POPE = SetFigure(name="f1", build=_pope_f1)
FIGURES = {
    "yes_no": _F1,
    "pope:official": _POPE,
    "pope:lower": _POPE,
    "roc_auc": SetFigure(name="auc", build=_auc),
    "mme:official": SetFigure(name="score", build=_mme, bounds=(0.0, math.inf), stratum=_subtask),
}


def set_figures(
    runs: Mapping[str, Sequence[Sequence[Row]]], clusters: Sequence[Hashable], baseline: str
) -> dict[str, dict[str, Any]]:
    """What results.jsonl has beside the scores, by method; empty for a metric whose figure is the mean of its items.

    Args:
        runs: by method, a list a seed of the rows of one task in the order of ``clusters``.
        baseline: the method that the others are compared with; p-values are corrected by Holm over the others.
    """
    rows = next(iter(runs.values()))[0]
    metric = rows[0]["metric"]
    figure = FIGURES.get(metric) or FIGURES.get(metric.partition(":")[0])
    if figure is None or not all(row.get("references") or "annotation" in row for row in rows):
        return {}
    strata = None if figure.stratum is None else [figure.stratum(row) for row in rows]
    built = {method: [figure.build(rows) for rows in seeds] for method, seeds in runs.items()}
    options = {"strata": strata, "bounds": figure.bounds}
    others = [method for method in runs if method != baseline and baseline in runs]
    differences = {
        method: bootstrap_difference(built[method], built[baseline], clusters, **options) for method in others
    }
    corrected = dict(zip(others, holm([differences[method].p for method in others]), strict=True))
    found: dict[str, dict[str, Any]] = {}
    for method in runs:
        interval = bootstrap_estimate(built[method], clusters, **options)
        entry: dict[str, Any] = {"mean": interval.mean, "low": interval.low, "high": interval.high, "difference": None}
        if method in differences:
            difference = differences[method]
            entry["difference"] = {
                **{name: getattr(difference, name) for name in ("mean", "low", "high", "p")},
                "p_corrected": corrected[method],
                "verdict": verdict(difference, corrected[method]),
            }
        found[method] = {"figures": {figure.name: entry}}
    return found
