"""Comparisons: the whole path on tiny parts, going on after an interruption, and refusing an unequal one."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from zoo.comparison import Variant, compare, read_study
from zoo.comparison.compare import applicable
from zoo.comparison.diff import config_diff
from zoo.config import override
from zoo.errors import ZooError
from zoo.run import resolve_run

SCENES = "scenes:instruct?num_samples=64&image_size=32&questions_per_scene=2"


@pytest.fixture(scope="module")
def setting(tiny_setting, tmp_path_factory):
    """The tiny setting on scenes, with two tasks, saving at every step."""
    values = yaml.safe_load(open(tiny_setting).read())
    for stage in values["stages"].values():
        stage |= {"data": SCENES, "steps": 2}
    values["training"] |= {"save_every": 1}
    values["evaluation"] |= {"tasks": ["existence", "region_locate"], "num_items": 6, "max_new_tokens": 4}
    file = tmp_path_factory.mktemp("setting") / "tiny-scenes.yaml"
    file.write_text(yaml.safe_dump(values))
    return str(file)


def test_compare_writes_everything_and_repeats_nothing(setting, tmp_path):
    comparison = compare(["llava-1.5"], setting, tmp_path, seeds=[0, 1], jobs=2, quiet=True)
    assert comparison.methods == ("blind", "llava-1.5") and comparison.tasks == ("existence", "region_locate")
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {(row["method"], row["task"]) for row in rows} == {
        (method, task) for method in comparison.methods for task in comparison.tasks
    }
    assert all(row["n_items"] == 6 and row["seeds"] == [0, 1] for row in rows)
    costs = {row["method"]: row for row in map(json.loads, (tmp_path / "costs.jsonl").read_text().splitlines())}
    assert costs["blind"]["visual_tokens"] == 0 and costs["llava-1.5"]["visual_tokens"] == 16
    assert costs["blind"]["trainable_parameters"] < costs["llava-1.5"]["trainable_parameters"]
    page = (tmp_path / "report.html").read_text()
    assert "data:image/png" in page and "llava-1.5" in page and "http" not in page.split("<body")[1].split("src=")[0]
    assert "connector" in (tmp_path / "config_diff.txt").read_text()
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/*") if path.is_file()}
    again = compare(["llava-1.5"], setting, tmp_path, seeds=[0, 1], jobs=2, quiet=True)
    assert again.rows() == comparison.rows()
    assert made == {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/*") if path.is_file()}
    with pytest.raises(ZooError, match="choose another --out"):
        compare(["llava-1.5"], setting, tmp_path, seeds=[0, 1], overrides=["stages.instruct.lr=0.1"], quiet=True)


def test_interrupted_comparison_goes_on_to_the_same_result(setting, tmp_path):
    command = [sys.executable, "-m", "zoo", "compare", "llava-1.5", "--setting", setting, "--seeds", "0", "--jobs", "1"]
    process = subprocess.Popen([*command, "--out", tmp_path / "cut"], stderr=subprocess.PIPE, start_new_session=True)
    first = tmp_path / "cut" / "runs" / "blind" / "seed-0" / "checkpoints"
    while not list(first.glob("*/state.json")) and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err.decode()
    assert b"Traceback" not in err, err.decode()
    assert not (tmp_path / "cut" / "results.jsonl").exists()
    subprocess.run([*command, "--out", tmp_path / "cut"], check=True, capture_output=True)
    compare(["llava-1.5"], setting, tmp_path / "whole", seeds=[0], jobs=1, quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "cut" / "results.jsonl").read_text().splitlines()]
    assert rows == [json.loads(line) for line in (tmp_path / "whole" / "results.jsonl").read_text().splitlines()]


def test_only_the_method_may_differ(setting):
    configs = {name: resolve_run(name, setting) for name in ("blind", "llava", "llava-1.5")}
    lines = config_diff(configs).splitlines()
    assert any(line.strip().startswith("connector.kind: llava linear | llava-1.5 mlp") for line in lines)
    assert not any("stages.instruct.lr" in line or "training" in line for line in lines)
    for key in ("method.stages.instruct.lr=0.5", "training.micro_batch=1", "seed=5"):
        with pytest.raises(ZooError, match=key.split("=")[0].replace(".", r"\.")):
            config_diff(configs | {"llava": override(configs["llava"], [key])})


def test_an_override_of_a_stage_reaches_the_methods_that_have_it(setting, tmp_path):
    given = ["stages.align.steps=1", "stages.instruct.steps=1", "method.stages.align.lr=0.1", "seed=3"]
    chosen = applicable(["blind", "llava"], given)
    assert chosen == {"blind": ["stages.instruct.steps=1", "seed=3"], "llava": given}
    with pytest.raises(ZooError, match=r"'algin'"):
        compare(["llava"], setting, tmp_path, seeds=[0], overrides=["stages.algin.steps=1"], quiet=True)


def test_a_failing_job_is_named(setting, tmp_path):
    bad = ["stages.instruct.data=nowhere.json"]
    with pytest.raises(ZooError, match=r"blind seed 0: .*nowhere\.json"):
        compare(["llava-1.5"], setting, tmp_path, seeds=[0], overrides=bad, jobs=1, quiet=True)


def test_study_compares_variants_of_one_method(setting, tmp_path):
    file = tmp_path / "study.yaml"
    variants = {"blind": {}, "one layer": {"method": "llava-1.5", "overrides": ["connector.depth=1"]}, "llava-1.5": {}}
    values = {"question": "how deep?", "setting": setting, "seeds": [3], "variants": variants}
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    study = read_study(file)
    assert study.variants["one layer"] == Variant(method="llava-1.5", overrides=("connector.depth=1",))
    comparison = compare(
        study.variants,
        study.setting,
        tmp_path / "out",
        seeds=study.seeds,
        overrides=["evaluation.controls=[shuffled]"],
        jobs=2,
        quiet=True,
    )
    assert comparison.methods == ("blind", "one layer", "llava-1.5")
    diff = (tmp_path / "out" / "config_diff.txt").read_text()
    assert "connector.depth: one layer 1 | llava-1.5 2" in diff
    costs = {name: comparison.costs[name]["trainable_parameters"] for name in comparison.methods}
    assert costs["blind"] < costs["one layer"] < costs["llava-1.5"]
    assert comparison.results["one layer", "region_locate"].fallbacks == ("box_out",)
    extra = comparison.results["llava-1.5", "existence"].extra
    assert 0 <= extra["shuffled"]["mean"] <= 1 and 0 <= extra["prior"] <= 1
    assert "prior" not in comparison.results["llava-1.5", "region_locate"].extra, "no box is the most frequent one"
    assert "shuffled" in (tmp_path / "out" / "table.txt").read_text()
    shown = (tmp_path / "out" / "predictions" / "llava-1.5" / "seed-3" / "existence.jsonl").read_text()
    other = (tmp_path / "out" / "controls/shuffled/predictions/llava-1.5/seed-3/existence.jsonl").read_text()
    asked = [[json.loads(line)["prompt"] for line in text.splitlines()] for text in (shown, other)]
    assert asked[0] == asked[1] and len(asked[0]) == 6
    with pytest.raises(ZooError, match="Did you mean 'shuffled'"):
        compare(["llava"], setting, tmp_path / "no", overrides=["evaluation.controls=[shufled]"], quiet=True)
    file.write_text(yaml.safe_dump({"setting": setting, "variants": {"a/b": {}}}))
    with pytest.raises(ZooError, match="'a/b' becomes a folder's name"):
        read_study(file)
    file.write_text(yaml.safe_dump({"setting": setting, "variant": {}}))
    with pytest.raises(ZooError, match="unknown key 'variant'"):
        read_study(file)
