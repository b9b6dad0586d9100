"""ScienceQA: accuracy overall, over questions with an image, and by subject, context and grade.

Lu et al., "Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question Answering" (2022); LLaVA's
eval_science_qa.py for the parse that most models report.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import get, grouped_mean, join, keyed, mean, texts
from zoo.evaluation.metrics.metric import Metric, Outcome
from zoo.evaluation.parsing import (
    SCIENCEQA_LETTERS,
    leading_letter,
    scienceqa_letter,
    scienceqa_official_letter,
    scienceqa_robust_letter,
)

SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}
GRADES = {f"grade{grade}": "G1-6" if grade <= 6 else "G7-12" for grade in range(1, 13)}


def score_scienceqa(
    predictions: Any,
    references: Any,
    *,
    parse: Callable[[str], str | None],
    scale: float = 100,
    failed_counts: bool = False,
    letters: str = SCIENCEQA_LETTERS,
) -> Outcome:
    """Accuracy.

    Args:
        predictions: as ``Metric`` documents.
        references: as ``Metric`` documents; of the splits that no prediction is of, nothing is asked.
        parse: reads a letter; None or a letter without a choice is a failed parse.
        scale: 100 for percent.
        failed_counts: a failed parse counts 1 / number of choices, what the official script gets on average by drawing
            one of the choices; otherwise it is wrong.
        letters: those that a choice can have.
    """
    problems = keyed(references, "references", value_keys=None, id_keys=("question_id", "id"))
    items, num_failed = {}, 0
    chosen = _chosen(predictions, parse, letters)
    for name, index, problem in join(chosen, _of_splits(problems, chosen)):
        where = f"references: {name!r}"
        num_choices, right = len(get(problem, "choices", where)), get(problem, "answer", where)
        if not isinstance(right, int) or not 0 <= right < num_choices:
            raise ZooError(f"{where}: answer {right!r} is no index of its {num_choices} choices; give problems.json's")
        if 0 <= index < num_choices:
            items[name] = float(index == right)
        else:
            num_failed += 1
            items[name] = 1 / num_choices if failed_counts else 0.0
    with_image = {name: "img_accuracy" for name in items if problems[name].get("image")}
    values = {"accuracy": scale * mean(list(items.values()))} | grouped_mean(items, with_image, scale)
    notes = (f"{num_failed} failed parses",) if num_failed else ()
    return Outcome(values=values, items=items, breakdown=_report(items, problems, scale), notes=notes)


def _chosen(predictions: Any, parse: Callable[[str], str | None], letters: str) -> dict[str, int]:
    """Index of the chosen option by id, -1 where none could be read; official results hold indices already."""
    if isinstance(predictions, Mapping) and isinstance(predictions.get("results"), Mapping):
        return {str(name): int(index) for name, index in predictions["results"].items()}
    if isinstance(predictions, Mapping) and isinstance(predictions.get("outputs"), Mapping):
        predictions = predictions["outputs"]
    said = texts(predictions, "predictions", value_keys=("text", "prediction", "answer"))
    found = {name: parse(text) for name, text in said.items()}
    return {name: -1 if letter is None else letters.find(letter) for name, letter in found.items()}


def _of_splits(problems: Mapping[str, Any], chosen: Mapping[str, int]) -> dict[str, Any]:
    """The problems of the splits that any prediction is of: problems.json holds training, validation and test."""
    splits = {problems[name].get("split") for name in chosen if name in problems}
    return {name: problem for name, problem in problems.items() if not splits or problem.get("split") in splits}


def _report(items: Mapping[str, float], problems: Mapping[str, Any], scale: float) -> dict[str, dict[str, float]]:
    """The official table: by subject, by context (a question can have a hint and an image), by grade."""

    def by(label: Callable[[Any], str | None]) -> dict[str, float]:
        labels = {name: found for name in items if (found := label(problems[name])) is not None}
        return grouped_mean(items, labels, scale)

    contexts = (
        by(lambda problem: "TXT" if problem.get("hint") else None)
        | by(lambda problem: "IMG" if problem.get("image") else None)
        | by(lambda problem: None if problem.get("hint") or problem.get("image") else "NO")
    )
    report = {
        "subject": by(lambda problem: SUBJECTS.get(problem.get("subject"))),
        "context": contexts,
        "grade": by(lambda problem: GRADES.get(problem.get("grade"))),
    }
    return {title: group for title, group in report.items() if group}


def _scienceqa(variant: str, summary: str, source: str, unit: str = "percent", **options: Any) -> Metric:
    return Metric(
        name="scienceqa",
        variant=variant,
        summary=summary,
        source=source,
        unit=unit,
        predictions="{question_id, text} lines (LLaVA), official {results: {id: index}} or {outputs: {id: text}}, "
        "{id: text}",
        references="problems.json {id: {choices, answer, image, hint, subject, grade, split}}",
        compute=partial(score_scienceqa, scale=100 if unit == "percent" else 1, **options),
    )


SCORERS = (
    _scienceqa(
        "llava",
        "the letter alone, 'X. ...', or one 'The answer is X?'; a failed parse is wrong",
        "LLaVA, llava/eval/eval_science_qa.py",
        parse=scienceqa_letter,
    ),
    _scienceqa(
        "official",
        "one 'The answer is X?'; a failed parse counts as the mean of drawing a choice",
        "lupantech/ScienceQA, models/run_gpt3.py and tools/evaluate_acc.py (which draws; here the expectation)",
        parse=scienceqa_official_letter,
        failed_counts=True,
    ),
    _scienceqa(
        "lmms_eval",
        "the letter alone in either case, or a capital with a period behind it",
        "lmms-eval 0.7.3, tasks/scienceqa/utils.py",
        unit="fraction",
        parse=leading_letter,
        letters="ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    ),
    _scienceqa(
        "robust",
        "the letter at the beginning as 'A', 'A.', '(A)' or 'A)', or after one 'answer is'; a failed parse is wrong",
        "LLaVA's rule repaired",
        parse=scienceqa_robust_letter,
    ),
)
