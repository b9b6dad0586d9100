"""SEED-Bench: one of four options, by generated letter or by the likelihood of the option's text.

Li et al., "SEED-Bench: Benchmarking Multimodal LLMs with Generative Comprehension" (2023). The official evaluation
ranks the options by likelihood; LLaVA asks for a letter; the two are not comparable.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import get, grouped_mean, join, keyed, mean
from zoo.evaluation.metrics.metric import Metric, Outcome

LETTERS = "ABCD"
ID_KEYS = ("question_id", "q_id")
VALUE_KEYS = ("losses", "prediction", "text", "answer")


def same_letter(said: str, answer: str) -> bool:
    """The whole answer is the letter (LLaVA's convert_seed_for_submission.py)."""
    return said == answer


def first_letter(said: str, answer: str) -> bool:
    """The first character in either case: "because" is B (lmms-eval)."""
    return said.strip()[:1].lower() == answer.strip().lower()


def score_seed_bench(
    predictions: Any, references: Any, *, is_right: Callable[[str, str], bool], scale: float, losses: bool
) -> Outcome:
    """Accuracy over all questions, over images and over videos, and by evaluation dimension.

    Args:
        predictions: as ``Metric`` documents.
        references: as ``Metric`` documents.
        is_right: compares what was said with the letter of the right option.
        scale: 100 for percent.
        losses: predictions may be the four losses of the options; the smallest is chosen, of equal ones the first.
    """
    questions = keyed(references, "references", value_keys=None, under=("questions",), id_keys=ID_KEYS)
    said = keyed(predictions, "predictions", id_keys=ID_KEYS, value_keys=VALUE_KEYS)
    items, dimensions, media = {}, {}, {}
    titles = _dimension_names(references)
    for name, answer, question in join(said, questions):
        where = f"references: {name!r}"
        items[name] = float(is_right(_letter(name, answer, losses), str(get(question, "answer", where))))
        if "question_type_id" in question:
            dimensions[name] = titles.get(str(question["question_type_id"]), str(question["question_type_id"]))
        if "data_type" in question:
            media[name] = str(question["data_type"])
    values = {"total": scale * mean(list(items.values()))} | grouped_mean(items, media, scale)
    return Outcome(
        values=values,
        items=items,
        breakdown={"dimension": grouped_mean(items, dimensions, scale)} if dimensions else {},
    )


def _letter(name: str, answer: Any, losses: bool) -> str:
    if isinstance(answer, str):
        return answer
    if not losses or not isinstance(answer, Sequence) or len(answer) != len(LETTERS):
        raise ZooError(
            f"predictions: {name!r} is {answer!r:.40}; give a letter" + (" or four losses" if losses else "")
        )
    return LETTERS[min(range(len(LETTERS)), key=answer.__getitem__)]


def _dimension_names(references: Any) -> dict[str, str]:
    types = references.get("question_type") if isinstance(references, Mapping) else None
    return {str(number): name for name, number in types.items()} if isinstance(types, Mapping) else {}


def _seed(variant: str, summary: str, source: str, predictions: str, unit: str = "percent", **options: Any) -> Metric:
    return Metric(
        name="seed_bench",
        variant=variant,
        summary=summary,
        source=source,
        unit=unit,
        predictions=predictions,
        references="SEED-Bench.json {questions: [{question_id, answer, question_type_id, data_type}], question_type}",
        compute=partial(score_seed_bench, scale=100 if unit == "percent" else 1, **options),
    )


SCORERS = (
    _seed(
        "letter",
        "the whole answer must be the letter",
        "LLaVA, scripts/convert_seed_for_submission.py",
        "{question_id, text} lines, [{question_id, prediction}], {id: letter}",
        is_right=same_letter,
        losses=False,
    ),
    _seed(
        "likelihood",
        "the option with the smallest summed negative log-likelihood",
        "AILab-CVC/SEED-Bench, eval.py (accuracy recomputed from the questions)",
        "the official results {q_id, prediction} lines, or {question_id, losses: [4 numbers]}",
        is_right=same_letter,
        losses=True,
    ),
    _seed(
        "lmms_eval",
        "the first character of the answer, in either case",
        "lmms-eval 0.7.3, tasks/seedbench/utils.py",
        "[{question_id, prediction}], {id: text}",
        unit="fraction",
        is_right=first_letter,
        losses=False,
    ),
)
