"""train, evaluate and compare as Python functions; the command line is a thin face on them."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo.comparison import compare
from zoo.data.templates import get_template
from zoo.errors import ZooError
from zoo.evaluation.benchmarks.request import Request, is_request, read_request
from zoo.evaluation.benchmarks.scoring import score_rows, with_scores, write_result
from zoo.evaluation.benchmarks.styles import style_of
from zoo.evaluation.controls import shuffled
from zoo.evaluation.decoding import Decoding
from zoo.evaluation.few_shot import Shots, SupportPool, few_shot_items, split_shots
from zoo.evaluation.judge.grading import grade
from zoo.evaluation.judge.judges import Judge, open_judge
from zoo.evaluation.metrics import MetricResult
from zoo.evaluation.runner import Evaluator
from zoo.evaluation.table import SHUFFLED
from zoo.evaluation.tasks import load_items, load_support, support_spec
from zoo.loading import load
from zoo.model import VLM
from zoo.run import resolve_run
from zoo.training.loop import train as train_run

__all__ = ["compare", "evaluate", "load", "train"]


def train(
    name: str,
    out: "str | Path",
    setting: str | None = None,
    *,
    data: "str | dict[str, str] | None" = None,
    media_root: str | None = None,
    seed: int = 0,
    resume: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> VLM:
    """Train a method by name: ``zoo.train("llava-1.5", "runs/mine", "scenes-tiny", data="my.json")``.

    Args:
        data: a file for every stage, or stage name -> file.
        overrides: ``**{"stages.instruct.steps": 100}``.

    Raises:
        ZooError: bad names, keys or data; ``out`` holds a run already and ``resume`` is False.
    """
    texts = [f"{key}={value}" for key, value in overrides.items()]
    by_stage = {"*": data} if isinstance(data, str) else data
    config = resolve_run(name, setting, texts, seed=seed, data=by_stage, media_root=media_root)
    return train_run(config, out, resume=resume, quiet=quiet)


def evaluate(
    model: "VLM | str | Path",
    tasks: Sequence[str],
    *,
    media_root: str | None = None,
    out: "str | Path | None" = None,
    decoding: Decoding | None = None,
    batch: int = 64,
    shots: Shots | None = None,
    shot_pool: str | None = None,
    shot_media_root: str | None = None,
    on_result: Callable[[str, MetricResult], None] | None = None,
    judge: "Judge | str | None" = None,
    shuffle_media: bool = False,
) -> list[dict[str, Any]]:
    """Predictions of a model (or of the one in a folder) on tasks given by spec; see ``zoo.evaluation.tasks``.

    With ``out``, each task's rows are kept in OUT/TASK.jsonl and an interrupted evaluation goes on from there. The
    answers to a benchmark are kept in OUT/answers/TASK.jsonl, its figures in OUT/TASK.metric.json. Rows of a benchmark
    whose figure is no mean over items, or that a judge has to grade, have the score None.

    Args:
        decoding: of every task; default: plain greedy decoding, of a benchmark the published one.
        shots: demonstrations before each question (``zoo.evaluation.few_shot``); a spec may say otherwise for its task:
            ``scenes:colour?shots=4&selection=similar``.
        shot_pool: spec of the training split that they come from; default for scenes: their training split.
        shot_media_root: folder of the pool's images; default: the folder of its first file.
        judge: who grades the answers to benchmarks with a judged metric, or its spec (``zoo.evaluation.judge.judges``);
            without one they are answered only. Replies are kept in OUT/judge/TASK.jsonl.
        on_result: called with the task and the figures of each benchmark.
        shuffle_media: ask every question about another item's image or video (``zoo.evaluation.controls``); the rows'
            method says so, and files lie in OUT/controls/shuffled.

    Raises:
        ZooError: a bad spec or file, or demonstrations that the method cannot be shown.
    """
    vlm = model if isinstance(model, VLM) else load(model)
    template = vlm.method.template
    rows = []
    pools: dict[str, SupportPool] = {}
    for text in tasks:
        spec, own_shots = split_shots(text, shots or Shots())
        request = read_request(spec, template) if is_request(spec) else None
        evaluator = _evaluator(vlm, request, decoding, batch)
        items = load_items(spec, media_root=media_root, template=template)
        if shuffle_media:
            items = shuffled(items)
            evaluator.label = evaluator.label | {"method": f"{vlm.method.name}, {SHUFFLED}"}
        if own_shots.num_demonstrations:
            source = shot_pool or support_spec(spec)
            if source not in pools:
                pools[source] = SupportPool(vlm, load_support(source, media_root=shot_media_root, template=template))
            items = few_shot_items(items, pools[source], own_shots)
        # "colour (4 shots, similar)" becomes colour_4_shots_similar.
        stem = re.sub(r"[^\w.-]+", "_", items[0].task).strip("_") if items else ""
        folder = Path(out, *(("controls", SHUFFLED) if shuffle_media else ())) if out and stem else None
        if request is None:
            rows += evaluator.evaluate(items, folder / f"{stem}.jsonl" if folder else None)
            continue
        answers = evaluator.evaluate(items, folder / "answers" / f"{stem}.jsonl" if folder else None)
        if request.is_judged and judge is None:
            rows += answers
            continue
        if request.is_judged:
            judge = open_judge(judge) if isinstance(judge, str) else judge
            result = grade(answers, judge, folder / "judge" / f"{stem}.jsonl" if folder else None)
        else:
            result = score_rows(answers)
        scored = with_scores(answers, result)
        rows += scored
        if folder:
            write_result(folder, stem, scored, result)
        if on_result:
            on_result(items[0].task, result)
    return rows


def _evaluator(vlm: VLM, request: Request | None, decoding: Decoding | None, batch: int) -> Evaluator:
    if request is None:
        return Evaluator(vlm, decoding=decoding or Decoding(), batch=batch)
    prompt = request.prompt
    template = get_template(vlm.method.template)
    if prompt.form and style_of(template.name) != request.style:
        raise ZooError(
            f"{request.benchmark.name}: style {request.style} changes the conversation of its own methods and does not "
            f"fit template {template.name!r}; use style {style_of(template.name)} or plain"
        )
    return Evaluator(
        vlm,
        decoding=decoding or prompt.decoding,
        batch=batch,
        template=prompt.form(template) if prompt.form else template,
    )
