"""MVBench: one of a video question's options, read as the official check_ans does, or repaired.

Li et al., "MVBench: A Comprehensive Multi-modal Video Understanding Benchmark" (2024), and mvbench.ipynb of
Ask-Anything.
"""

import re
import string
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import get, grouped_mean, join, keyed, mean, records, texts
from zoo.evaluation.metrics.metric import Metric, Outcome

TASK_KEYS = ("task_type", "task")


def official(said: str, gold: str) -> bool:
    """The first blank-separated token, without periods, and that of the right option ("(a)") hold one another.

    So an empty answer is right, and so is any that begins with "(" or with a single right letter.
    """
    option, gold_option = said.lower().split(" ")[0], gold.lower().split(" ")[0]
    return option.replace(".", "") in gold_option or gold_option in option


def robust(said: str, gold: str) -> bool:
    """The letter at the beginning of the answer, with or without brackets and marks, is that of the right option."""
    found = re.match(r"\s*\(?([a-z])(?:[).:,]|\s*$)", said.lower())
    return bool(found) and gold.lower().startswith(f"({found[1]})")


def score_mvbench(predictions: Any, references: Any, *, is_right: Callable[[str, str], bool]) -> Outcome:
    """Accuracy by task, and over all questions; ``task_mean`` is the mean over tasks, which papers call the average."""
    triples = _with_gold(predictions, references)
    items = {name: float(is_right(said, gold)) for name, said, gold, _ in triples}
    tasks = {name: task for name, _, _, task in triples if task}
    values, by_task = {"accuracy": 100 * mean(list(items.values()))}, grouped_mean(items, tasks, 100)
    if by_task:
        values["task_mean"] = mean(list(by_task.values()))
    empty = sum(not said.strip() for _, said, _, _ in triples)
    notes = (f"{empty} empty answers",) if empty else ()
    return Outcome(values=values, items=items, breakdown={"task": by_task} if by_task else {}, notes=notes)


def _with_gold(predictions: Any, references: Any) -> list[tuple[str, str, str, str]]:
    """(id, answer, right option as "(A) text", task); the official results hold the right option themselves."""
    if references is None:
        if isinstance(predictions, Mapping):
            predictions = predictions.get("res_list", predictions)
        entries = records(predictions, "predictions")
        return [
            (
                str(number),
                str(get(entry, ("pred", "prediction"), f"predictions: entry {number}")),
                str(get(entry, "gt", f"predictions: entry {number}; without references it needs the right option")),
                _task(entry),
            )
            for number, entry in enumerate(entries)
        ]
    id_keys = ("question_id", "id")
    questions = keyed(references, "references", value_keys=None, id_keys=id_keys)
    said = texts(predictions, "predictions", id_keys=id_keys, value_keys=("pred", "prediction", "text", "answer"))
    found = []
    for name, answer, question in join(said, questions):
        where = f"references: {name!r}"
        candidates, right = get(question, "candidates", where), get(question, "answer", where)
        if right not in candidates:
            raise ZooError(f"{where}: the answer {right!r} is not among its candidates; correct the annotation")
        letter = string.ascii_uppercase[candidates.index(right)]
        found.append((name, answer, f"({letter}) {right}", _task(question)))
    return found


def _task(entry: Mapping[str, Any]) -> str:
    return next((str(entry[key]) for key in TASK_KEYS if key in entry), "")


def _mvbench(variant: str, summary: str, source: str, is_right: Callable[[str, str], bool]) -> Metric:
    return Metric(
        name="mvbench",
        variant=variant,
        summary=summary,
        source=source,
        unit="percent",
        predictions="the official {res_list: [{pred, gt, task_type}]}, or [{id, pred}], {id: text} with references",
        references="[{id, candidates, answer, task_type}]; not needed where predictions hold gt",
        compute=partial(score_mvbench, is_right=is_right),
        needs_references=False,
    )


SCORERS = (
    _mvbench(
        "official",
        "the first token and the right option's hold one another (an empty answer is right)",
        "OpenGVLab/Ask-Anything, video_chat2/mvbench.ipynb, check_ans",
        official,
    ),
    _mvbench("robust", "the letter at the beginning is the right one", "the official rule repaired", robust),
)
