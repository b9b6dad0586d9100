"""Head-to-head comparison: every method and seed trained and evaluated under one setting, then the statistics.

Whatever is finished stays on disk; the same command goes on where it stopped.
"""

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.comparison.diff import config_diff
from zoo.comparison.job import COST_FILE, controls_folder, evaluation_of, image_size_of, job_folder, task_items
from zoo.comparison.page import collect_examples, provenance
from zoo.comparison.pool import run_jobs
from zoo.comparison.study import Variant
from zoo.definition import get_setting
from zoo.evaluation.capabilities import support_of_task
from zoo.evaluation.controls import prior_score, with_controls
from zoo.evaluation.formats import FORMATS, SUFFIXES
from zoo.evaluation.leaderboard import RESULTS_FILE, write_rows
from zoo.evaluation.report import read_curves, read_predictions, write_report
from zoo.evaluation.summary import Comparison, summarise
from zoo.evaluation.table import render_table
from zoo.evaluation.tasks import chance_levels, load_items, scene_specs, support_spec
from zoo.registry import get_method
from zoo.run import RunConfig, resolve_run

BASELINE = "blind"
# Metrics whose right answers are words, so that a most frequent one can be said.
WORDED = ("exact_match", "yes_no")


def compare(
    methods: Sequence[str] | Mapping[str, Variant],
    setting: str,
    out: "str | Path",
    *,
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    jobs: int | None = None,
    baseline: str = BASELINE,
    quiet: bool = False,
) -> Comparison:
    """Train and evaluate ``methods`` and the baseline under ``setting``; table, results and report go to ``out``.

    Args:
        methods: names, or label -> variant (a method with overrides of its own, see ``zoo.comparison.study``).
        seeds: training seeds; default: the setting's.
        overrides: ``key.sub=value``, applied to every method alike.
        jobs: runs at a time; default: one a core on a CPU, one with an accelerator.
        baseline: the method that the others are compared with; added when it is not among them.

    Raises:
        ZooError: bad input; methods whose configs differ in more than the method; a failed job.
        KeyboardInterrupt: after every running job has saved.
    """
    started = time.time()
    out = Path(out)
    given = dict(methods) if isinstance(methods, Mapping) else {name: Variant() for name in methods}
    variants = {baseline: given.pop(baseline, Variant()), **given}
    names = list(variants)
    method_of = {name: variant.method or name for name, variant in variants.items()}
    fixed = get_setting(setting)
    chosen = tuple(seeds) if seeds is not None else fixed.seeds
    shared = applicable(list(method_of.values()), overrides)
    configs = {
        (name, seed): dataclasses.replace(
            resolve_run(method_of[name], setting, [*variant.overrides, *shared[method_of[name]]], seed=seed),
            label="" if name == method_of[name] else name,
        )
        for name, variant in variants.items()
        for seed in chosen
    }
    diff = config_diff({name: configs[name, chosen[0]] for name in names})
    if not quiet:
        print(f"Differences of the resolved configs ({setting}):\n{diff}\n", flush=True)
    run_jobs(configs, out, jobs or default_jobs(), quiet)
    predictions = read_predictions(out)
    wanted = {(name, seed) for name, seed in configs}
    tasks = list(dict.fromkeys(evaluation_of(configs[names[0], chosen[0]]).tasks))
    predictions = [row for row in predictions if (row["method"], row["seed"]) in wanted and row["task"] in tasks]
    predictions.sort(key=lambda row: (tasks.index(row["task"]), names.index(row["method"]), row["seed"]))
    costs = [json.loads((job_folder(out, name, seed) / COST_FILE).read_text()) for name, seed in configs]
    missing = {
        (name, items[0].task): " or ".join(found)
        for items in task_items(configs[names[0], chosen[0]])
        for name in names
        if (found := support_of_task(method_of[name], items).missing)
    }
    comparison = summarise(predictions, costs, baseline=baseline, chance=chance_levels(tasks), impossible=missing)
    controls = [row for row in read_predictions(controls_folder(out)) if (row["method"], row["seed"]) in wanted]
    comparison = with_controls(comparison, priors(configs[names[0], chosen[0]]), controls)
    write_rows(out / RESULTS_FILE, comparison, setting)
    (out / "costs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in costs))
    table = render_table(comparison)
    for form, render in FORMATS.items():
        (out / f"table.{SUFFIXES[form]}").write_text(render(comparison) + "\n")
    (out / "config_diff.txt").write_text(diff + "\n")
    write_report(
        out / "report.html",
        comparison,
        curves={name: rows for name, rows in read_curves(out).items() if name in names},
        examples=collect_examples(predictions, configs[names[0], chosen[0]]),
        config_diff=diff,
        predictions=predictions,
        provenance=provenance(names, setting, chosen, overrides),
    )
    if not quiet:
        print(table)
        print(f"\n{time.time() - started:.0f} s; {out / 'report.html'} has curves, charts and examples", flush=True)
    return comparison


def applicable(names: Sequence[str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """The overrides of each method, less those of a stage that only other methods have (blind has no align stage).

    A stage that none of them has stays in, for the error that names the nearest match.
    """
    stages = {name: {stage.name for stage in get_method(name).stages} for name in names}
    known = set().union(*stages.values())

    def concerns(name: str, text: str) -> bool:
        head, _, rest = text.removeprefix("method.").partition(".")
        stage = rest.split("=")[0].split(".")[0]
        return head != "stages" or stage in stages[name] or stage not in known

    return {name: [text for text in overrides if concerns(name, text)] for name in names}


def priors(config: RunConfig) -> dict[str, float | None]:
    """The score of the prior answers on every task of the setting, from the training split of the same scenes."""
    evaluation = evaluation_of(config)
    found = {}
    for spec in scene_specs(evaluation.tasks, evaluation.num_items, evaluation.seed, image_size_of(config)):
        items = load_items(spec)
        found[items[0].task] = (
            None if items[0].metric not in WORDED else prior_score(items, load_items(support_spec(spec)))
        )
    return found


def default_jobs() -> int:
    import torch

    return 1 if torch.accelerator.is_available() else len(os.sched_getaffinity(0))
