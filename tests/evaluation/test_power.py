"""Minimum detectable effects: against Miller's sample sizes, simulated comparisons, and what a comparison recorded."""

import numpy as np
import pytest
from scipy import stats

from zoo.errors import ZooError
from zoo.evaluation.power import Plan, assumptions, intraclass_correlation
from zoo.evaluation.statistics import paired_difference


@pytest.mark.parametrize(("points", "correlation", "items"), [(0.03, 0.5, 2181), (0.02, 0.7, 2944)])
def test_one_seed_without_clusters_is_millers_sample_size(points, correlation, items):
    plan = Plan(num_items=items, num_clusters=items, accuracy=0.5, correlation=correlation, seed_deviation=0.0)
    assert plan.minimum_detectable_effect == pytest.approx(points, rel=2e-3)
    assert plan.power_for(points) == pytest.approx(0.8, abs=2e-3)


def test_power_without_a_difference_is_the_level():
    plan = Plan(num_items=300, num_clusters=100, num_seeds=3)
    assert plan.power_for(0) == pytest.approx(0.05, abs=1e-6)
    assert Plan(num_items=300, num_clusters=100, num_comparisons=5).power_for(0) == pytest.approx(0.01, abs=1e-6)


def test_power_is_the_non_central_t():
    for plan in (Plan(num_items=40, num_clusters=40), Plan(num_items=90, num_clusters=30, num_comparisons=4)):
        error, freedom = plan.error
        critical = stats.t.isf(0.025 / plan.num_comparisons, freedom)
        for difference in (0.05, 0.15, 0.3):
            shift = difference / error
            exact = stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift)
            assert plan.power_for(difference) == pytest.approx(exact, abs=1e-3)


def test_clusters_seeds_and_comparisons_move_it_as_they_should():
    def effect(**change):
        return Plan(
            **{"num_items": 1000, "num_clusters": 1000, "seed_deviation": 0.01} | change
        ).minimum_detectable_effect

    # All alike within a cluster: as many items as clusters.
    assert effect(num_clusters=250, cluster_correlation=1.0) == pytest.approx(effect(num_items=250, num_clusters=250))
    assert effect(num_clusters=250, cluster_correlation=0.0) == pytest.approx(effect(), rel=0.01)
    assert effect(num_seeds=2) > effect(num_seeds=5) > effect(num_seeds=5, seed_deviation=0)
    assert effect(num_comparisons=6) > effect()


def test_a_simulated_comparison_finds_the_effect_as_often_as_planned():
    generator = np.random.default_rng(0)
    num_items, num_seeds, deviation, correlation = 400, 3, 0.02, 0.5
    plan = Plan(num_items=num_items, num_clusters=num_items, num_seeds=num_seeds, correlation=correlation,
                seed_deviation=deviation)  # fmt: skip
    effect = plan.minimum_detectable_effect
    found = 0
    for _ in range(400):
        # Item noise that both methods share makes the correlation; answers of an item are alike between seeds.
        shared = generator.normal(0, 0.5 * np.sqrt(correlation), num_items)
        own = generator.normal(0, 0.5 * np.sqrt(1 - correlation), (2, num_items))
        seeds = generator.normal(0, deviation, (2, num_seeds, 1))
        first, second = (shared + own[at] + seeds[at] for at in (0, 1))
        found += paired_difference(first + effect, second, range(num_items)).p < 0.05
    assert found / 400 == pytest.approx(0.8, abs=0.06)


def test_bad_plans_are_named():
    for change, named in (
        ({"num_clusters": 1}, "1 clusters"),
        ({"num_clusters": 11}, "11 clusters"),
        ({"num_seeds": 0}, "0 seeds"),
        ({"accuracy": 60}, "accuracy 60"),
        ({"correlation": 1.0}, "correlation 1"),
        ({"power": 1.0}, "power 1"),
    ):
        with pytest.raises(ZooError, match=named):
            Plan(**{"num_items": 10, "num_clusters": 5} | change)


def test_text_states_every_assumption():
    text = Plan(num_items=240, num_clusters=80, num_comparisons=5, seed_deviation=0.02).render()
    for expected in ("240 items in 80 clusters", "5 comparisons", "0.5", "2 points", "one seed", "2411.00640"):
        assert expected in text


def test_intraclass_correlation_by_hand_and_by_simulation():
    # Two clusters of two: means 1 and 5; between 16, inside 1 -> (16 - 1) / (16 + 1).
    values = np.asarray([1 - 0.5**0.5, 1 + 0.5**0.5, 5 - 0.5**0.5, 5 + 0.5**0.5])
    assert intraclass_correlation(values, ["a", "a", "b", "b"]) == pytest.approx(15 / 17)
    assert intraclass_correlation(values, range(4)) == 0
    generator = np.random.default_rng(1)
    clusters = np.repeat(np.arange(3000), 4)
    values = generator.normal(size=3000)[clusters] * 0.3**0.5 + generator.normal(size=12000) * 0.7**0.5
    assert intraclass_correlation(values, clusters) == pytest.approx(0.3, abs=0.03)


def test_assumptions_are_read_off_a_finished_comparison():
    generator = np.random.default_rng(2)
    shared = generator.random(4000) < 0.5
    rows = []
    for method, shift in (("blind", 0.0), ("llava", 0.04)):
        for seed, moved in enumerate((-0.01, 0.01)):
            copied = generator.random(4000) < 0.5**0.5
            own = generator.random(4000) < 0.5 + shift + moved
            scores = np.where(copied, shared, own).astype(float)
            rows += [
                {"id": str(at), "group": f"g{at // 2}", "task": "t", "method": method, "seed": seed, "score": score}
                for at, score in enumerate(scores)
            ]
    known = assumptions(rows)
    assert known["correlation"] == pytest.approx(0.5, abs=0.05)
    assert known["accuracy"] == pytest.approx(0.5, abs=0.03)
    assert known["cluster_correlation"] == pytest.approx(0.0, abs=0.05)
    assert 0 < known["seed_deviation"] < 0.03
    assert Plan(num_items=1000, num_clusters=500, **known).minimum_detectable_effect > 0
    with pytest.raises(ZooError, match="two methods"):
        assumptions([row for row in rows if row["method"] == "blind"])
