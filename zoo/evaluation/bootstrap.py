"""Intervals and paired differences by cluster bootstrap, for figures that are no mean over items: F1, AUC, MME.

A figure is a function of how often each item counts. Clusters (all questions on an image) are drawn with replacement,
within their stratum where there are several (MME draws images within a subtask), and the figure is taken again. The
variance over the draws is that of the items; it joins the variance over training seeds as in
``zoo.evaluation.statistics``, and so do interval and p-value: a percentile interval would leave the seeds out.
Paired: both methods are taken on the same draws. Efron and Tibshirani, "An Introduction to the Bootstrap" (1993),
chapters 6 and 8; the factor G / (G - 1) makes up for the G clusters that the draws take as the whole.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
from scipy import stats

from zoo.errors import ZooError
from zoo.evaluation.statistics import LEVEL, Difference, Interval, combined_error, seed_components

# (draws, items), how often each item counts in each draw -> (draws,), NaN where the figure is not defined.
Figure = Callable[[np.ndarray], np.ndarray]

NUM_DRAWS = 2000
MAX_UNDEFINED = 0.05
_CHUNK = 250


def draws(
    clusters: Sequence[Hashable],
    *,
    strata: Sequence[Hashable] | None = None,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Multiplicities (up to 250 draws, items) of resampled clusters, ``num_draws`` in all.

    A cluster name that occurs in two strata is two clusters.
    """
    index, stratum = _clusters_and_strata(clusters, strata)
    num_clusters = len(stratum)
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(stratum == number) for number in range(stratum.max() + 1)]
    for start in range(0, num_draws, _CHUNK):
        counts = np.zeros((min(_CHUNK, num_draws - start), num_clusters))
        for places in members:
            equal = np.full(len(places), 1 / len(places))
            counts[:, places] = generator.multinomial(len(places), equal, size=len(counts))
        yield counts[:, index]


def _clusters_and_strata(
    clusters: Sequence[Hashable], strata: Sequence[Hashable] | None
) -> tuple[np.ndarray, np.ndarray]:
    """The number of each item's cluster, and the number of each cluster's stratum."""
    owners = [""] * len(clusters) if strata is None else [str(name) for name in strata]
    keys = list(zip(owners, map(str, clusters), strict=True))
    names = sorted(set(keys))
    number = {name: at for at, name in enumerate(names)}
    _, stratum = np.unique(np.asarray([owner for owner, _ in names]), return_inverse=True)
    return np.asarray([number[key] for key in keys]), stratum


def bootstrap_estimate(
    figures: Sequence[Figure],
    clusters: Sequence[Hashable],
    *,
    strata: Sequence[Hashable] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    num_draws: int = NUM_DRAWS,
) -> Interval:
    """The mean over seeds of a figure with its 95 % interval; ``figures`` holds a function a seed, over the same items.

    Args:
        clusters: the cluster of each item.
        strata: within which clusters are drawn; default: all together.
        bounds: least and greatest value of the figure; the interval is cut there.

    Raises:
        ZooError: the figure is not defined on the whole set, or on more than a twentieth of the draws.
    """
    found = _Draws([figures], clusters, strata, num_draws)
    error, freedom = combined_error([found.item_component(found.drawn[0]), *seed_components(found.whole)])
    mean = float(found.whole[0].mean())
    low, high = _limits(mean, error, freedom, *bounds)
    return Interval(mean=mean, low=low, high=high, covers="items" if len(figures) == 1 else "items and seeds")


def bootstrap_difference(
    figures: Sequence[Figure],
    baseline: Sequence[Figure],
    clusters: Sequence[Hashable],
    *,
    strata: Sequence[Hashable] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    num_draws: int = NUM_DRAWS,
) -> Difference:
    """The paired difference ``figures - baseline`` of means over seeds; arguments and errors as above."""
    found = _Draws([figures, baseline], clusters, strata, num_draws)
    error, freedom = combined_error(
        [found.item_component(found.drawn[0] - found.drawn[1]), *seed_components(found.whole)]
    )
    mean = float(found.whole[0].mean() - found.whole[1].mean())
    span = bounds[1] - bounds[0]
    low, high = _limits(mean, error, freedom, -span, span)
    p = None if low is None else float(2 * stats.t.sf(abs(mean) / error, freedom))
    covers = "items" if len(figures) == 1 or len(baseline) == 1 else "items and seeds"
    return Difference(mean=mean, low=low, high=high, p=p, covers=covers, test="bootstrap t")


class _Draws:
    """``whole``: (seeds, 1) of each method on all items; ``drawn``: (draws,) of each, averaged over seeds."""

    def __init__(
        self,
        methods: Sequence[Sequence[Figure]],
        clusters: Sequence[Hashable],
        strata: Sequence[Hashable] | None,
        num_draws: int,
    ) -> None:
        once = np.ones((1, len(clusters)))
        self.whole = [np.stack([figure(once) for figure in figures]) for figures in methods]
        if any(np.isnan(values).any() for values in self.whole):
            raise ZooError("a figure is not defined on these items (AUC needs both classes); score another set")
        chunks = [
            np.stack([np.mean([figure(counts) for figure in figures], axis=0) for figures in methods])
            for counts in draws(clusters, strata=strata, num_draws=num_draws)
        ]
        drawn = np.concatenate(chunks, axis=1)  # (methods, draws)
        kept = ~np.isnan(drawn).any(axis=0)
        if (undefined := 1 - kept.mean()) > MAX_UNDEFINED:
            raise ZooError(
                f"a figure is not defined on {undefined:.0%} of the resampled sets; give more items of the rarer class"
            )
        self.drawn = drawn[:, kept]
        _, stratum = _clusters_and_strata(clusters, strata)
        self.num_clusters, self.num_strata = len(stratum), int(stratum.max()) + 1

    def item_component(self, drawn: np.ndarray) -> tuple[float, float]:
        freedom = self.num_clusters - self.num_strata
        if freedom < 1:
            return float("nan"), float("nan")
        return float(drawn.var(ddof=1)) * self.num_clusters / freedom, float(freedom)


def _limits(
    mean: float, error: float, freedom: float, least: float, greatest: float
) -> tuple[float, float] | tuple[None, None]:
    # A figure that no draw changes (every answer right) has no bootstrap interval.
    if not error > 0:
        return None, None
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return max(least, mean - half), min(greatest, mean + half)
