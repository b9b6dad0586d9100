"""Several jobs at a time: tiny models gain nothing from threads, and a process has its own peak memory."""

import multiprocessing
import os
import queue
import signal
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zoo.comparison.job import evaluation_of, work
from zoo.errors import ZooError
from zoo.run import RunConfig


def run_jobs(configs: dict[tuple[str, int], RunConfig], out: Path, jobs: int, quiet: bool) -> None:
    waiting = list(configs.values())
    evaluation = evaluation_of(waiting[0])
    num_items = len(evaluation.tasks) * evaluation.num_items
    total = sum(sum(stage.steps or 0 for stage in config.method.stages) + num_items for config in waiting)
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    # The fork server imports torch and transformers once; every job starts from there as a process of its own.
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    context.set_forkserver_preload(["zoo.comparison.job"])
    events = context.Queue()
    running: dict[str, Any] = {}
    # Tiny tensors gain nothing from a thread pool that waits actively; set before the children import torch.
    environment = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    saved = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    failure = None
    try:
        with tqdm(total=total, desc="compare", unit="", disable=quiet, dynamic_ncols=True, smoothing=0.02) as bar:
            while (waiting and failure is None) or running:
                while waiting and len(running) < jobs and failure is None:
                    config = waiting.pop(0)
                    name = f"{config.name} seed {config.seed}"
                    running[name] = context.Process(target=work, args=(config, out, threads, events))
                    running[name].start()
                bar.set_postfix_str(", ".join(running), refresh=False)
                failure = _next_event(events, running, bar) or failure
    except KeyboardInterrupt:
        # The terminal sent the signal to the jobs as well; each saves at the end of its step.
        for process in running.values():
            process.join()
        raise
    finally:
        for process in running.values():
            if process.is_alive():
                process.terminate()
        for key, value in saved.items():
            os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)
    if failure == "interrupted":
        raise KeyboardInterrupt
    if failure:
        raise ZooError(failure)


def _next_event(events: Any, running: dict[str, Any], bar: tqdm) -> str | None:
    try:
        kind, name, detail = events.get(timeout=1.0)
    except queue.Empty:
        for name, process in list(running.items()):
            if process.exitcode is not None:
                # Its last event may still be on the way when the process has ended well.
                if process.exitcode == 0 and not events.empty():
                    return None
                del running[name]
                how = signal.Signals(-process.exitcode).name if process.exitcode < 0 else f"code {process.exitcode}"
                return f"{name} ended unexpectedly ({how}); run the same command again to go on"
        return None
    if kind == "progress":
        bar.update(detail)
        return None
    running.pop(name).join()
    if kind == "done":
        return None
    return "interrupted" if kind == "interrupted" else f"{name}: {detail}"
