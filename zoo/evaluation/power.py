"""What a comparison can see before it is run: the smallest true difference that it finds with a given power.

The difference of two methods' means has the variance::

    2 p (1 - p) (1 - r) * (1 + (m - 1) c) / n   +   2 s^2 / S

n items of which m share a cluster, accuracy p, correlation r of the two methods' answers to an item, c of the
differences within a cluster, standard deviation s of a method's score between training seeds, S seeds. The first term
is Miller's (arXiv 2411.00640, section 5, K = 1: answers of several seeds to an item are taken as alike, which errs on
the wide side) times Kish's design effect ("Survey Sampling", 1965, section 5.4). The test is that of
``zoo.evaluation.statistics``, so the power is that of the non-central t distribution with its degrees of freedom.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from zoo.errors import ZooError
from zoo.evaluation.statistics import SIGNIFICANCE, combined_error

SOURCE = "Miller (arXiv 2411.00640, section 5), Kish's design effect, non-central t; zoo/evaluation/power.py"
_QUANTILES = (np.arange(4000) + 0.5) / 4000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A comparison to be run; see the formula of the module.

    ``num_comparisons``: methods compared with the baseline; the p-values are corrected for so many (Holm's first step,
    the hardest). With one seed the difference is that of two trained models, not of two methods.

    Raises:
        ZooError: a number that no comparison can have.
    """

    num_items: int
    num_clusters: int
    num_seeds: int = 1
    num_comparisons: int = 1
    accuracy: float = 0.5
    correlation: float = 0.5
    cluster_correlation: float = 0.1
    seed_deviation: float = 0.01
    power: float = 0.8

    def __post_init__(self) -> None:
        if not 2 <= self.num_clusters <= self.num_items:
            raise ZooError(f"{self.num_items} items in {self.num_clusters} clusters; give 2 clusters up to one an item")
        if self.num_seeds < 1 or self.num_comparisons < 1:
            raise ZooError(f"{self.num_seeds} seeds and {self.num_comparisons} comparisons; give at least one of each")
        if not 0 < self.accuracy < 1:
            raise ZooError(f"accuracy {self.accuracy:g}; give a fraction between 0 and 1, as 0.6")
        if not (-1 <= self.correlation < 1 and 0 <= self.cluster_correlation <= 1 and self.seed_deviation >= 0):
            raise ZooError(
                f"correlation {self.correlation:g}, within clusters {self.cluster_correlation:g} and seed deviation "
                f"{self.seed_deviation:g} are not possible; give [-1, 1), [0, 1] and 0 or more"
            )
        if not SIGNIFICANCE < self.power < 1:
            raise ZooError(f"power {self.power:g}; give a fraction between {SIGNIFICANCE} and 1, as 0.8")

    @property
    def error(self) -> tuple[float, float]:
        """Standard error of the difference and its degrees of freedom."""
        of_item = 2 * self.accuracy * (1 - self.accuracy) * (1 - self.correlation)
        design_effect = 1 + (self.num_items / self.num_clusters - 1) * self.cluster_correlation
        components = [(of_item * design_effect / self.num_items, self.num_clusters - 1.0)]
        if self.num_seeds > 1 and self.seed_deviation:
            components.append((2 * self.seed_deviation**2 / self.num_seeds, 2.0 * (self.num_seeds - 1)))
        return combined_error(components)

    def power_for(self, difference: float) -> float:
        """The probability that a true difference of this size is found (p below 0.05 after the correction)."""
        error, freedom = self.error
        critical = stats.t.isf(SIGNIFICANCE / self.num_comparisons / 2, freedom)
        # The non-central t by quadrature over its chi-squared part: scipy's own is NaN far out.
        limits = critical * np.sqrt(stats.chi2.ppf(_QUANTILES, freedom) / freedom)
        shift = abs(difference) / error
        return float(np.mean(stats.norm.sf(limits - shift) + stats.norm.cdf(-limits - shift)))

    @property
    def minimum_detectable_effect(self) -> float:
        """The smallest difference, as a fraction, that is found with the wanted power; above 1 there is none."""
        error, _ = self.error
        highest = error
        while self.power_for(highest) < self.power:
            highest *= 2
        return float(optimize.brentq(lambda difference: self.power_for(difference) - self.power, 0, highest))

    def as_dict(self) -> dict[str, Any]:
        error, freedom = self.error
        effect = self.minimum_detectable_effect
        return asdict(self) | {
            "standard_error": error,
            "degrees_of_freedom": freedom,
            "minimum_detectable_effect": effect,
            "source": SOURCE,
        }

    def render(self) -> str:
        """Text for a terminal; every assumption stands in it."""
        error, freedom = self.error
        effect = self.minimum_detectable_effect
        found = f"{100 * effect:.1f} points" if effect < 1 else "none: no difference is large enough"
        lines = [
            f"smallest difference found in {self.power:.0%} of the cases: {found}",
            f"  {self.num_items} items in {self.num_clusters} clusters, {self.num_seeds} seeds, p < {SIGNIFICANCE} "
            f"corrected for {self.num_comparisons} comparison{'s' * (self.num_comparisons > 1)}",
            f"  standard error of a difference: {100 * error:.2f} points, {freedom:.1f} degrees of freedom",
            f"  assumed: accuracy {self.accuracy:g}, correlation of two methods' answers {self.correlation:g}, within "
            f"a cluster {self.cluster_correlation:g}, deviation between seeds {100 * self.seed_deviation:g} points",
        ]
        if self.num_seeds == 1:
            moved = 100 * math.sqrt(2) * self.seed_deviation
            lines.append(
                f"  one seed: the difference of two trained models; training again moves it by {moved:.1f} points "
                "(one standard deviation)"
            )
        return "\n".join([*lines, f"  formula: {SOURCE}"])


def assumptions(predictions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What a finished comparison had: accuracy, correlations and deviation between seeds, as ``Plan`` takes them.

    Medians over tasks and pairs of methods. A correlation within clusters of one item counts as 0; seeds are left out
    where there is one.

    Raises ZooError where there are not two methods on one task.
    """
    matrices: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    groups: dict[tuple[str, str], str] = {}
    for row in predictions:
        matrices.setdefault(row["task"], {}).setdefault(row["method"], {}).setdefault(row["seed"], {})[row["id"]] = row[
            "score"
        ]
        groups[row["task"], row["id"]] = str(row.get("group") or row["id"])
    accuracy, correlation, within, deviation = [], [], [], []
    for task, methods in matrices.items():
        scores = {
            name: np.asarray([[answers[item] for item in next(iter(seeds.values()))] for answers in seeds.values()])
            for name, seeds in methods.items()
        }
        clusters = [groups[task, item] for item in next(iter(next(iter(methods.values())).values()))]
        deviation += [values.mean(axis=1).std(ddof=1) for values in scores.values() if len(values) > 1]
        names = list(scores)
        for number, first in enumerate(names):
            for second in names[number + 1 :]:
                one, other = scores[first][0], scores[second][0]
                if one.std() and other.std():
                    accuracy.append((one.mean() + other.mean()) / 2)
                    correlation.append(float(np.corrcoef(one, other)[0, 1]))
                    within.append(intraclass_correlation(one - other, clusters))
    if not correlation:
        raise ZooError("no task has two methods whose answers vary; give a comparison of at least two methods")
    found = {"accuracy": accuracy, "correlation": correlation, "cluster_correlation": within}
    known = {name: float(np.median(values)) for name, values in found.items()}
    known["cluster_correlation"] = min(1.0, max(0.0, known["cluster_correlation"]))
    return known | ({"seed_deviation": float(np.median(deviation))} if deviation else {})


def intraclass_correlation(values: np.ndarray, clusters: Sequence[str]) -> float:
    """Correlation of two items of one cluster, from the analysis of variance (Fisher; unequal sizes as in Donner 1986).

    0 where every item is a cluster of its own.
    """
    _, index = np.unique(np.asarray([str(name) for name in clusters]), return_inverse=True)
    sizes = np.bincount(index)
    if len(sizes) == len(values) or len(sizes) < 2:
        return 0.0
    means = np.bincount(index, weights=values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (len(sizes) - 1)
    inside = float(((values - means[index]) ** 2).sum()) / (len(values) - len(sizes))
    size = (len(values) - float((sizes**2).sum()) / len(values)) / (len(sizes) - 1)
    total = between + (size - 1) * inside
    return (between - inside) / total if total else 0.0
