"""One job of a comparison: one method trained with one seed and evaluated, in a process of its own."""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from zoo.config import differences, to_dict
from zoo.definition import EvaluationSetting, get_setting
from zoo.errors import ZooError, nearest
from zoo.evaluation.capabilities import support_of_task
from zoo.evaluation.controls import CONTROLS, shuffled
from zoo.evaluation.items import Item
from zoo.evaluation.runner import Decoding, Evaluator
from zoo.evaluation.table import SHUFFLED
from zoo.evaluation.tasks import load_items, scene_specs
from zoo.loading import load
from zoo.run import CONFIG_FILE, RunConfig, load_run
from zoo.training.checkpoint import list_checkpoints, read_state, trained_parameters
from zoo.training.loop import CHECKPOINT_FOLDER, DONE_FILE, METRICS_FILE, Interrupted, train

COST_FILE = "cost.json"


def job_folder(out: Path, name: str, seed: int) -> Path:
    return out / "runs" / name / f"seed-{seed}"


def controls_folder(out: Path) -> Path:
    """Where the answers of the shuffled control lie, in folders like those of the comparison itself."""
    return out / "controls" / SHUFFLED


def evaluation_of(config: RunConfig) -> EvaluationSetting:
    if config.evaluation is None:
        raise ZooError(f"setting {config.setting!r} names no evaluation; add tasks to it")
    for control in config.evaluation.controls:
        if control not in CONTROLS:
            raise ZooError(f"unknown control {control!r}.{nearest(control, CONTROLS)}")
    return config.evaluation


def run_job(config: RunConfig, out: Path, threads: int, on_progress: Callable[[int], object]) -> None:
    """Train and evaluate one method with one seed; whatever is there already is not done again."""
    torch.set_num_threads(threads)
    folder = job_folder(out, config.name, config.seed)
    if (folder / CONFIG_FILE).exists() and (old := load_run(folder / CONFIG_FILE)) != config:
        key, was, now = differences(to_dict(old), to_dict(config))[0]
        raise ZooError(f"{folder} was made with {key} = {was}, now it is {now}; choose another --out")
    if (folder / DONE_FILE).exists():
        steps = len((folder / METRICS_FILE).read_text().splitlines())
        on_progress(steps)
        model = load(folder)
    else:
        on_progress(_steps_saved(folder))
        model = train(config, folder, resume=True, quiet=True, on_step=lambda row: on_progress(1))
    evaluation = evaluation_of(config)
    decoding = Decoding(max_new_tokens=evaluation.max_new_tokens, prompt_form=evaluation.prompt_form)
    label = {"method": config.name, "seed": config.seed}
    evaluator = Evaluator(model, decoding=decoding, batch=evaluation.batch, label=label)
    began = time.perf_counter()
    for items in task_items(config):
        if support_of_task(config.method.name, items).missing:
            continue
        file = out / "predictions" / config.name / f"seed-{config.seed}" / f"{items[0].task}.jsonl"
        evaluator.evaluate(items, file, on_item=on_progress)
        if SHUFFLED in evaluation.controls:
            evaluator.evaluate(shuffled(items), controls_folder(out) / file.relative_to(out))
    totals = json.loads((folder / DONE_FILE).read_text())
    modes = {part: mode for stage in config.method.stages for part, mode in stage.train.items()}
    cost = {
        **label,
        "visual_tokens": model.num_image_tokens(),
        "trainable_parameters": sum(p.numel() for p in trained_parameters(model, config.method.stages).values()),
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "training_tokens": totals["tokens"],
        "supervised_tokens": totals["supervised_tokens"],
        "samples": totals["samples"],
        "seconds": round(totals["seconds"], 1),
        "evaluation_seconds": round(time.perf_counter() - began, 1),
        "peak_memory_bytes": peak_memory(),
        "threads": threads,
        "tuned": modes,
    }
    cost_file = folder / COST_FILE
    if not cost_file.exists():  # a repeated call only re-reads; it must not replace the figures of the real run
        cost_file.write_text(json.dumps(cost, indent=1))


def task_items(config: RunConfig) -> Iterator[list[Item]]:
    """The items of every task of the run's setting."""
    evaluation = evaluation_of(config)
    for spec in scene_specs(evaluation.tasks, evaluation.num_items, evaluation.seed, image_size_of(config)):
        yield load_items(spec)


def image_size_of(config: RunConfig) -> int | None:
    """The side of the evaluation images in pixels: what the setting fixes for the encoder, also for blind methods."""
    return get_setting(config.setting or "").encoder.get("image_size")


def _steps_saved(folder: Path) -> int:
    found = list_checkpoints(folder / CHECKPOINT_FOLDER)
    if not found:
        return 0
    state = read_state(found[-1])
    earlier = load_run(folder).method.stages[: state["stage_index"]]
    return state["step"] + sum(stage.steps or 0 for stage in earlier)


def peak_memory() -> int:
    """Largest memory of this process in bytes: of the accelerator where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def work(config: RunConfig, out: Path, threads: int, events: Any) -> None:
    """The body of a job's process. Errors travel as text: the parent prints one line, not a traceback."""
    name = f"{config.name} seed {config.seed}"
    try:
        run_job(config, out, threads, lambda amount: events.put(("progress", name, amount)))
        events.put(("done", name, None))
    except (Interrupted, KeyboardInterrupt):
        events.put(("interrupted", name, None))
    except ZooError as error:
        events.put(("error", name, str(error)))
