import json

import numpy as np
import pytest

from zoo.errors import ZooError
from zoo.evaluation.summary import summarise
from zoo.evaluation.table import TABLE_WIDTH, format_cost, render_markdown, render_table


def rows_of(method, seed, rate, *, task="colour", num_items=120, **more):
    generator = np.random.default_rng([seed, int(1000 * rate)])
    return [
        {
            "id": f"{task}-{at}",
            "group": f"scene-{at // 3}",
            "task": task,
            "prediction": "red",
            "parsed": "red",
            "score": float(generator.random() < rate),
            "references": ["red"],
            "metric": "exact_match",
            "metric_version": "exact_match/1",
            "decoding": {"max_new_tokens": 8},
            "method": method,
            "seed": seed,
            **more,
        }
        for at in range(num_items)
    ]


def made_up(methods=(("blind", 0.3), ("llava", 0.8), ("llava-1.5", 0.31)), seeds=(0, 1, 2)):
    return [
        row
        for task in ("colour", "shape")
        for method, rate in methods
        for seed in seeds
        for row in rows_of(method, seed, rate, task=task)
    ]


def test_rows_hold_what_the_predictions_say():
    predictions = made_up()
    comparison = summarise(predictions, baseline="blind", chance={"colour": 0.25})
    rows = {(row["method"], row["task"]): row for row in comparison.rows()}
    json.dumps(comparison.rows(), allow_nan=False)
    row = rows["llava", "colour"]
    scores = [line["score"] for line in predictions if line["method"] == "llava" and line["task"] == "colour"]
    assert row["mean"] == pytest.approx(np.mean(scores))
    assert (row["n_items"], row["n_clusters"], row["seeds"], row["chance"]) == (120, 40, [0, 1, 2], 0.25)
    assert row["per_seed"]["1"] == pytest.approx(np.mean(scores[120:240]))
    assert row["low"] < row["mean"] < row["high"]
    assert row["difference"]["verdict"] == "better"
    assert row["difference"]["mean"] == pytest.approx(row["mean"] - rows["blind", "colour"]["mean"])
    assert row["difference"]["p"] < row["difference"]["p_corrected"] < 0.05
    assert rows["llava-1.5", "colour"]["difference"]["verdict"] == "no difference shown"
    assert rows["blind", "colour"]["difference"] is None
    assert rows["blind", "shape"]["chance"] is None


def test_order_of_lines_does_not_matter():
    predictions = made_up()
    shuffled = [predictions[at] for at in np.random.default_rng(0).permutation(len(predictions))]
    shuffled.sort(key=lambda row: (row["task"], row["method"]))
    first, second = (summarise(lines, baseline="blind").rows() for lines in (predictions, shuffled))
    for one, other in zip(first, second, strict=True):
        assert one["mean"] == pytest.approx(other["mean"])
        assert one["high"] == pytest.approx(other["high"])


def test_different_items_are_refused_by_name():
    predictions = made_up()
    predictions = [row for row in predictions if (row["method"], row["seed"], row["id"]) != ("llava", 1, "shape-7")]
    with pytest.raises(ZooError, match=r"'shape': llava seed 1 and blind .*'shape-7'"):
        summarise(predictions, baseline="blind")


def test_missing_task_doubled_item_and_other_version_are_refused():
    predictions = made_up()
    with pytest.raises(ZooError, match=r"'llava' has no predictions for task 'shape'"):
        summarise([row for row in predictions if (row["method"], row["task"]) != ("llava", "shape")], baseline="blind")
    with pytest.raises(ZooError, match="'colour-0' was answered twice"):
        summarise([*predictions, predictions[0]], baseline="blind")
    other = [{**row, "metric_version": "exact_match/2"} if row["method"] == "llava" else row for row in predictions]
    with pytest.raises(ZooError, match="metric_version"):
        summarise(other, baseline="blind")
    with pytest.raises(ZooError, match="lacks score"):
        summarise([{key: value for key, value in predictions[0].items() if key != "score"}], baseline="blind")
    with pytest.raises(ZooError, match="Did you mean 'blind'"):
        summarise(predictions, baseline="blnd")


def test_table_prints_numbers_verdicts_and_costs_within_the_width():
    costs = [
        {"method": "llava", "seed": seed, "visual_tokens": 49, "trainable_parameters": 1_234_567, "seconds": 60 + seed}
        for seed in range(3)
    ]
    costs.append({"method": "blind", "seed": 0, "visual_tokens": 0, "peak_memory_bytes": 3 * 2**29})
    comparison = summarise(made_up(), costs, baseline="blind", chance={"colour": 0.125})
    text = render_table(comparison)
    assert max(map(len, text.splitlines())) <= TABLE_WIDTH
    llava = comparison.results["llava", "colour"]
    printed = f"{100 * llava.interval.mean:.1f} [{100 * llava.interval.low:.1f}, {100 * llava.interval.high:.1f}]"
    assert printed in text
    assert llava.p_corrected < 0.001
    assert f"{100 * llava.difference.mean:+.1f} (p < 0.001)" in text
    assert text.split("Score:")[0].count("no difference shown") == 2
    for expected in ("12.5", "1.23 M", "61 s", "1.50 GiB", "120 items, 40 groups", "seeds 0, 1, 2"):
        assert expected in text
    markdown = render_markdown(comparison)
    assert printed in markdown
    assert len({line.count("|") for line in markdown.splitlines() if line.startswith("|")}) == 1


def test_many_methods_go_on_below():
    methods = tuple((f"method-{at}", 0.3 + at / 20) for at in range(9))
    text = render_table(summarise(made_up(methods, seeds=(0,)), baseline="method-0"))
    table = text[: text.index("Score:")]
    assert max(map(len, table.splitlines())) <= TABLE_WIDTH
    assert all(f"method-{at}" in table for at in range(9))


def test_one_seed_says_that_training_variation_is_not_covered():
    text = render_table(summarise(made_up(seeds=(0,)), baseline="blind"))
    assert "does not cover training variation" in " ".join(text.split())
    assert "does not cover" not in " ".join(render_table(summarise(made_up(), baseline="blind")).split())


def test_decodings_that_differ_are_told():
    predictions = made_up()
    predictions[0]["decoding"] = {"max_new_tokens": 99}
    assert "Decoding was not the same" in render_table(summarise(predictions, baseline="blind"))


def test_yes_no_and_unseen_figures():
    rows = rows_of("blind", 0, 0.5, num_items=4, metric="yes_no", metric_version="yes_no/1 strict")
    for row, reference, parsed, unseen in zip(
        rows, ("yes", "yes", "no", "no"), ("yes", "no", "no", None), (True, False, False, True), strict=True
    ):
        row.update(references=[reference], parsed=parsed, score=float(reference == parsed), unseen=unseen)
    (row,) = summarise(rows, baseline="blind").rows()
    assert (row["yes_no"]["precision"], row["yes_no"]["recall"], row["yes_no"]["num_unparsed"]) == (1.0, 0.5, 1)
    assert row["unseen"] == {"mean": 0.5, "n_answers": 2}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("seconds", 7300, "2.0 h"),
        ("trainable_parameters", 7_100_000_000, "7.10 B"),
        ("training_tokens", 512_345, "512 k"),
        ("visual_tokens", 576, "576"),
        ("visual_tokens", 30.5, "30.5"),
        ("peak_memory_bytes", 5 * 2**20, "5 MiB"),
    ],
)
def test_costs_have_units(name, value, text):
    assert format_cost(name, {name: value}) == text
    assert format_cost(name, {}) == "-"
