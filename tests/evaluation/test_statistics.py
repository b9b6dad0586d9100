import math
import time

import numpy as np
import pytest
from scipy import stats

from zoo.errors import ZooError
from zoo.evaluation.statistics import (
    Difference,
    clustered_standard_error,
    estimate,
    estimate_over_tasks,
    holm,
    mcnemar,
    paired_difference,
    verdict,
)


def test_clustered_error_of_singletons_is_the_ordinary_one():
    values = np.random.default_rng(0).random(40)
    assert clustered_standard_error(values, range(40)) == pytest.approx(stats.sem(values))


def test_clustered_error_by_hand():
    # mean 0.5; cluster sums of deviations: a = 1.0, b = -0.5, c = -0.5
    values = np.asarray([1, 1, 0, 0, 1, 0], dtype=float)
    clusters = ["a", "a", "b", "c", "b", "b"]
    deviations = {"a": 1.0, "b": -0.5, "c": -0.5}
    expected = np.sqrt(3 / 2 * sum(value**2 for value in deviations.values())) / 6
    assert clustered_standard_error(values, clusters) == pytest.approx(expected)


def test_copying_every_item_within_its_cluster_changes_nothing():
    values = np.random.default_rng(1).random(30)
    once = clustered_standard_error(values, range(30))
    assert clustered_standard_error(np.repeat(values, 4), np.repeat(np.arange(30), 4)) == pytest.approx(once)


def test_one_seed_covers_items_only_and_equals_the_t_interval():
    values = np.random.default_rng(2).random((1, 25)) * 0.4 + 0.3
    found = estimate(values, range(25))
    low, high = stats.t.interval(0.95, 24, loc=values.mean(), scale=stats.sem(values[0]))
    assert (found.low, found.high, found.covers) == (pytest.approx(low), pytest.approx(high), "items")


def test_seeds_widen_the_interval():
    generator = np.random.default_rng(3)
    alike = np.repeat((generator.random((1, 300)) < 0.6).astype(float), 3, axis=0)
    apart = alike.copy()
    apart[0, :60], apart[2, -60:] = 1, 0
    narrow, wide = estimate(alike, range(300)), estimate(apart, range(300))
    assert narrow.covers == "items and seeds"
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_interval_of_a_perfect_score_is_no_point():
    perfect = estimate(np.ones((2, 50)), range(50))
    exact = stats.binomtest(50, 50).proportion_ci(method="exact")
    assert (perfect.low, perfect.high) == (pytest.approx(exact.low), 1.0)
    assert estimate(np.zeros((2, 50)), range(50)).high == pytest.approx(1 - exact.low)


def test_one_cluster_gives_no_interval():
    found = estimate(np.asarray([[0.0, 1.0], [1.0, 1.0]]), ["a", "a"])
    assert (found.mean, found.low, found.high) == (0.75, None, None)
    difference = paired_difference(np.ones((1, 2)), np.zeros((1, 2)), ["a", "a"])
    assert difference.p is None
    assert verdict(difference, None) == "no difference shown"


@pytest.mark.parametrize("seed_spread", [0.0, 0.4])
def test_intervals_cover_the_truth_about_as_often_as_they_say(seed_spread):
    generator = np.random.default_rng(4)
    num_trials, num_clusters, size, num_seeds = 400, 40, 3, 3
    clusters = np.repeat(np.arange(num_clusters), size)
    covered = 0
    for _ in range(num_trials):
        latent = (
            0.5
            + 0.1 * seed_spread * generator.uniform(-1, 1, (num_seeds, 1))
            + np.repeat(generator.uniform(-0.2, 0.2, (1, num_clusters)), size, axis=1)
            + generator.uniform(-0.1, 0.1, (num_seeds, num_clusters * size))
        )
        found = estimate(latent, clusters)
        covered += found.low <= 0.5 <= found.high
    assert 0.92 <= covered / num_trials <= 1.0


def test_a_difference_between_equal_methods_is_rarely_significant():
    generator = np.random.default_rng(5)
    clusters = np.repeat(np.arange(40), 3)
    significant = 0
    for _ in range(400):
        skill = generator.uniform(0.3, 0.9, (1, 120))
        first = (generator.random((3, 120)) < skill).astype(float)
        second = (generator.random((3, 120)) < skill).astype(float)
        significant += paired_difference(first, second, clusters).p < 0.05
    assert significant / 400 <= 0.07


def test_pairing_sees_what_separate_intervals_do_not():
    generator = np.random.default_rng(6)
    base = np.repeat((generator.random((1, 400)) < 0.5).astype(float), 3, axis=0)
    better = base.copy()
    better[:, :20] = 1
    difference = paired_difference(better, base, range(400))
    first, second = estimate(better, range(400)), estimate(base, range(400))
    assert first.low < second.high
    assert difference.p < 0.05
    assert difference.low > 0
    assert difference.mean == pytest.approx(better.mean() - base.mean())


def test_p_value_and_interval_agree():
    generator = np.random.default_rng(7)
    for shift in np.linspace(0, 0.15, 30):
        first = (generator.random((3, 200)) < 0.5 + shift).astype(float)
        second = (generator.random((3, 200)) < 0.5).astype(float)
        difference = paired_difference(first, second, range(200))
        assert (difference.p < 0.05) == (not difference.low <= 0 <= difference.high)


def test_methods_may_have_different_numbers_of_seeds():
    generator = np.random.default_rng(8)
    first = (generator.random((3, 200)) < 0.8).astype(float)
    second = (generator.random((2, 200)) < 0.5).astype(float)
    difference = paired_difference(first, second, range(200))
    assert difference.mean == pytest.approx(first.mean() - second.mean())
    assert difference.covers == "items and seeds"


def test_whole_swing_on_few_clusters_is_not_certain():
    assert paired_difference(np.ones((1, 4)), np.zeros((1, 4)), range(4)).p == pytest.approx(2 * 0.5**4)
    same = paired_difference(np.ones((3, 9)), np.ones((3, 9)), range(9))
    assert (same.mean, same.p) == (0, 1)
    assert same.low < 0 < same.high


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, None]) == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06), None]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_verdict():
    clear = Difference(mean=0.2, low=0.1, high=0.3, p=0.001, covers="items")
    assert verdict(clear, 0.002) == "better"
    assert verdict(clear, 0.05) == "no difference shown"
    assert verdict(Difference(mean=-0.2, low=-0.3, high=-0.1, p=0.001, covers="items"), 0.001) == "worse"
    assert verdict(Difference(mean=0.2, low=-0.1, high=0.5, p=0.04, covers="items"), 0.04) == "no difference shown"


def test_bad_shapes_and_values_are_named():
    with pytest.raises(ZooError, match="3 items but 2 cluster"):
        estimate(np.zeros((1, 3)), ["a", "b"])
    with pytest.raises(ZooError, match="finite"):
        estimate(np.asarray([[np.nan, 1.0]]), ["a", "b"])
    with pytest.raises(ZooError, match=r"\[0, 1\]"):
        estimate(np.asarray([[2.0, 1.0]]), ["a", "b"])


def test_a_whole_comparison_is_fast():
    generator = np.random.default_rng(9)
    clusters = [f"scene-{at // 3}" for at in range(500)]
    start = time.perf_counter()
    for _ in range(12):
        values = (generator.random((2, 3, 500)) < 0.6).astype(float)
        estimate(values[0], clusters)
        paired_difference(values[0], values[1], clusters)
    assert time.perf_counter() - start < 1


def test_mcnemar_is_exact_and_chosen_for_unclustered_answers_of_one_run_each():
    first = np.asarray([1] * 9 + [0] * 2 + [1] * 20 + [0] * 10, dtype=float)
    second = np.asarray([0] * 9 + [1] * 2 + [1] * 20 + [0] * 10, dtype=float)
    by_hand = 2 * sum(math.comb(11, count) for count in range(3)) / 2**11
    assert mcnemar(first, second) == pytest.approx(by_hand)
    found = paired_difference(first[None], second[None], range(41))
    assert (found.test, found.p) == ("McNemar", pytest.approx(by_hand))
    assert paired_difference(first[None], second[None], np.arange(41) // 2).test == "t"
    assert paired_difference(np.stack([first] * 2), second[None], range(41)).test == "t"
    assert paired_difference(first[None] / 2, second[None], range(41)).test == "t"
    assert mcnemar(first, first) == 1


def test_mcnemar_is_that_of_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    generator = np.random.default_rng(10)
    for shift in (0.0, 0.1, 0.3):
        first, second = (generator.random(80) < 0.5 + shift), (generator.random(80) < 0.5)
        table = [[np.sum(a & b) for b in (second, ~second)] for a in (first, ~first)]
        assert mcnemar(first, second) == pytest.approx(tables.mcnemar(table, exact=True).pvalue)


def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    values = np.random.default_rng(11).random(12) ** 3
    assert holm(list(values)) == pytest.approx(multitest.multipletests(values, method="holm")[1].tolist())


def test_mean_over_tasks_of_equal_size_is_the_mean_over_items():
    generator = np.random.default_rng(12)
    first, second = generator.random((3, 60)), generator.random((3, 60))
    clusters = [f"image-{at // 2}" for at in range(60)]
    found = estimate_over_tasks([(first, clusters), (second, [f"other-{name}" for name in clusters])])
    # Stratified: the difference of the tasks' means is no variance.
    level = np.concatenate([first - first.mean(), second - second.mean()], axis=1) + 0.5
    error = clustered_standard_error(level.mean(axis=0), [f"{at // 2}" for at in range(120)])
    by_seed = (first.mean(axis=1) + second.mean(axis=1)) / 2
    total = np.sqrt(error**2 + by_seed.var(ddof=1) / 3)
    freedom = total**4 / (error**4 / 59 + (by_seed.var(ddof=1) / 3) ** 2 / 2)
    assert found.mean == pytest.approx((first.mean() + second.mean()) / 2)
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, freedom) * total)


def test_mean_over_tasks_weighs_tasks_alike_and_joins_their_clusters():
    one = np.random.default_rng(13).random((1, 30))
    alone = estimate(one, range(30))
    # The same image answered alike in both tasks is one observation, not two.
    twice = estimate_over_tasks([(one, range(30)), (one, range(30))])
    assert (twice.mean, twice.low, twice.high) == pytest.approx((alone.mean, alone.low, alone.high))
    large, small = np.full((1, 90), 0.25), np.full((1, 10), 0.75)
    assert estimate_over_tasks([(large, range(90)), (small, range(10))]).mean == pytest.approx(0.5)
    with pytest.raises(ZooError, match="1 to 2 seeds"):
        estimate_over_tasks([(one, range(30)), (np.repeat(one, 2, axis=0), range(30))])
