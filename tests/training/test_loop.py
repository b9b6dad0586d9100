"""The loop: schedule, what it refuses, what it writes, and options that must not change what is learned."""

import dataclasses
import json
import os
import re
import signal
import tarfile

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_tools import changed, metric_rows, only_stage, with_stages

import zoo
from zoo.config import Stage
from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.model import VLM
from zoo.run import resolve_run
from zoo.training.data import num_steps
from zoo.training.loop import Interrupted, schedule, train


@pytest.fixture
def config(tiny_setting):
    """LLaVA-1.5 in two stages of three steps."""
    return resolve_run("llava-1.5", tiny_setting)


@pytest.fixture
def instruct(config):
    """Its second stage alone."""
    return only_stage(config, "instruct")


def stage(**fields):
    return Stage("align", **{"data": "", "train": {"connector": "full"}, "lr": 1.0} | fields)


def with_training(config, **fields):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **fields))


def write_records(folder, answers, name="own.json"):
    turns = [[{"from": "human", "value": f"Number {i}?"}, {"from": "gpt", "value": a}] for i, a in enumerate(answers)]
    records = [{"id": f"own-{i}", "conversations": turn} for i, turn in enumerate(turns)]
    (folder / name).write_text(json.dumps(records))
    return str(folder / name)


def test_schedule_warms_up_and_falls_to_zero():
    factor = schedule(stage(warmup=0.3), 10)
    assert [factor(step) for step in range(3)] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert factor(3) == 1.0
    assert factor(3 + 7 / 2) == pytest.approx(0.5)
    assert factor(10) == pytest.approx(0.0)
    assert all(factor(step) > factor(step + 1) > 0 for step in range(3, 9))
    assert schedule(stage(warmup=0.0), 10)(0) == 1.0
    constant = schedule(stage(warmup=0.3, schedule="constant"), 10)
    assert [constant(step) for step in (0, 3, 9)] == pytest.approx([1 / 3, 1.0, 1.0])
    with pytest.raises(ZooError, match=r"unknown schedule 'cosin'\. Did you mean 'cosine'"):
        stage(schedule="cosin")


def test_rates_follow_the_schedule(config, tmp_path):
    config = with_stages(config, steps=4, warmup=0.5, lr=0.1, part_lr={"language_model": 0.02})
    train(config, tmp_path / "run", quiet=True)
    rates = [row["lr"] for row in metric_rows(tmp_path / "run")]
    factors = [0.5, 1.0, 1.0, 0.5]
    assert [row["connector"] for row in rates] == pytest.approx([0.1 * factor for factor in factors * 2])
    assert [row["language_model"] for row in rates[4:]] == pytest.approx([0.02 * factor for factor in factors])
    assert all("language_model" not in row and "encoder" not in row for row in rates[:4])


def test_number_of_steps():
    assert num_steps(stage(batch=8, epochs=2.0), 20) == 5
    assert num_steps(stage(batch=8, epochs=0.5), 20) == 1
    assert num_steps(stage(batch=64), 20) == 1
    assert num_steps(stage(steps=7), None) == 7
    with pytest.raises(ZooError, match=r"stages\.align\.steps"):
        num_steps(stage(), None)


def test_loss_that_is_not_finite_names_the_samples(instruct, tmp_path, monkeypatch):
    forward = VLM.forward

    def spoiled(self, batch, **options):
        output = forward(self, batch, **options)
        bad = "sample-7" in batch.sample_ids
        return dataclasses.replace(output, loss_sum=output.loss_sum * float("nan")) if bad else output

    monkeypatch.setattr(VLM, "forward", spoiled)
    with pytest.raises(ZooError, match=r"loss is nan on samples .*sample-7"):
        train(instruct, tmp_path / "run", quiet=True)


def test_step_without_supervised_token_names_the_samples(instruct, tmp_path):
    data = write_records(tmp_path, ["Yes."] * 4)
    with pytest.raises(ZooError, match=r"own-\d.*max_length 8; raise stages\.instruct\.max_length"):
        train(with_stages(instruct, data=data, max_length=8), tmp_path / "run", quiet=True)


def test_silent_samples_are_counted(instruct, tmp_path):
    data = write_records(tmp_path, ["Yes.", "No.", "Yes.", "No."])
    records = json.loads(open(data).read())
    records[1]["conversations"][0]["value"] = "a long question " * 40
    (tmp_path / "own.json").write_text(json.dumps(records))
    train(with_stages(instruct, data=data, max_length=100, steps=3), tmp_path / "run", quiet=True)
    rows = metric_rows(tmp_path / "run")
    assert [row["silent_samples"] for row in rows] == [1, 1, 1]
    assert [row["samples"] for row in rows] == [3, 3, 3]
    assert json.loads((tmp_path / "run" / "done.json").read_text())["silent_samples"] == 3


def test_interruption_saves_and_resumes(config, tmp_path):
    whole = train(config, tmp_path / "whole", quiet=True)

    def press(row):
        if row["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    for name in ("align", "instruct"):
        with pytest.raises(Interrupted, match=f"stage {name} after step 2 of 3"):
            train(config, tmp_path / "run", resume=True, quiet=True, on_step=press)
        assert signal.getsignal(signal.SIGINT) is before
    resumed = train(config, tmp_path / "run", resume=True, quiet=True)
    assert not changed(whole, resumed)
    assert metric_rows(tmp_path / "run") == metric_rows(tmp_path / "whole")


def test_second_interruption_does_not_wait(config, tmp_path):
    def press(row):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", quiet=True, on_step=press)


def test_folder_of_another_run_is_refused(config, tmp_path):
    train(with_stages(config, steps=1), tmp_path / "run", quiet=True)
    with pytest.raises(ZooError, match="holds a run already; pass --resume"):
        train(config, tmp_path / "run", quiet=True)


def stop_in_first_stage(config, out):
    def press(row):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(config, out, quiet=True, on_step=press)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda config: with_stages(config, lr=1e-4), "method.stages.align.lr = 0.003, now it is 0.0001"),
        (lambda config: dataclasses.replace(config, seed=3), "seed = 0, now it is 3"),
    ],
)
def test_resume_with_another_config_is_refused(config, tmp_path, change, key):
    stop_in_first_stage(config, tmp_path / "run")
    # The evaluation and the way steps are computed may change; they are not to blame.
    other = with_training(dataclasses.replace(change(config), evaluation=None), micro_batch=4)
    with pytest.raises(ZooError, match=re.escape(key)):
        train(other, tmp_path / "run", resume=True, quiet=True)
    train(with_training(config, micro_batch=4), tmp_path / "run", resume=True, quiet=True)


def test_torn_line_of_metrics_is_dropped(config, tmp_path):
    whole = train(config, tmp_path / "whole", quiet=True)
    stop_in_first_stage(config, tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "align", "stage_index": 0, "step": 2, "lr": {"connector": 0.1}')
    assert not changed(whole, train(config, tmp_path / "run", resume=True, quiet=True))
    assert metric_rows(tmp_path / "run") == metric_rows(tmp_path / "whole")


def test_finished_run_is_loaded_not_repeated(config, tmp_path):
    first = train(config, tmp_path / "run", quiet=True)
    again = train(config, tmp_path / "run", resume=True, quiet=True, on_step=pytest.fail)
    assert not changed(first, again)


def test_same_seed_same_run_and_other_seed_another(instruct, tmp_path):
    first, second = (train(instruct, tmp_path / name, quiet=True) for name in "ab")
    assert not changed(first, second)
    other = train(dataclasses.replace(instruct, seed=1), tmp_path / "c", quiet=True)
    assert {key.split(".")[0] for key in changed(first, other)} == {"connector", "language_model"}
    assert metric_rows(tmp_path / "c")[0]["loss"] != metric_rows(tmp_path / "a")[0]["loss"]


def test_worker_processes_give_the_same_run(instruct, tmp_path):
    plain = train(instruct, tmp_path / "plain", quiet=True)
    assert not changed(plain, train(with_training(instruct, num_workers=2), tmp_path / "workers", quiet=True))


def test_gradient_checkpointing_gives_the_same_run(config, tmp_path):
    stages = [dataclasses.replace(s, train=dict(s.train) | {"encoder": "full"}) for s in config.method.stages]
    config = dataclasses.replace(config, method=dataclasses.replace(config.method, stages=tuple(stages)))
    plain = train(config, tmp_path / "plain", quiet=True)
    recomputed = train(with_training(config, gradient_checkpointing=True), tmp_path / "recomputed", quiet=True)
    assert not changed(plain, recomputed)


def test_bf16_runs_and_leaves_a_plain_model(instruct, tmp_path):
    plain = train(instruct, tmp_path / "plain", quiet=True)
    model = train(with_training(instruct, precision="bf16"), tmp_path / "bf16", quiet=True)
    assert changed(plain, model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    losses = [[row["loss"] for row in metric_rows(tmp_path / name)] for name in ("plain", "bf16")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
    loaded = zoo.load(tmp_path / "bf16")
    assert not changed(model, loaded)
    with pytest.raises(ZooError, match="use fp32, bf16 or fp16"):
        train(with_training(instruct, precision="bf8"), tmp_path / "bf8", quiet=True)


def test_shards_train_and_resume(config, data_file, tmp_path):
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        for number, record in enumerate(json.loads(data_file.read_text())):
            names = record.get("image", [])
            for place, name in enumerate([names] if isinstance(names, str) else names):
                tar.add(data_file.parent / name, f"{number:03}.{place}.png")
            (tmp_path / "record.json").write_text(json.dumps(record))
            tar.add(tmp_path / "record.json", f"{number:03}.json")
    # Five steps of four samples go once and a half over the twelve.
    config = with_stages(config, data=str(tmp_path / "data.tar"), steps=5)
    whole = train(config, tmp_path / "whole", quiet=True)

    def press(row):
        if row["step"] == 4:
            os.kill(os.getpid(), signal.SIGINT)

    for _ in config.method.stages:
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run", resume=True, quiet=True, on_step=press)
    assert not changed(whole, train(config, tmp_path / "run", resume=True, quiet=True))
    assert metric_rows(tmp_path / "run") == metric_rows(tmp_path / "whole")
    with pytest.raises(ZooError, match="stream of unknown length"):
        train(with_stages(config, steps=None), tmp_path / "other", quiet=True)


def test_metrics_and_tensorboard_have_every_step_once(config, tmp_path):
    config = with_stages(with_training(config, tensorboard=True, save_every=2), steps=5)

    def killed(row):
        if (row["stage"], row["step"]) == ("align", 4):
            raise MemoryError

    with pytest.raises(MemoryError):
        train(config, tmp_path / "run", quiet=True, on_step=killed)
    # The third row is younger than the checkpoint, and is written again.
    assert [row["step"] for row in metric_rows(tmp_path / "run")] == [1, 2, 3]
    train(config, tmp_path / "run", resume=True, quiet=True)
    rows = metric_rows(tmp_path / "run")
    assert [(row["stage"], row["step"]) for row in rows] == [(s, n) for s in ("align", "instruct") for n in range(1, 6)]
    for name in ("align", "instruct"):
        events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / name)).Reload()
        assert set(events.Tags()["scalars"]) == {"loss", "grad_norm", "tokens_per_second"}
        points = events.Scalars("loss")
        assert [point.step for point in points] == [1, 2, 3, 4, 5]
        losses = [row["loss"] for row in rows if row["stage"] == name]
        assert [point.value for point in points] == pytest.approx(losses, rel=1e-6)


def test_part_table_is_printed_before_the_start(config, tmp_path, capsys):
    train(with_stages(config, steps=1), tmp_path / "run")
    printed = capsys.readouterr().out
    assert printed.index("stage align") < printed.index("stage instruct")
    assert printed.count("connector") == 2


def test_saved_files_hold_no_path_of_ours(tiny_parts, tmp_path, data_file, monkeypatch):
    (tmp_path / "paths.yaml").write_text(f"own/encoder: {tiny_parts}/encoder\nown/lm: {tiny_parts}/language_model\n")
    monkeypatch.setenv("ZOO_PATHS", str(tmp_path / "paths.yaml"))
    monkeypatch.chdir(data_file.parent)
    overrides = [
        "encoder.id=own/encoder",
        "encoder.image_size=32",
        "language_model.id=own/lm",
        "training.micro_batch=2",
    ]
    config = resolve_run("llava-1.5", None, overrides, data={"*": "train.json"})
    config = with_stages(config, steps=1, batch=4, template=None)
    train(config, tmp_path / "run", quiet=True)
    checked = 0
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            assert b"/tmp/" not in file.read_bytes() and str(tiny_parts).encode() not in file.read_bytes(), file
            checked += 1
    assert checked > 8
    assert (tmp_path / "run" / "model" / "config.yaml").read_text().count("own/") == 2
    zoo.load(tmp_path / "run")


def test_fresh_weights_do_not_depend_on_what_was_drawn_before(config):
    first = build_model(config.method, seed=5)
    torch.rand(3)
    assert not changed(first, build_model(config.method, seed=5))
    assert changed(first, build_model(config.method, seed=6)) == {
        key for key in first.state_dict() if key.startswith("connector.")
    }
