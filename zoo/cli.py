"""The command line: a thin face on ``zoo.train``, ``zoo.evaluate``, ``zoo.compare`` and the registry.

Only the standard library is imported here: ``zoo --help`` must not wait for torch.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from zoo.errors import ZooError
from zoo.evaluation.commands import add_commands

BAD_INPUT = 2
PROBLEMS_FOUND = 2
UNEQUAL = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Bad input prints one line to stderr and returns 2; Ctrl-C returns 130."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse stops collecting key=value words at the first option; the ones behind it are as good.
    loose = [word for word in rest if "=" in word and not word.startswith("-") and hasattr(options, "overrides")]
    if len(loose) < len(rest):
        parser.error(f"unrecognized arguments: {' '.join(word for word in rest if word not in loose)}; see zoo --help")
    try:
        if loose:
            options.overrides = [*options.overrides, *loose]
        return options.run(options) or 0
    except ZooError as error:
        print(f"zoo: error: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nzoo: stopped; the same command goes on where it stopped (zoo train: add --resume)", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has closed; nothing more can be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zoo", description="Visual instruction tuning methods on shared parts.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = _add(commands, "list", _list, "the registered methods")
    command.add_argument("--family", help="llava, blip2, flamingo, region, video or baseline")
    command.add_argument("--json", action="store_true")

    command = _add(commands, "show", _show, "parts, stages, sizes, weights and published results of a method")
    command.add_argument("method")
    command.add_argument("--setting", help="show it under a controlled setting")
    command.add_argument("--json", action="store_true")
    _add_overrides(command)

    command = _add(commands, "weights", _weights, "the released checkpoints: layout, form, and how that is verified")
    command.add_argument("--json", action="store_true")

    command = _add(commands, "train", _train, "train a method on your data or under a setting")
    command.add_argument("method", nargs="?", help="a name of zoo list; left out with --config")
    command.add_argument("--setting", help="a file of benchmarks/settings by name, or a path")
    command.add_argument("--config", help="config.yaml of an earlier run, to repeat it")
    command.add_argument(
        "--data", action="append", default=[], metavar="[STAGE=]FILE", help="for one stage, or for all"
    )
    command.add_argument("--media-root", help="folder that the media paths of --data are relative to")
    command.add_argument("--seed", type=int)
    command.add_argument("--out", required=True, help="folder of the run")
    command.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    _add_overrides(command)

    command = _add(commands, "evaluate", _evaluate, "score a trained model on tasks")
    command.add_argument("model", help="folder of a run, a checkpoint or a released checkpoint")
    command.add_argument(
        "--task", action="append", default=[], metavar="SPEC", help="scenes:TASK, BENCHMARK:FOLDER or KIND:FILE"
    )
    command.add_argument("--setting", help="the tasks of a setting")
    command.add_argument("--media-root", help="folder of the images or videos of --task")
    command.add_argument(
        "--decoding", help="greedy (default) or likelihood (of an item's candidates); a benchmark has its published one"
    )
    command.add_argument("--max-new-tokens", type=int, help="default: 16; a benchmark's published number")
    command.add_argument(
        "--prompt-form", default="inference", help="inference (as published) or training, where a template has both"
    )
    command.add_argument("--batch", type=int, default=64)
    command.add_argument("--judge", metavar="SPEC", help="recorded:FILE, openai:MODEL@URL or local:FOLDER")
    command.add_argument("--shots", type=int, default=0, help="demonstrations before each question (default: 0)")
    command.add_argument("--shot-selection", default="random", help="random, or similar (by image features)")
    command.add_argument("--shot-seed", type=int, default=0, help="of the random selection")
    command.add_argument("--shot-pool", metavar="SPEC", help="training split to choose from; default: that of scenes")
    command.add_argument("--shot-media-root", help="folder of the images of --shot-pool")
    command.add_argument(
        "--zero-shot", default="plain", help="with 0 shots: plain, or text_only_demonstrations (OpenFlamingo's two)"
    )
    command.add_argument(
        "--shuffle-media",
        action="store_true",
        help="ask every question about another item's image: what looking is worth",
    )
    command.add_argument("--out", help="folder for the predictions; an interrupted evaluation goes on from there")
    command.add_argument("--json", action="store_true")

    benchmarks = commands.add_parser("benchmarks", help="the public benchmarks", description="The public benchmarks.")
    tools = benchmarks.add_subparsers(dest="tool", required=True, metavar="TOOL")
    command = _add(tools, "list", _benchmarks_list, "every benchmark with its metric")
    command.add_argument("--json", action="store_true")
    command = _add(tools, "show", _benchmarks_show, "files expected, prompts, decoding, metric, judge or not")
    command.add_argument("name")
    command.add_argument("--json", action="store_true")

    command = _add(commands, "score", _score, "score predictions made elsewhere, by a named metric")
    command.add_argument("metric", nargs="?", help="NAME or NAME:VARIANT of zoo score --list")
    command.add_argument("--predictions", metavar="FILE", help="in the benchmark's result format; some take a folder")
    command.add_argument("--references", metavar="FILE", help="the benchmark's annotations")
    command.add_argument("--list", action="store_true", help="name every metric and variant; of METRIC: all about it")
    command.add_argument("--json", action="store_true", help="every figure, and the score of every item")

    command = _add(commands, "compare", _compare, "train and evaluate methods under one setting; table and report")
    command.add_argument("methods", nargs="*", metavar="METHOD", help="names; key=value words apply to all of them")
    command.add_argument("--setting", help="what is held equal; a study names its own")
    command.add_argument("--study", help="YAML file that names setting, seeds and variants of methods")
    command.add_argument("--seeds", help="comma-separated; default: the setting's or the study's")
    command.add_argument("--baseline", default="blind", help="added when it is not among the methods (default: blind)")
    command.add_argument("--jobs", type=int, help="runs at a time; default: one a core on a CPU")
    command.add_argument("--out", required=True)
    command.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for all methods"
    )

    command = _add(commands, "verify", _verify, "run a reference's stored inputs through our model and compare")
    command.add_argument("folder", help="checkpoint, inputs.safetensors, outputs.safetensors and meta.json")
    command.add_argument(
        "--tolerance", type=float, help="largest difference (default: 1e-4, or the reference's own noise if larger)"
    )
    command.add_argument("--gradients", action="store_true", help="norms of the loss's gradients too (grads.json)")
    command.add_argument("--json", action="store_true")

    command = _add(commands, "chat", _chat, "talk with a model about images and videos")
    command.add_argument("model", help="a method (its shipped tiny weights, or --weights), a run, a folder or a hub id")
    command.add_argument("--weights", metavar="ID_OR_FOLDER", help="weights of the method")
    command.add_argument("--base", metavar="ID_OR_FOLDER", help="language model of released weights that hold none")
    command.add_argument("--setting", help="whose shipped weights and prompts (default: scenes-tiny)")
    command.add_argument("--image", action="append", default=[], metavar="FILE", help="shown with the first question")
    command.add_argument("--video", action="append", default=[], metavar="FILE", help="a file or a folder of frames")
    command.add_argument("--message", metavar="TEXT", help="ask this and end, instead of a conversation")
    command.add_argument("--max-new-tokens", type=int, default=128)
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: by the device")

    command = _add(commands, "pull", _pull, "fetch a checkpoint from the hub and check its hashes; prints the folder")
    command.add_argument("id", help="hub id, owner/name")
    command.add_argument("--revision", help="branch, tag or commit; default: what registry.yaml pins, else main")
    command.add_argument("--local-dir", help="folder for the files; default: the hub's cache (HF_HOME)")

    command = _add(commands, "pack", _pack, "write a run's weights, config and generated card to a folder")
    command.add_argument("folder", metavar="run", help="folder of a finished run")
    command.add_argument("out", help="folder to write; zoo.load and zoo chat take it")
    command.add_argument("--evaluation", help="folder of zoo evaluate --out; default: the comparison's of the run")

    command = _add(commands, "push", _push, "pack a run and upload it to the hub")
    command.add_argument("folder", metavar="run", help="folder of a finished run")
    command.add_argument("id", help="hub id, owner/name; made where it does not exist")
    command.add_argument("--evaluation", help="folder of zoo evaluate --out; default: the comparison's of the run")
    command.add_argument("--private", action="store_true", help="make a new repository private")

    command = _add(commands, "export", _export, "write a model for transformers' own class, or its adapters for peft")
    command.add_argument("model", help="folder or hub id of a model")
    command.add_argument("out", help="folder to write")
    command.add_argument("--layout", help="llava-hf, ..., or peft; default: by the model's connector and fusion")

    command = _add(commands, "merge", _merge, "fold a run's LoRA adapters into its weights")
    command.add_argument("model", help="folder of a run")
    command.add_argument("out", help="folder to write; zoo.load, zoo pack and zoo export take it")

    assets = commands.add_parser(
        "assets", help="real models and pictures from package registries", description="Assets."
    )
    tools = assets.add_subparsers(dest="tool", required=True, metavar="TOOL")
    command = _add(tools, "list", _assets_list, "what can be had, under which licence, and what is there")
    command.add_argument("--json", action="store_true")
    command = _add(tools, "get", _assets_get, "fetch packages by name, check their hashes, convert them once")
    command.add_argument("names", nargs="*", metavar="NAME", help="default: all")

    add_commands(commands, _add)

    data = commands.add_parser("data", help="check data files, write synthetic scenes", description="Data tools.")
    tools = data.add_subparsers(dest="tool", required=True, metavar="TOOL")
    command = _add(tools, "check", _data_check, "look for missing media, wrong placeholders, cut-off answers")
    command.add_argument("file", help="LLaVA JSON or JSONL, chat JSONL, or tar shards")
    command.add_argument("--media-root")
    command.add_argument("--method", help="check answer lengths with this method's tokenizer and template")
    command.add_argument("--setting", help="with --method: under this setting")
    command.add_argument("--limit", type=int, help="look at the first N samples only")
    command.add_argument("--json", action="store_true")
    command = _add(tools, "scenes", _data_scenes, "write scenes in the public formats")
    command.add_argument("directory")
    command.add_argument("--num-train", type=int, default=1000)
    command.add_argument("--num-eval", type=int, default=100, help="items a task")
    command.add_argument("--image-size", type=int, default=224)
    command.add_argument("--seed", type=int, default=0)
    return parser


def _add(commands: argparse._SubParsersAction, name: str, run: object, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    command.set_defaults(run=run)
    return command


def _add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="any field: stages.instruct.lr=1e-4")


def _list(options: argparse.Namespace) -> None:
    from zoo.registry import entries, list_methods

    names = list_methods(options.family)
    if options.json:
        print(json.dumps({name: entries()[name] for name in names}, indent=1))
        return
    width = max((len(name) for name in names), default=0)
    for name in names:
        print(f"{name:<{width}}  {entries()[name]['family']:<9} {entries()[name]['summary']}")


def _show(options: argparse.Namespace) -> None:
    from zoo.show import describe, render

    facts = describe(options.method, options.setting, options.overrides)
    print(json.dumps(facts, indent=1) if options.json else render(facts))


def _weights(options: argparse.Namespace) -> None:
    from zoo.weights.table import render, rows

    print(json.dumps(rows(), indent=1) if options.json else render(rows()))


def _train(options: argparse.Namespace) -> None:
    import dataclasses
    from pathlib import Path

    from zoo.config import override
    from zoo.run import load_run, qualified, resolve_run
    from zoo.training.loop import Interrupted, train

    overrides = list(options.overrides)
    if options.config:
        if options.method and "=" in options.method:
            overrides.insert(0, options.method)
        elif options.method:
            raise ZooError(f"give a method or --config, not both ({options.method!r} and {options.config!r})")
        if options.setting or options.data:
            raise ZooError("--config holds setting and data already; change single keys with key=value")
        config = override(load_run(Path(options.config)), [qualified(text) for text in overrides])
        if options.seed is not None:
            config = dataclasses.replace(config, seed=options.seed)
    else:
        if not options.method:
            raise ZooError("name a method (zoo list shows them) or give --config")
        data = {}
        for text in options.data:
            stage, equals, file = text.partition("=")
            data |= {stage: file} if equals else {"*": text}
        config = resolve_run(
            options.method,
            options.setting,
            overrides,
            seed=options.seed or 0,
            data=data,
            media_root=options.media_root,
        )
    try:
        train(config, options.out, resume=options.resume)
    except Interrupted as stop:
        print(f"\nzoo: {stop}; go on with --resume", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    print(f"trained; the model is in {options.out}/model (zoo evaluate {options.out} --task scenes:colour)")


def _evaluate(options: argparse.Namespace) -> None:
    from zoo.api import evaluate, load
    from zoo.definition import get_setting
    from zoo.evaluation.benchmarks.request import is_request
    from zoo.evaluation.decoding import Decoding
    from zoo.evaluation.few_shot import Shots
    from zoo.evaluation.summary import summarise
    from zoo.evaluation.table import render_table
    from zoo.evaluation.tasks import chance_levels, scene_specs

    specs, tokens, batch = (
        list(options.task),
        16 if options.max_new_tokens is None else options.max_new_tokens,
        options.batch,
    )
    form = options.prompt_form
    published = options.decoding is None and options.max_new_tokens is None
    if options.setting:
        setting = get_setting(options.setting)
        fixed = setting.evaluation
        specs += scene_specs(fixed.tasks, fixed.num_items, fixed.seed, setting.encoder.get("image_size"))
        tokens, batch, form = fixed.max_new_tokens, fixed.batch, fixed.prompt_form
    if not specs:
        raise ZooError("name what to score: --task scenes:colour, --task pope:FILE, or --setting NAME")
    decoding = Decoding(mode=options.decoding or "greedy", max_new_tokens=tokens, prompt_form=form)
    shots = Shots(
        num_shots=options.shots,
        selection=options.shot_selection,
        zero_shot=options.zero_shot,
        seed=options.shot_seed,
    )
    asked = [spec for spec in specs if is_request(spec)]
    model, rows, results = load(options.model), [], {}
    for some, how in (
        ([spec for spec in specs if spec not in asked], decoding),
        (asked, None if published else decoding),
    ):
        rows += evaluate(
            model,
            some,
            media_root=options.media_root,
            out=options.out,
            decoding=how,
            batch=batch,
            shots=shots,
            shot_pool=options.shot_pool,
            shot_media_root=options.shot_media_root,
            on_result=results.__setitem__,
            judge=options.judge,
            shuffle_media=options.shuffle_media,
        )
    scored = [row for row in rows if row["score"] is not None]
    tasks = list(dict.fromkeys(row["task"] for row in scored))
    comparison = summarise(scored, baseline=scored[0]["method"], chance=chance_levels(tasks)) if scored else None
    if options.json:
        figures = [{"task": task} | result.as_dict() for task, result in results.items()]
        print(json.dumps([*(comparison.rows() if comparison else ()), *figures], indent=1))
        return
    parts = [render_table(comparison)] if comparison else []
    parts += [f"{task}: {result.render()}" for task, result in results.items()]
    waiting = list(dict.fromkeys(row["task"] for row in rows if row["score"] is None and row["task"] not in results))
    parts += [f"{task}: answered, not graded; name who grades: --judge" for task in waiting]
    print("\n\n".join(parts))


def _benchmarks_list(options: argparse.Namespace) -> None:
    from zoo.evaluation.benchmarks.listing import describe, render_list
    from zoo.evaluation.benchmarks.registry import list_benchmarks

    print(json.dumps([describe(one) for one in list_benchmarks()], indent=1) if options.json else render_list())


def _benchmarks_show(options: argparse.Namespace) -> None:
    from zoo.evaluation.benchmarks.listing import describe, render
    from zoo.evaluation.benchmarks.registry import get_benchmark

    benchmark = get_benchmark(options.name)
    print(json.dumps(describe(benchmark), indent=1) if options.json else render(benchmark))


def _score(options: argparse.Namespace) -> None:
    from zoo.evaluation.metrics import get_metric, list_metrics

    if options.list:
        chosen = list_metrics()
        if options.metric:
            name, variant = get_metric(options.metric).name, options.metric.partition(":")[2]
            chosen = [metric for metric in chosen if metric.name == name and variant in ("", metric.variant)]
        if options.json:
            print(json.dumps([metric.describe() for metric in chosen], indent=1))
        elif options.metric:
            print("\n\n".join(metric.render() for metric in chosen))
        else:
            width = max(len(metric.full_name) for metric in chosen)
            print("\n".join(f"{metric.full_name:<{width}}  {metric.summary}" for metric in chosen))
        return
    if not options.metric or not options.predictions:
        raise ZooError("give METRIC and --predictions FILE (zoo score --list names the metrics)")
    result = get_metric(options.metric)(options.predictions, options.references)
    print(json.dumps(result.as_dict(), indent=1) if options.json else result.render())


def _compare(options: argparse.Namespace) -> None:
    from zoo.api import compare

    seeds = None
    if options.seeds is not None:
        try:
            seeds = [int(seed) for seed in options.seeds.split(",")]
        except ValueError:
            raise ZooError(f"--seeds {options.seeds!r} is no list of numbers; write 0,1,2") from None
    words = [*options.methods, *options.overrides]
    methods, setting, baseline = [word for word in words if "=" not in word], options.setting, options.baseline
    if options.study:
        from zoo.comparison import read_study

        if methods or setting:
            raise ZooError("a study names its methods and setting itself; give either --study or METHOD and --setting")
        study = read_study(options.study)
        methods, setting, baseline = study.variants, study.setting, study.baseline
        seeds = study.seeds if seeds is None else seeds
    elif not methods or not setting:
        raise ZooError("give methods and --setting, or --study FILE; zoo list names the methods")
    compare(
        methods,
        setting,
        options.out,
        seeds=seeds,
        overrides=[word for word in words if "=" in word],
        jobs=options.jobs,
        baseline=baseline,
    )


def _verify(options: argparse.Namespace) -> int:
    if options.tolerance is not None and not options.tolerance >= 0:
        raise ZooError(f"--tolerance {options.tolerance} is no size of a difference; give 0 or more")
    from zoo.verification import verify

    report = verify(options.folder, tolerance=options.tolerance, gradients=options.gradients)
    print(json.dumps(report.as_dict(), indent=1) if options.json else report.render())
    return 0 if report.passed else UNEQUAL


def _chat(options: argparse.Namespace) -> None:
    from zoo.chat import answer, open_chat, talk

    chat = open_chat(
        options.model,
        weights=options.weights,
        base=options.base,
        setting=options.setting,
        max_new_tokens=options.max_new_tokens,
        dtype=options.dtype,
    )
    for kind in ("image", "video"):
        for file in getattr(options, kind):
            chat.show(kind, file)
    if options.message is not None:
        print(answer(chat, options.message))
    else:
        talk(chat)


def _pull(options: argparse.Namespace) -> None:
    from zoo.hub import pull

    print(pull(options.id, revision=options.revision, local_dir=options.local_dir))


def _pack(options: argparse.Namespace) -> None:
    from zoo.package import package

    print(package(options.folder, options.out, evaluation=options.evaluation))


def _push(options: argparse.Namespace) -> None:
    from zoo.package import push_run

    print(push_run(options.folder, options.id, evaluation=options.evaluation, private=options.private))


def _export(options: argparse.Namespace) -> None:
    from zoo.loading import load
    from zoo.weights import export
    from zoo.weights.adapters import merge, save_adapters

    model = load(options.model)
    if options.layout == "peft":
        print("\n".join(str(folder) for folder in save_adapters(model, options.out)))
        return
    merge(model)
    export(model, options.out, options.layout)
    print(options.out)


def _merge(options: argparse.Namespace) -> None:
    from zoo.weights.adapters import merge_run

    print(merge_run(options.model, options.out))


def _assets_list(options: argparse.Namespace) -> None:
    from zoo.packaged.get import render, rows

    print(json.dumps(rows(), indent=1) if options.json else render(rows()))


def _assets_get(options: argparse.Namespace) -> None:
    from zoo.packaged import CATALOGUE
    from zoo.packaged.cache import get_asset
    from zoo.packaged.get import get

    names = options.names or list(CATALOGUE)
    # A mistyped name is said before anything is fetched.
    for name in names:
        get_asset(name)
    for name in names:
        print(f"{get(name)}\n    licence: {CATALOGUE[name].licence}", flush=True)


def _data_check(options: argparse.Namespace) -> int:
    from zoo.data.check import check

    encode = None
    if options.method:
        from zoo.show import length_check

        encode = length_check(options.method, options.setting)
    report = check(options.file, media_root=options.media_root, encode=encode, limit=options.limit)
    print(json.dumps(report.as_dict(), indent=1) if options.json else report.render())
    return 0 if report.ok else PROBLEMS_FOUND


def _data_scenes(options: argparse.Namespace) -> None:
    from zoo.data.scenes.files import write

    write(
        options.directory,
        num_train=options.num_train,
        num_eval=options.num_eval,
        image_size=options.image_size,
        seed=options.seed,
    )
    print(f"wrote {options.directory}; look at it with: zoo data check {options.directory}/train.json")


if __name__ == "__main__":
    sys.exit(main())
