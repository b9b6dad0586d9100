"""zoo leaderboard: what may stand in one column, and the table in every format."""

import csv
import io
import json
import re

import numpy as np
import pytest

from zoo.cli import main
from zoo.errors import ZooError
from zoo.evaluation.formats import FORMATS, escape_latex
from zoo.evaluation.leaderboard import leaderboard, write_rows
from zoo.evaluation.pairs import pairwise, scores_of, tally
from zoo.evaluation.summary import summarise


def answers(method, task="colour", right=0.5, seeds=(0, 1), **change):
    generator = np.random.default_rng(sum(map(ord, method + task)))
    return [
        {
            "id": f"{task}-{at}",
            "group": f"{task}-{at // 2}",
            "task": task,
            "score": float(generator.random() < right),
            "references": ["red"],
            "metric": "exact_match",
            "metric_version": "exact_match/1",
            "decoding": "greedy",
            "method": method,
            "seed": seed,
        }
        | change
        for seed in seeds
        for at in range(60)
    ]


def folder(root, name, rows, *, setting="tiny", keep=True):
    out = root / name
    out.mkdir()
    methods = list(dict.fromkeys(row["method"] for row in rows))
    costs = [{"method": method, "seed": 0, "visual_tokens": 9 * at} for at, method in enumerate(methods)]
    write_rows(out / "results.jsonl", summarise(rows, costs, baseline=methods[0], chance={"colour": 0.2}), setting)
    (out / "costs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in costs))
    for row in rows if keep else ():
        file = out / "predictions" / row["method"] / f"seed-{row['seed']}" / f"{row['task']}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
    return out


BLIND, LLAVA, OTTER = answers("blind", right=0.2), answers("llava", right=0.8), answers("otter", right=0.5)


def test_two_comparisons_become_one_with_its_own_tests(tmp_path):
    first, second = folder(tmp_path, "first", BLIND + LLAVA), folder(tmp_path, "second", BLIND + OTTER)
    found = leaderboard([first, second])
    whole = summarise(BLIND + LLAVA + OTTER, baseline="blind")
    assert found.methods == ("blind", "llava", "otter"), "the blind runs are the same runs"
    for method in found.methods:
        assert found.results[method, "colour"].interval == whole.results[method, "colour"].interval
        assert found.results[method, "colour"].p_corrected == whole.results[method, "colour"].p_corrected
    assert found.results["llava", "colour"].chance == 0.2
    assert found.costs["otter"] == {"visual_tokens": 9}
    assert leaderboard([first, second], baseline="otter").results["llava", "colour"].difference.mean == pytest.approx(
        whole.results["llava", "colour"].interval.mean - whole.results["otter", "colour"].interval.mean
    )


def test_results_alone_stand_without_differences(tmp_path):
    first = folder(tmp_path, "first", BLIND + LLAVA, keep=False)
    second = folder(tmp_path, "second", BLIND + OTTER, keep=False)
    alone, both = leaderboard([first]), leaderboard([first, second])
    whole = summarise(BLIND + LLAVA, baseline="blind").results["llava", "colour"]
    assert alone.results["llava", "colour"].difference.mean == whole.difference.mean
    assert alone.results["llava", "colour"].verdict == "better"
    assert both.results["llava", "colour"].interval == whole.interval
    assert both.results["llava", "colour"].difference is None
    assert "baseline" not in FORMATS["terminal"](both)


@pytest.mark.parametrize(
    ("change", "setting", "named"),
    [
        ({"metric_version": "exact_match/2"}, "tiny", "metric version"),
        ({}, "small", "setting"),
        ({"decoding": "5 beams"}, "tiny", "decoding"),
        ({"references": ["blue"]}, "tiny", "set of items"),
    ],
)
def test_what_differs_is_refused_or_kept_apart(tmp_path, change, setting, named):
    first = folder(tmp_path, "first", LLAVA)
    second = folder(tmp_path, "second", [row | change for row in OTTER], setting=setting)
    with pytest.raises(ZooError, match=rf"more than one {named} \(first: .*; second: .*--separate"):
        leaderboard([first, second])
    found = leaderboard([first, second], separate=True)
    assert len(found.tasks) == 2 and all(task.startswith("colour (") for task in found.tasks)
    assert len(found.results) == 2, "no method has a number in the other's row"


def test_a_record_without_its_decoding_is_not_taken_for_equal(tmp_path):
    first, second = (folder(tmp_path, name, rows, keep=False) for name, rows in (("a", LLAVA), ("b", OTTER)))
    rows = [json.loads(line) for line in (second / "results.jsonl").read_text().splitlines()]
    (second / "results.jsonl").write_text("".join(json.dumps({**row, "decoding": None}) + "\n" for row in rows))
    with pytest.raises(ZooError, match="not recorded"):
        leaderboard([first, second])


def test_one_name_for_two_models_is_told_apart(tmp_path):
    other = [row | {"score": 1.0} for row in LLAVA]
    found = leaderboard([folder(tmp_path, "old", LLAVA), folder(tmp_path, "new", other)])
    assert found.methods == ("llava (old)", "llava (new)")
    assert found.results["llava (new)", "colour"].interval.mean == 1


def test_evaluations_of_a_model_on_other_tasks_join(tmp_path):
    for name, rows in (("one", LLAVA), ("two", answers("llava", "shape"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = leaderboard([tmp_path / "one", tmp_path / "two"])
    assert (found.methods, found.tasks) == (("llava",), ("colour", "shape"))


def test_folders_of_something_else_are_named(tmp_path):
    with pytest.raises(ZooError, match="nowhere is not a folder"):
        leaderboard([tmp_path / "nowhere"])
    with pytest.raises(ZooError, match=r"neither results\.jsonl nor predictions"):
        leaderboard([tmp_path])
    (tmp_path / "results.jsonl").write_text('{"method": "a"}\n')
    with pytest.raises(ZooError, match=r"line 1 lacks task, metric"):
        leaderboard([tmp_path])
    good = folder(tmp_path, "good", LLAVA)
    with pytest.raises(ZooError, match="baseline 'lava'"):
        leaderboard([good], baseline="lava")


def test_command_prints_every_format_and_a_report(tmp_path, capsys):
    out = str(folder(tmp_path, "first", BLIND + LLAVA))
    for form in FORMATS:
        assert main(["leaderboard", out, "--format", form]) == 0
        assert "llava" in capsys.readouterr().out
    assert main(["leaderboard", out, "--json", "--report", str(tmp_path / "board.html")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in rows} == {"blind", "llava"} and rows[0]["setting"] == "tiny"
    assert "1 / 0 / 0" in (tmp_path / "board.html").read_text()
    assert main(["leaderboard", out, "--format", "latx"]) == 2
    assert "Did you mean 'latex'" in capsys.readouterr().err


def test_csv_holds_what_results_hold(tmp_path):
    found = leaderboard([folder(tmp_path, "first", BLIND + LLAVA)])
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](found))))
    result = found.results["llava", "colour"]
    row = next(row for row in rows if row["method"] == "llava")
    assert float(row["mean"]) == result.interval.mean and float(row["p_corrected"]) == result.p_corrected
    assert (row["verdict"], row["seeds"], row["visual_tokens"]) == ("better", "0 1", "9.0")
    assert next(row for row in rows if row["method"] == "blind")["difference"] == ""


def test_latex_is_balanced_and_escaped(tmp_path):
    rows = [row | {"task": "a_b & 50% {x}"} for row in BLIND + LLAVA]
    text = FORMATS["latex"](summarise(rows, baseline="blind"))
    assert r"a\_b \& 50\% \{x\}" in text and r"$^{\uparrow}$" in text
    assert escape_latex("\\") == r"\textbackslash{}"
    bare = re.sub(r"\\[{}\\&%]", "", text)
    assert bare.count("{") == bare.count("}")
    columns = {line.count("&") for line in re.sub(r"\\&", "", text).splitlines() if line.endswith(r"\\")}
    assert columns == {3}


def test_pairs_are_corrected_over_all_pairs_and_tasks():
    rows = BLIND + LLAVA + OTTER + [row | {"task": "shape"} for row in BLIND + LLAVA + OTTER]
    pairs = pairwise(scores_of(rows), ("blind", "llava", "otter"), ("colour", "shape"))
    assert len(pairs) == 6
    smallest = min(pairs, key=lambda pair: pair.difference.p)
    assert smallest.p_corrected == pytest.approx(6 * smallest.difference.p)
    assert {kind: len(found) for kind, found in tally(pairs, "llava", "blind").items()} == {
        "win": 2, "tie": 0, "loss": 0,
    }  # fmt: skip
    assert len(tally(pairs, "blind", "llava")["loss"]) == 2
