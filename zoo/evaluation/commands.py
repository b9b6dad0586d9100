"""The commands ``zoo plan``, ``zoo leaderboard`` and ``zoo held``; ``zoo.cli`` adds them to the others.

Only the standard library is imported at the top: ``zoo --help`` must not wait for numpy.
"""

import argparse
import json
from collections.abc import Callable

from zoo.errors import ZooError, nearest

FORMAT_NAMES = ("terminal", "markdown", "csv", "latex")

Add = Callable[..., argparse.ArgumentParser]


def add_commands(commands: argparse._SubParsersAction, add: Add) -> None:
    """Add the commands; ``add`` is what ``zoo.cli`` adds its own with."""
    command = add(commands, "plan", _plan, "the smallest difference that a comparison can find, before it is run")
    command.add_argument("--setting", help="take items, clusters and seeds from a setting")
    command.add_argument("--task", metavar="SPEC", help="count items and clusters of a task, as of zoo evaluate")
    command.add_argument("--media-root", help="folder of the images or videos of --task")
    command.add_argument("--like", metavar="DIR", help="a finished comparison: its accuracy, correlations and seeds")
    command.add_argument("--items", type=int, help="questions")
    command.add_argument("--clusters", type=int, help="images or videos; default: one for each item")
    command.add_argument("--seeds", type=int, help="training runs a method (default: 1)")
    command.add_argument("--comparisons", type=int, default=1, help="methods compared with the baseline (default: 1)")
    command.add_argument("--accuracy", type=float, help="expected share of right answers (default: 0.5)")
    command.add_argument("--correlation", type=float, help="of two methods' answers to an item (default: 0.5)")
    command.add_argument("--cluster-correlation", type=float, help="of differences within a cluster (default: 0.1)")
    command.add_argument("--seed-deviation", type=float, help="of a method's score, a fraction (default: 0.01)")
    command.add_argument("--power", type=float, default=0.8, help="how often the difference is found (default: 0.8)")
    command.add_argument("--json", action="store_true")

    command = add(commands, "leaderboard", _leaderboard, "one table of several comparisons or evaluations")
    command.add_argument("directories", nargs="+", metavar="DIR", help="--out of zoo compare or zoo evaluate")
    command.add_argument("--format", default="terminal", help=f"{', '.join(FORMAT_NAMES)} (default: terminal)")
    command.add_argument("--baseline", default="", help="of the differences (default: the first method)")
    command.add_argument(
        "--separate", action="store_true", help="a row for each metric version, setting, decoding and set of items"
    )
    command.add_argument("--report", metavar="FILE", help="write the HTML report as well")
    command.add_argument("--json", action="store_true", help="rows as of results.jsonl")

    command = add(commands, "held", _held, "held-in or held-out: did released weights see a benchmark's training split")
    command.add_argument("method")
    command.add_argument("--json", action="store_true")


def _plan(options: argparse.Namespace) -> None:
    from zoo.evaluation.power import Plan, assumptions

    num_items, num_clusters, num_seeds = options.items, options.clusters, options.seeds
    if options.setting and options.task:
        raise ZooError("give --setting or --task, not both")
    if options.setting or options.task:
        counts = _counts(options)
        num_items = num_items or counts[0]
        num_clusters = num_clusters or min(counts[1], num_items)
        num_seeds = num_seeds or counts[2]
    if not num_items:
        raise ZooError("how large is the comparison? give --items N (and --clusters, --seeds), --setting or --task")
    known: dict[str, float] = {}
    if options.like:
        from zoo.evaluation.leaderboard import read_source

        known = assumptions(read_source(options.like).predictions)
    for name in ("accuracy", "correlation", "cluster_correlation", "seed_deviation"):
        if getattr(options, name) is not None:
            known[name] = getattr(options, name)
    plan = Plan(
        num_items=num_items,
        num_clusters=num_clusters or num_items,
        num_seeds=num_seeds or 1,
        num_comparisons=options.comparisons,
        power=options.power,
        **known,
    )
    print(json.dumps(plan.as_dict(), indent=1) if options.json else plan.render())


def _counts(options: argparse.Namespace) -> tuple[int, int, int]:
    """Items and clusters of one task, and seeds, of a setting or a task's spec."""
    from zoo.evaluation.tasks import load_items, scene_specs

    if options.task:
        items, num_seeds = load_items(options.task, media_root=options.media_root), 1
    else:
        from zoo.definition import get_setting

        setting = get_setting(options.setting)
        fixed = setting.evaluation
        items = load_items(
            scene_specs(fixed.tasks[:1], fixed.num_items, fixed.seed, setting.encoder.get("image_size"))[0]
        )
        num_seeds = len(setting.seeds)
    return len(items), len({item.sample.group or item.sample.id for item in items}), num_seeds


def _leaderboard(options: argparse.Namespace) -> None:
    if options.format not in FORMAT_NAMES:
        raise ZooError(f"unknown format {options.format!r}.{nearest(options.format, FORMAT_NAMES)}")
    from zoo.evaluation.formats import FORMATS
    from zoo.evaluation.leaderboard import leaderboard

    comparison = leaderboard(options.directories, baseline=options.baseline, separate=options.separate)
    if options.report:
        from zoo.comparison.page import write_leaderboard

        write_leaderboard(options.report, options.directories, comparison, separate=options.separate)
    print(json.dumps(comparison.rows(), indent=1) if options.json else FORMATS[options.format](comparison))


def _held(options: argparse.Namespace) -> None:
    from zoo.evaluation.benchmarks.registry import BENCHMARKS
    from zoo.evaluation.held import held, render
    from zoo.registry import entry

    entry(options.method)
    if options.json:
        marks = {benchmark: held(options.method, benchmark) for benchmark in BENCHMARKS}
        rows = {name: {"mark": found.mark, "reason": found.reason} for name, found in marks.items()}
        print(json.dumps(rows, indent=1))
    else:
        print(render(options.method))
