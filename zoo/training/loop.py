"""The training loop: stages, steps, accumulation, metrics, checkpoints. Built on accelerate."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object, set_seed
from torch.optim import AdamW
from tqdm import tqdm

from zoo.config import Stage
from zoo.data.batch import Batch
from zoo.data.open import open_data
from zoo.data.templates import get_template
from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.model import VLM
from zoo.run import CONFIG_FILE, RunConfig, load_run, save_run
from zoo.training import checkpoint
from zoo.training.data import StepData, is_map_style, iterate, num_steps
from zoo.training.tuning import parameter_groups, prepare_adapters, render_part_table, set_train_mode, set_trainable

METRICS_FILE = "metrics.jsonl"
MODEL_FOLDER = "model"
CHECKPOINT_FOLDER = "checkpoints"
DONE_FILE = "done.json"
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Interrupted(Exception):
    """Ctrl-C or SIGTERM came; a checkpoint was written at the end of the step."""


def schedule(stage: Stage, total: int) -> Callable[[int], float]:
    """Linear warm-up over ``warmup`` of the steps, then the stage's schedule: the factor on the rate at a step."""
    warm = math.ceil(stage.warmup * total)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if stage.schedule == "constant":
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

    return factor


class Trainer:
    """Runs the stages of one config in ``out``. ``resume`` goes on from the newest checkpoint there, if any."""

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        *,
        resume: bool = False,
        quiet: bool = False,
        on_step: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        precision = config.training.precision
        if precision not in PRECISIONS:
            raise ZooError(f"training.precision is {precision!r}; use fp32, bf16 or fp16")
        self.config, self.out, self.quiet, self.on_step = config, out, quiet, on_step
        # A trained encoder read at its penultimate layer has a last block without gradient; added tokens, or media that
        # stand beside the prompt, may not occur in a batch; a connector's text stands beside what is read out of it.
        has_unused = any(stage.mode("encoder") != "frozen" for stage in config.method.stages)
        has_unused |= config.method.connector is not None and config.method.connector.reads_text
        has_unused |= bool(config.method.vocabulary) or config.method.fusion.kind != "splice"
        handler = DistributedDataParallelKwargs(find_unused_parameters=has_unused)
        # accelerate joins processes without an accelerator only when told that the CPU is meant.
        on_cpu = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.accelerator.is_available()
        # Not accelerate's mixed precision: it is one for the whole process, and stays wrapped around the model.
        self.accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[handler])
        self.scaler = torch.amp.GradScaler(self.accelerator.device.type, enabled=precision == "fp16")
        self.is_main = self.accelerator.is_main_process
        self.checkpoints = out / CHECKPOINT_FOLDER
        found = checkpoint.list_checkpoints(self.checkpoints)
        if not resume and (found or (out / DONE_FILE).exists()):
            raise ZooError(f"{out} holds a run already; pass --resume to go on with it or choose another --out")
        self.resume_from = found[-1] if resume and found else None
        if self.resume_from:
            self._check_same_config()
        self.interrupted = False
        self.totals = {"supervised_tokens": 0, "tokens": 0, "samples": 0, "seconds": 0.0, "silent_samples": 0}

    def _check_same_config(self) -> None:
        assert self.resume_from is not None
        recorded = load_run(self.resume_from / CONFIG_FILE)
        if recorded.method != self.config.method or recorded.seed != self.config.seed:
            from zoo.config import differences, to_dict

            # How steps are computed (training.*) may change; only what decides the result may not.
            pair = [{key: to_dict(run)[key] for key in ("method", "seed")} for run in (recorded, self.config)]
            key, old, new = differences(*pair)[0]
            raise ZooError(f"{self.out} was started with {key} = {old}, now it is {new}; resume with the same config")

    def run(self) -> VLM:
        """Train every stage and return the model. Raises Interrupted after saving on Ctrl-C."""
        config = self.config
        set_seed(config.seed)
        if config.training.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
        # A wrong path is said before gigabytes are loaded, and before the first stage has run for hours.
        sources = [open_data(stage.data, media_root=stage.media_root) for stage in config.method.stages]
        if self.is_main:
            save_run(config, self.out)
        model = build_model(config.method, seed=config.seed, attention=config.training.attention)
        # Python lets only the main thread set handlers; a run in another one is stopped by its owner.
        numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        handlers = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            start_stage = start_step = 0
            state = checkpoint.read_state(self.resume_from) if self.resume_from else None
            if state:
                start_stage, start_step = state["stage_index"], state["step"]
                self.totals = state["totals"]
                done = config.method.stages[: start_stage + 1]
                prepare_adapters(model, done, config.seed)
                checkpoint.load_weights(model, done, self.resume_from)
            self._trim_metrics(start_stage, start_step)
            for index in range(start_stage, len(config.method.stages)):
                resumes = bool(state) and index == start_stage
                self._run_stage(model, index, sources[index], start_step if resumes else 0, resumes)
            if self.is_main:
                checkpoint.save_weights(model, config, config.method.stages, self.out / MODEL_FOLDER)
                (self.out / DONE_FILE).write_text(json.dumps(self.totals, indent=1))
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            torch.use_deterministic_algorithms(False)
        return model.eval()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:  # the second Ctrl-C does not wait for the step
            raise KeyboardInterrupt
        self.interrupted = True

    def _trim_metrics(self, stage_index: int, step: int) -> None:
        """Drop metrics written after the checkpoint that the run goes on from: they will be written again."""
        file = self.out / METRICS_FILE
        if not self.is_main or not file.exists():
            return
        # A kill while writing leaves a line without its end.
        rows = [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        kept = [row for row in rows if (row["stage_index"], row["step"]) <= (stage_index, step)]
        file.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def _run_stage(self, model: VLM, index: int, source: Any, start: int, restore: bool) -> None:
        config, accelerator = self.config, self.accelerator
        stage = config.method.stages[index]
        prepare_adapters(model, [stage], config.seed)
        set_trainable(model, stage)
        set_train_mode(model)
        if config.training.gradient_checkpointing:
            enable_gradient_checkpointing(model)
        data = StepData(
            source,
            stage=stage,
            training=config.training,
            preprocessor=model.preprocessor(stage.objective),
            template=get_template(stage.template or config.method.template),
            seed=config.seed * 1009 + index,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )
        total = num_steps(stage, len(source) if is_map_style(source) else None)
        if self.is_main and not self.quiet:
            print(render_part_table(model, stage), flush=True)
        model.to(accelerator.device)
        optimizer = AdamW(parameter_groups(model, stage), betas=stage.betas, eps=stage.eps)
        wrapped = accelerator.prepare(model)
        if restore:
            assert self.resume_from is not None
            checkpoint.restore(
                self.resume_from, optimizer=optimizer, scaler=self.scaler, rank=accelerator.process_index
            )
        else:
            # Every rank has dropout of its own.
            set_seed(config.seed * 1009 + index, device_specific=True)
        factor = schedule(stage, total)
        writer = self._tensorboard(stage, start)
        hidden = self.quiet or not self.is_main
        bar = tqdm(total=total, initial=start, desc=stage.name, unit="step", disable=hidden, dynamic_ncols=True)

        def save(step: int) -> None:
            rng = gather_object([checkpoint.rng_state()])
            if self.is_main:
                checkpoint.save_checkpoint(
                    self.checkpoints,
                    model=accelerator.unwrap_model(wrapped),
                    rng=rng,
                    config=config,
                    stages=config.method.stages[: index + 1],
                    optimizer=optimizer,
                    scaler=self.scaler,
                    state={"stage_index": index, "stage": stage.name, "step": step, "totals": self.totals},
                    keep=config.training.keep_checkpoints,
                )
            accelerator.wait_for_everyone()

        with bar:
            clock = time.perf_counter()
            for step, (batches, silent) in enumerate(iterate(data, start, total), start=start):
                # The rate is a pure function of the step: nothing of it has to be saved.
                for group in optimizer.param_groups:
                    group["lr"] = group["base_lr"] * factor(step)
                row = self._step(wrapped, optimizer, batches, silent, stage)
                self._count(row, time.perf_counter() - clock)
                clock = time.perf_counter()
                row = {"stage": stage.name, "stage_index": index, "step": step + 1, **row}
                row |= {"lr": {g["name"]: g["lr"] for g in optimizer.param_groups}}
                row["seconds"] = round(self.totals["seconds"], 3)
                speed = f"{row['tokens_per_second']:.0f}"
                bar.set_postfix(loss=f"{row['loss']:.3f}", tokens_per_s=speed, refresh=False)
                bar.update()
                if self.on_step:
                    self.on_step(row)
                if self.is_main and (step + 1) % config.training.log_every == 0:
                    self._log(row, writer)
                finished, every, stop = step + 1 == total, config.training.save_every, self._stop_agreed()
                if stop or finished or (every and (step + 1) % every == 0):
                    save(step + 1)
                    clock = time.perf_counter()
                if stop and not (finished and index + 1 == len(config.method.stages)):
                    where = f"stage {stage.name} after step {step + 1} of {total}"
                    raise Interrupted(f"stopped in {where}; saved in {self.out}")
        if writer:
            writer.close()
        accelerator.free_memory()

    def _stop_agreed(self) -> bool:
        """Whether any process was told to stop: a signal reaches the ranks in different steps."""
        flag = torch.tensor(int(self.interrupted), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum"))

    def _step(
        self, model: torch.nn.Module, optimizer: Any, batches: list[Batch], silent: list[str], stage: Stage
    ) -> dict[str, Any]:
        """One optimizer step. The loss is the sum over supervised tokens divided by their number in the whole step."""
        accelerator = self.accelerator
        counts = torch.tensor(
            [
                sum(batch.num_supervised for batch in batches),
                sum(int(batch.attention_mask.sum()) for batch in batches),
                sum(len(batch.sample_ids) for batch in batches),
                len(silent),
            ],
            device=accelerator.device,
        )
        num_supervised, num_tokens, num_samples, num_silent = accelerator.reduce(counts, "sum").tolist()
        if num_supervised == 0:
            ids = [i for batch in batches for i in batch.sample_ids] + silent
            raise ZooError(
                f"no supervised token in a whole step: every answer of samples {', '.join(ids[:8])} is empty or cut "
                f"off by max_length {stage.max_length}; raise stages.{stage.name}.max_length or run zoo data check"
            )
        # Ranks may differ in their number of forwards; all of them have to take part in each collective.
        all_forwards = accelerator.gather(torch.tensor([len(batches)], device=accelerator.device))
        if int(all_forwards.min()) == 0:
            raise ZooError(
                f"a process has no supervised token in its share of a step{_named(silent)}; raise "
                f"stages.{stage.name}.max_length or stages.{stage.name}.batch, or run zoo data check"
            )
        num_forwards = int(all_forwards.max())
        loss_sum = torch.zeros((), device=accelerator.device)
        dtype = PRECISIONS[self.config.training.precision]
        for i in range(num_forwards):
            batch = batches[min(i, len(batches) - 1)]
            weight = 1.0 if i < len(batches) else 0.0
            with nullcontext() if i + 1 == num_forwards else accelerator.no_sync(model):
                with torch.autocast(accelerator.device.type, dtype=dtype, enabled=dtype is not None):
                    output = model(batch.to(accelerator.device), with_logits=False, objective=stage.objective)
                if not torch.isfinite(output.loss_sum):
                    raise ZooError(
                        f"loss is {output.loss_sum.item()} on samples {', '.join(batch.sample_ids[:8])}; lower the "
                        "learning rate, or look at these samples with zoo data check"
                    )
                loss_sum += weight * output.loss_sum.detach()
                # Data parallelism averages gradients over the processes, hence the factor.
                loss = output.loss_sum * (weight * accelerator.num_processes / num_supervised)
                self.scaler.scale(loss).backward()
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(trained, stage.clip) if stage.clip else None
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad()
        loss_sum = accelerator.reduce(loss_sum, "sum")
        return {
            "loss": float(loss_sum) / num_supervised,
            "grad_norm": None if norm is None else float(norm),
            "supervised_tokens": num_supervised,
            "tokens": num_tokens,
            "samples": num_samples,
            "silent_samples": num_silent,
        }

    def _count(self, row: dict[str, Any], seconds: float) -> None:
        for key in ("supervised_tokens", "tokens", "samples", "silent_samples"):
            self.totals[key] += row[key]
        self.totals["seconds"] += seconds
        row["tokens_per_second"] = row["tokens"] / max(seconds, 1e-9)

    def _tensorboard(self, stage: Stage, start: int) -> Any:
        if not self.is_main or not self.config.training.tensorboard:
            return None
        from torch.utils.tensorboard import SummaryWriter

        # Points written after the checkpoint that the run goes on from are written again.
        return SummaryWriter(self.out / "tensorboard" / stage.name, purge_step=start + 1 if start else None)

    def _log(self, row: dict[str, Any], writer: Any) -> None:
        with (self.out / METRICS_FILE).open("a") as file:
            file.write(json.dumps(row) + "\n")
        if writer:
            for key in ("loss", "grad_norm", "tokens_per_second"):
                if row[key] is not None:
                    writer.add_scalar(key, row[key], row["step"])


def _named(ids: list[str]) -> str:
    return f" (samples {', '.join(ids[:8])})" if ids else ""


def enable_gradient_checkpointing(model: VLM) -> None:
    """Recompute activations in the backward pass, in every part that gradients flow through."""
    for _, module in model.parts():
        if hasattr(network := getattr(module, "model", None), "gradient_checkpointing_enable"):
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def train(
    config: RunConfig,
    out: "Path | str",
    *,
    resume: bool = False,
    quiet: bool = False,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> VLM:
    """Train all stages of a resolved run config in folder ``out``; see ``zoo.run.resolve_run``.

    Writes config.yaml, metrics.jsonl, tensorboard/, checkpoints/ and, at the end, model/ (what ``zoo.load`` reads).
    ``on_step`` is called with the row of metrics of every step.

    Raises:
        ZooError: ``out`` holds a run and ``resume`` is False, a non-finite loss, a step without supervised tokens.
        Interrupted: Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    out = Path(out)
    if resume and (out / DONE_FILE).exists():
        from zoo.loading import load

        return load(out)
    return Trainer(config, out, resume=resume, quiet=quiet, on_step=on_step).run()
