"""What the tests of training share: configs with other stages, comparison of runs."""

import dataclasses
import json

import torch

TIMES = ("seconds", "tokens_per_second")


def with_stages(config, **fields):
    """The run with these fields in every stage."""
    stages = tuple(dataclasses.replace(stage, **fields) for stage in config.method.stages)
    return dataclasses.replace(config, method=dataclasses.replace(config.method, stages=stages))


def only_stage(config, name, **fields):
    """The run with one of its stages."""
    stage = dataclasses.replace(config.method.stage(name), **fields)
    return dataclasses.replace(config, method=dataclasses.replace(config.method, stages=(stage,)))


def changed(first, second):
    """Names of the tensors in which two models differ."""
    before, after = first.state_dict(), second.state_dict()
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


def metric_rows(out):
    """The rows of metrics without what a clock measured."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
