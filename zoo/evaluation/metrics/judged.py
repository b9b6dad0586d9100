"""LLaVA-Bench and MM-Vet: figures from the replies of a judge. They share no column with anything scored by rule.

Liu et al., "Visual Instruction Tuning" (2023), llava/eval/eval_gpt_review_bench.py and summarize_gpt_review.py; Yu et
al., "MM-Vet" (2023), mm-vet_evaluator.ipynb.
"""

from typing import Any

from zoo.evaluation.metrics.inputs import get, join, keyed, mean, texts
from zoo.evaluation.metrics.metric import Metric, Outcome

FAILED = (-1.0, -1.0)
REPLY_KEYS = ("reply", "content", "text")


def review_scores(reply: str) -> tuple[float, float]:
    """The scores of reference and answer in the first line, split at single blanks; -1, -1 for anything else."""
    parts = reply.split("\n")[0].replace(",", " ").split(" ")
    try:
        first, second = map(float, parts)
    except ValueError:
        return FAILED
    return first, second


def score_llava_bench(predictions: Any, references: Any) -> Outcome:
    """100 times the mean score of the answers by that of the references, over all and by category.

    A reply that cannot be read enters as -1 for both, as in the published script.
    """
    categories = {
        name: str(get(entry, "category", f"references: {name!r}"))
        for name, entry in keyed(references, "references", value_keys=None).items()
    }
    replies = texts(predictions, "predictions", value_keys=REPLY_KEYS)
    pairs = {name: review_scores(reply) for name, reply, _ in join(replies, categories)}
    values = {"all": _relative(list(pairs.values()))}
    for category in dict.fromkeys(categories.values()):
        values[category] = _relative([pair for name, pair in pairs.items() if categories[name] == category])
    failed = sum(pair == FAILED for pair in pairs.values())
    notes = ("judged", f"{failed} replies cannot be read and enter as -1") if failed else ("judged",)
    return Outcome(values=values, notes=notes, num_items=len(pairs))


def _relative(pairs: list[tuple[float, float]]) -> float:
    reference = mean([first for first, _ in pairs])
    return 100 * mean([second for _, second in pairs]) / reference if reference else 0.0


def score_mm_vet(predictions: Any, references: Any) -> Outcome:
    """100 times the mean grade between 0 and 1, over all and by capability; a reply that is no such number is 0.

    The published script asks again up to five times before it gives 0.
    """
    questions = keyed(references, "references", value_keys=None)
    items, capabilities, failed = {}, {}, 0
    for name, reply, question in join(texts(predictions, "predictions", value_keys=REPLY_KEYS), questions):
        grade = _grade(reply)
        failed += grade is None
        items[name] = grade or 0.0
        for capability in get(question, "capability", f"references: {name!r}"):
            capabilities.setdefault(str(capability), []).append(items[name])
    by_capability = {name: 100 * mean(grades) for name, grades in capabilities.items()}
    notes = ("judged", f"{failed} replies are no grade and enter as 0") if failed else ("judged",)
    return Outcome(
        values={"total": 100 * mean(list(items.values()))},
        items=items,
        breakdown={"capability": by_capability},
        notes=notes,
    )


def _grade(reply: str) -> float | None:
    try:
        grade = float(reply.split(" ")[0].strip())
    except ValueError:
        return None
    return grade if 0 <= grade <= 1 else None


SCORERS = (
    Metric(
        name="llava_bench",
        variant="judged",
        summary="a judge's score of the answer relative to that of the reference",
        source="LLaVA, llava/eval/eval_gpt_review_bench.py and summarize_gpt_review.py",
        unit="percent",
        predictions="[{question_id, content}] reviews, {id: reply}",
        references="{question_id, category} lines (questions.jsonl), {id: {category}}",
        compute=score_llava_bench,
    ),
    Metric(
        name="mm_vet",
        variant="judged",
        summary="mean of a judge's grades from 0 to 1",
        source="yuweihao/MM-Vet, mm-vet_evaluator.ipynb, one run",
        unit="percent",
        predictions="{id: reply}",
        references="mm-vet.json {id: {question, answer, capability}}",
        compute=score_mm_vet,
    ),
)
