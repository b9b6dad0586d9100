"""How sure a score and a difference of scores are: intervals over items (clustered) and over training seeds.

A matrix of scores is (seeds, items): every seed answered the same items. Two things vary if the comparison is repeated:
the items, which come in clusters (questions on one image are alike), and the training run. Their variances are added::

    items   G / (G - 1) * 1 / n^2 * sum_c (sum_{i in c} (v_i - v))^2      v_i: mean over seeds; G clusters, n items
    seeds   1 / (S (S - 1)) * sum_s (v_s - v)^2                           v_s: mean over items; S seeds

The first is the clustered standard error of Miller, "Adding Error Bars to Evals" (arXiv 2411.00640), with the
small-sample factor G / (G - 1). Noise of single answers sits in both terms, so the sum errs on the wide side. Interval
and p-value are Student's t with the degrees of freedom of Satterthwaite (Biometrics Bulletin 2, 1946). A percentile
bootstrap over so few seeds is too narrow: in a simulation with 3 seeds whose spread dominates, its nominal 95 %
intervals cover the truth in 77 % of the cases, these in 91 %.

Right or wrong answers of one run each, no two items of a cluster, are compared by McNemar's exact test instead. Figures
that are no mean over items (F1, AUC, MME) are in ``zoo.evaluation.bootstrap``.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from zoo.errors import ZooError

LEVEL = 0.95
SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean with its 95 % interval; ``low`` and ``high`` are None where a single cluster leaves nothing to estimate.

    ``covers`` says which variation is in the interval: ``"items"`` (one seed: retraining may move the score further)
    or ``"items and seeds"``.
    """

    mean: float
    low: float | None
    high: float | None
    covers: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A mean paired difference, its 95 % interval and the two-sided p-value of "no difference" (None: see Interval).

    ``test`` is what the p-value is of: ``t``, ``McNemar``, ``sign``, or ``bootstrap t``.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    covers: str
    test: str = "t"


def clustered_standard_error(values: np.ndarray, clusters: Sequence[Hashable]) -> float:
    """Standard error of the mean of ``values`` (items,), where items of one cluster may depend on one another.

    Equals the ordinary standard error when every item is a cluster of its own. NaN with fewer than two clusters.
    """
    return _clustered_standard_error(np.asarray(values, dtype=np.float64), _indexed(clusters)[1])


def _clustered_standard_error(values: np.ndarray, index: np.ndarray) -> float:
    num_clusters = int(index.max()) + 1
    if num_clusters < 2:
        return math.nan
    sums = np.bincount(index, weights=values - values.mean(), minlength=num_clusters)
    return math.sqrt(num_clusters / (num_clusters - 1) * float(np.square(sums).sum())) / len(values)


def estimate(values: np.ndarray, clusters: Sequence[Hashable]) -> Interval:
    """Mean and 95 % interval of ``values`` (seeds, items) in [0, 1]; ``clusters`` names the cluster of each item.

    The interval is cut at 0 and 1. Where nothing varies (every score is 1, say), the interval is not a single point but
    allows for the share of unlike clusters that G clusters can miss (Clopper and Pearson's bound for 0 of G).
    """
    values, index = _checked(values, clusters)
    if values.min() < 0 or values.max() > 1:
        raise ZooError(f"scores lie between {values.min():g} and {values.max():g}; they must lie in [0, 1]")
    mean = float(values.mean())
    covers = "items" if len(values) == 1 else "items and seeds"
    error, freedom = combined_error([_item_component(values.mean(axis=0), index), *seed_components([values])])
    low, high = _bounds(mean, error, freedom, num_clusters=int(index.max()) + 1, least=0.0)
    return Interval(mean=mean, low=low, high=high, covers=covers)


def estimate_over_tasks(parts: Sequence[tuple[np.ndarray, Sequence[Hashable]]]) -> Interval:
    """The mean of the tasks' means with its 95 % interval; each part is a task's (seeds, items) and clusters.

    The tasks are fixed, their items are drawn; a cluster name that occurs in several tasks is one cluster (an image
    with questions of several kinds), and all tasks were answered by the same seeds.
    """
    checked = [_checked(values, clusters) for values, clusters in parts]
    seeds = {len(values) for values, _ in checked}
    if len(seeds) != 1:
        raise ZooError(f"tasks have {min(seeds)} to {max(seeds)} seeds; average over tasks that all seeds answered")
    num_items = sum(values.shape[1] for values, _ in checked)
    residuals = np.concatenate(
        [(values.mean(axis=0) - values.mean()) * num_items / (len(checked) * values.shape[1]) for values, _ in checked]
    )
    _, index = _indexed([name for _, clusters in parts for name in clusters])
    by_seed = np.mean([values.mean(axis=1) for values, _ in checked], axis=0)[:, None]  # (seeds, 1)
    error, freedom = combined_error([_item_component(residuals, index), *seed_components([by_seed])])
    mean = float(by_seed.mean())
    low, high = _bounds(mean, error, freedom, num_clusters=int(index.max()) + 1, least=0.0)
    return Interval(mean=mean, low=low, high=high, covers="items" if len(by_seed) == 1 else "items and seeds")


def paired_difference(values: np.ndarray, baseline: np.ndarray, clusters: Sequence[Hashable]) -> Difference:
    """Mean of ``values - baseline``, both (seeds, items) over the same items, with interval and p-value.

    Items are paired. Seeds are not: two methods that share a seed share little of what it decides, and pairing three
    seeds would halve the degrees of freedom. Where every cluster differs alike, the p-value is that of a sign test;
    for one run each with answers right or wrong and clusters of one item, it is McNemar's.
    """
    values, index = _checked(values, clusters)
    baseline, _ = _checked(baseline, clusters)
    per_item = values.mean(axis=0) - baseline.mean(axis=0)
    mean = float(per_item.mean())
    by_seed = seed_components([values, baseline])
    error, freedom = combined_error([_item_component(per_item, index), *by_seed])
    num_clusters = int(index.max()) + 1
    low, high = _bounds(mean, error, freedom, num_clusters=num_clusters, least=-1.0)
    test, p = "t", None
    if len(values) == len(baseline) == 1 and num_clusters == len(index) > 1 and _binary(values) and _binary(baseline):
        test, p = "McNemar", mcnemar(values[0], baseline[0])
    elif low is not None and error == 0:
        test, p = "sign", 1.0 if abs(mean) < 1e-12 else 2.0 ** (1 - num_clusters)
    elif low is not None:
        p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    covers = "items" if len(values) == 1 or len(baseline) == 1 else "items and seeds"
    return Difference(mean=mean, low=low, high=high, p=p, covers=covers, test=test)


def mcnemar(values: np.ndarray, baseline: np.ndarray) -> float:
    """Two-sided exact p-value of McNemar's test (Psychometrika 12, 1947) on 0/1 scores (items,) of two models.

    Binomial over the items that only one of them gets right, at any number of them; clusters are not allowed for.
    """
    better, worse = int(np.sum(values > baseline)), int(np.sum(values < baseline))
    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def _binary(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _bounds(
    mean: float, error: float, freedom: float, *, num_clusters: int, least: float
) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of a mean of values in [least, 1]."""
    if math.isnan(error):
        return None, None
    if error == 0:
        unlike = 1 - ((1 - LEVEL) / 2) ** (1 / num_clusters)
        return mean - unlike * (mean - least), mean + unlike * (1 - mean)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return max(least, mean - half), min(1.0, mean + half)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of the p-values of one family, in the given order; None (no test) stays None."""
    corrected: list[float | None] = [None] * len(p_values)
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    running = 0.0
    for rank, (p, place) in enumerate(tested):
        running = max(running, min(1.0, (len(tested) - rank) * p))
        corrected[place] = running
    return corrected


def verdict(difference: Difference, p_corrected: float | None) -> str:
    """``better``, ``worse``, or ``no difference shown`` when the corrected p >= 0.05 or the interval covers 0."""
    if difference.low is None or difference.high is None or p_corrected is None:
        return "no difference shown"
    if p_corrected >= SIGNIFICANCE or difference.low <= 0 <= difference.high:
        return "no difference shown"
    return "better" if difference.mean > 0 else "worse"


def _checked(values: np.ndarray, clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(values, dtype=np.float64)  # (seeds, items)
    if values.ndim != 2 or values.size == 0:
        raise ZooError(f"scores have shape {values.shape}; give (seeds, items) with at least one of each")
    if values.shape[1] != len(clusters):
        raise ZooError(f"{values.shape[1]} items but {len(clusters)} cluster names; give one for each item")
    if not np.isfinite(values).all():
        raise ZooError("a score is not a finite number; score every item before the comparison")
    return values, _indexed(clusters)[1]


def _indexed(clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(np.asarray([str(name) for name in clusters]), return_inverse=True)


def _item_component(per_item: np.ndarray, index: np.ndarray) -> tuple[float, float]:
    return _clustered_standard_error(per_item, index) ** 2, float(index.max())


def seed_components(matrices: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """(Variance, degrees of freedom) that the seeds of each (seeds, items) matrix add to a mean; none for one seed."""
    components = []
    for matrix in matrices:
        if len(matrix) > 1:
            components.append((float(matrix.mean(axis=1).var(ddof=1)) / len(matrix), float(len(matrix) - 1)))
    return components


def combined_error(components: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Standard error and Satterthwaite's degrees of freedom of a sum of (variance, degrees of freedom)."""
    total = sum(variance for variance, _ in components)
    if math.isnan(total):
        return math.nan, math.nan
    # Scores are of order one: less than this is the rounding of a mean of equal values.
    if total < 1e-24:
        return 0.0, math.inf
    return math.sqrt(total), 1 / sum((variance / total) ** 2 / freedom for variance, freedom in components)
