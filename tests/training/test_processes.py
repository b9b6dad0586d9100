"""What takes more than one process: kill -9 and resume, data-parallel ranks."""

import dataclasses
import json
import random

import processes
import pytest
import torch
from tiny import COLOURS, picture
from training_tools import changed, metric_rows, with_stages

import zoo
from zoo.run import resolve_run, save_run
from zoo.training.checkpoint import list_checkpoints
from zoo.training.data import StepData
from zoo.training.loop import train

RANKS, BATCH, STEPS = 2, 5, 3


def test_killed_runs_go_on_bitwise(tiny_setting, tmp_path):
    config = resolve_run(
        "llava-1.5", tiny_setting, ["training.save_every=2", "lora.rank=2", "lora.alpha=4", "lora.dropout=0.3"]
    )
    config = with_stages(config, steps=10)
    align, instruct = config.method.stages
    instruct = dataclasses.replace(instruct, train={"connector": "full", "language_model": "lora"})
    config = dataclasses.replace(config, method=dataclasses.replace(config.method, stages=(align, instruct)))
    save_run(config, tmp_path)
    expected = train(config, tmp_path / "whole", quiet=True)
    killed = []
    metrics = tmp_path / "killed" / "metrics.jsonl"
    # Lines, not steps, are waited for: a resumed run writes again what came after its checkpoint.
    for first, last in ((1, 7), (11, 13), (15, 17)):
        process = processes.start(tmp_path, tmp_path / "killed")
        killed.append(processes.kill_after(process, metrics, random.randint(first, last)))
    assert all(killed)
    names = [path.name for path in list_checkpoints(tmp_path / "killed" / "checkpoints")]
    assert names < ["1-instruct-00000010"] and names > ["1-instruct"], "the last kill has to hit the second stage"
    resumed = train(config, tmp_path / "killed", resume=True, quiet=True)
    assert not changed(expected, resumed)
    assert metric_rows(tmp_path / "killed") == metric_rows(tmp_path / "whole")


@pytest.fixture
def ranks_config(tiny_setting, tmp_path):
    """Every step has five samples: rank 0 gets three with images, rank 1 two without."""
    num_samples = BATCH * STEPS
    config = resolve_run("llava-1.5", tiny_setting, ["training.micro_batch=1"])
    stages = []
    for index, stage in enumerate(config.method.stages):
        records = [{}] * num_samples
        order = StepData(records, stage=stage, training=config.training, preprocessor=None, template=None, seed=index)
        for position in range(num_samples):
            number = order.sample_index(position)
            colour = list(COLOURS)[number % 4]
            question, answer = f"What colour is square {number}?", f"The square is {colour}."
            record = {"id": str(number)}
            if position % BATCH % RANKS == 0:
                picture(colour, seed=number).save(tmp_path / f"{number}.png")
                question, record["image"] = f"<image>\n{question}", f"{number}.png"
            turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
            records[number] = record | {"conversations": turns}
        (tmp_path / f"{index}.json").write_text(json.dumps(records))
        # A large eps: Adam divides by the gradient's size, and would make rounding of tiny gradients visible.
        stages.append(
            dataclasses.replace(
                stage, data=str(tmp_path / f"{index}.json"), batch=BATCH, steps=STEPS, eps=1e-2, template=None
            )
        )
    stages[1] = dataclasses.replace(stages[1], train=dict(stages[1].train) | {"encoder": "full"})
    config = dataclasses.replace(config, method=dataclasses.replace(config.method, stages=tuple(stages)))
    save_run(config, tmp_path)
    return config


def test_ranks_equal_one_process(ranks_config, tmp_path):
    assert processes.train_on_ranks(tmp_path, tmp_path / "ranks", RANKS) == [0] * RANKS
    alone = train(ranks_config, tmp_path / "alone", quiet=True)
    together = zoo.load(tmp_path / "ranks").state_dict()
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(together[key], value, rtol=0, atol=1e-6)
    rows, expected = metric_rows(tmp_path / "ranks"), metric_rows(tmp_path / "alone")
    assert len(rows) == len(expected) == 2 * STEPS
    for row, other in zip(rows, expected):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-6)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], abs=1e-5)
        for key in ("samples", "tokens", "supervised_tokens"):
            assert row[key] == other[key]
    assert rows[0]["samples"] == BATCH
