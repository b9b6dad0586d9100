"""Cluster bootstrap: against scipy's bootstrap, closed forms and simulated coverage; figures against direct counts."""

import numpy as np
import pytest
from scipy import stats

from zoo.errors import ZooError
from zoo.evaluation.bootstrap import bootstrap_difference, bootstrap_estimate, draws
from zoo.evaluation.figures import auc_figure, f1_figure, mean_figure, mme_figure
from zoo.evaluation.metrics import get_metric
from zoo.evaluation.statistics import estimate, paired_difference


def yes_no(generator, num_clusters=60, size=3, skill=0.8):
    label = generator.random(num_clusters * size) < 0.4
    hard = np.repeat(generator.random(num_clusters) < 0.3, size)
    right = generator.random(num_clusters * size) < np.where(hard, 0.5, skill)
    return label, np.where(right, label, ~label), np.repeat(np.arange(num_clusters), size)


def f1(label, answer):
    return 2 * (label & answer).sum() / (label.sum() + answer.sum())


def test_draws_take_whole_clusters_and_keep_strata():
    clusters, strata = ["a", "a", "b", "c", "a"], ["x", "x", "x", "y", "y"]
    counts = np.concatenate(list(draws(clusters, num_draws=600)))
    assert counts.shape == (600, 5)
    assert (counts[:, 0] == counts[:, 1]).all() and (counts[:, 0] == counts[:, 4]).all()
    assert counts[:, [0, 2, 3]].sum(axis=1).tolist() == [3] * 600
    counts = np.concatenate(list(draws(clusters, strata=strata, num_draws=600)))
    assert (counts[:, [0, 2]].sum(axis=1) == 2).all() and (counts[:, [3, 4]].sum(axis=1) == 2).all()
    assert (counts[:, 0] != counts[:, 4]).any()


def test_f1_error_equals_that_of_scipys_bootstrap_over_clusters():
    label, answer, clusters = yes_no(np.random.default_rng(0))
    num_clusters = clusters.max() + 1
    both = np.bincount(clusters, weights=label & answer)
    either = np.bincount(clusters, weights=label.astype(float) + answer)
    scipys = stats.bootstrap(
        (np.arange(num_clusters),),
        lambda index, axis: 2 * both[index].sum(axis) / either[index].sum(axis),
        n_resamples=4000,
        method="percentile",
        rng=1,
    )
    found = bootstrap_estimate([f1_figure(label, answer)], clusters, num_draws=4000)
    half = stats.t.ppf(0.975, num_clusters - 1) * scipys.standard_error * np.sqrt(num_clusters / (num_clusters - 1))
    assert found.mean == pytest.approx(f1(label, answer))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    assert found.covers == "items"


def test_f1_error_is_near_the_delta_methods():
    label, answer, clusters = yes_no(np.random.default_rng(1), num_clusters=200)
    # f1 = a / b of sums over clusters: residuals a_c - f1 b_c over the mean of b.
    both = np.bincount(clusters, weights=2.0 * (label & answer))
    either = np.bincount(clusters, weights=label.astype(float) + answer)
    residuals = both - f1(label, answer) * either
    error = np.sqrt(200 / 199 * np.square(residuals).sum()) / either.sum()
    found = bootstrap_estimate([f1_figure(label, answer)], clusters)
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 199) * error, rel=0.06)


def test_a_mean_gets_the_interval_of_the_closed_form():
    generator = np.random.default_rng(2)
    values = generator.random((3, 120))
    clusters = np.repeat(np.arange(40), 3)
    exact = estimate(values, clusters)
    found = bootstrap_estimate([mean_figure(row) for row in values], clusters, num_draws=4000)
    assert (found.mean, found.covers) == (pytest.approx(exact.mean), exact.covers)
    assert found.high - found.low == pytest.approx(exact.high - exact.low, rel=0.05)
    other = values + generator.normal(0.03, 0.1, values.shape)
    exact = paired_difference(other, values, clusters)
    figures = [mean_figure(row) for row in other], [mean_figure(row) for row in values]
    found = bootstrap_difference(*figures, clusters, num_draws=4000)
    assert found.mean == pytest.approx(exact.mean)
    assert found.p == pytest.approx(exact.p, rel=0.25)


def test_a_bootstrapped_mean_difference_pairs_the_items():
    generator = np.random.default_rng(3)
    label, answer, clusters = yes_no(generator, num_clusters=150)
    better = answer.copy()
    better[:90] = label[:90]
    paired = bootstrap_difference([f1_figure(label, better)], [f1_figure(label, answer)], clusters)
    apart = [bootstrap_estimate([f1_figure(label, said)], clusters) for said in (better, answer)]
    assert apart[0].low < apart[1].high, "separate intervals overlap"
    assert 0 < paired.low < paired.high and paired.p < 0.05
    assert paired.mean == pytest.approx(f1(label, better) - f1(label, answer))


def test_intervals_of_f1_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(4)
    label, answer, _ = yes_no(generator, num_clusters=40_000)
    truth, covered = f1(label, answer), 0
    for _ in range(200):
        label, answer, clusters = yes_no(generator)
        found = bootstrap_estimate([f1_figure(label, answer)], clusters, num_draws=250)
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 200 <= 0.985


def test_equal_methods_are_rarely_told_apart():
    generator = np.random.default_rng(5)
    significant = 0
    for _ in range(200):
        label, answer, clusters = yes_no(generator)
        flipped, of_first = generator.random(len(label)) < 0.1, generator.random(clusters.max() + 1)[clusters] < 0.5
        first, second = answer ^ (flipped & of_first), answer ^ (flipped & ~of_first)
        found = bootstrap_difference([f1_figure(label, first)], [f1_figure(label, second)], clusters, num_draws=250)
        significant += found.p < 0.05
    assert significant / 200 <= 0.09


def test_auc_is_mann_whitneys_and_that_of_the_metric():
    generator = np.random.default_rng(6)
    label = generator.random(80) < 0.4
    scores = np.round(generator.normal(size=80) + label, 1)  # with ties
    expected = stats.mannwhitneyu(scores[label], scores[~label]).statistic / (label.sum() * (~label).sum())
    figure = auc_figure(label, scores)
    assert figure(np.ones((1, 80)))[0] == pytest.approx(expected)
    counts = np.concatenate(list(draws(range(80), num_draws=3)))
    for row, found in zip(counts.astype(int), figure(counts), strict=True):
        said, known = np.repeat(scores, row), np.repeat(label, row)
        repeated = stats.mannwhitneyu(said[known], said[~known]).statistic / (known.sum() * (~known).sum())
        assert found == pytest.approx(repeated)


def test_auc_error_is_near_delongs():
    generator = np.random.default_rng(7)
    label = np.arange(400) < 160
    scores = generator.normal(size=400) + label
    above = scores[label][:, None] > scores[~label][None]
    error = np.sqrt(above.mean(1).var(ddof=1) / 160 + above.mean(0).var(ddof=1) / 240)
    found = bootstrap_estimate([auc_figure(label, scores)], range(400))
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 399) * error, rel=0.07)


def test_auc_of_one_class_is_refused():
    with pytest.raises(ZooError, match="both classes"):
        bootstrap_estimate([auc_figure([True] * 5, range(5))], range(5))
    with pytest.raises(ZooError, match="rarer class"):
        bootstrap_estimate([auc_figure([True] + [False] * 9, range(10))], range(10))


def test_mme_draws_images_within_their_subtask():
    generator = np.random.default_rng(8)
    subtasks = np.repeat(["existence", "count"], 60)
    images = [f"{at // 2}.jpg" for at in range(120)]
    right = np.repeat(generator.random(60) < 0.6, 2)
    found = bootstrap_estimate([mme_figure(right, images, subtasks)], images, strata=subtasks, bounds=(0, 400))
    shares = [right[subtasks == name].mean() for name in ("existence", "count")]
    assert found.mean == pytest.approx(sum(200 * share for share in shares))
    # Both questions of an image alike: each subtask's score is 200 times a share of 30 images.
    error = 200 * np.sqrt(sum(share * (1 - share) / 30 for share in shares) * 60 / 58)
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 58) * error, rel=0.06)
    with pytest.raises(ZooError, match="has 1 questions"):
        mme_figure(right[:3], images[:3], subtasks[:3])


def test_f1_is_popes():
    label, answer, _ = yes_no(np.random.default_rng(9))
    references = [{"question_id": at, "label": "yes" if value else "no"} for at, value in enumerate(label)]
    predictions = [{"question_id": at, "text": "Yes" if value else "No"} for at, value in enumerate(answer)]
    values = get_metric("pope:official")(predictions, references).values
    assert f1_figure(label, answer)(np.ones((1, len(label))))[0] == pytest.approx(values["f1"])
    assert f1_figure([False], [False])(np.ones((1, 1)))[0] == 0


def test_a_figure_that_nothing_changes_has_no_interval():
    found = bootstrap_estimate([f1_figure([True] * 9, [True] * 9)], range(9))
    assert (found.mean, found.low, found.high) == (1.0, None, None)
    alike = [f1_figure([True, False] * 9, [True] * 18)]
    difference = bootstrap_difference(alike, alike, range(18))
    assert (difference.mean, difference.p, difference.low) == (0.0, None, None)
