"""MMVP: pairs of images that CLIP confuses; a pair counts if both of its questions are right.

Tong et al., "Eyes Wide Shut? Exploring the Visual Shortcomings of Multimodal LLMs" (2024). The original asks GPT-4
whether an answer is right; without a judge the letter is read by rule.
"""

import re
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import ID_KEYS, get, join, keyed, mean, named, texts
from zoo.evaluation.metrics.metric import Metric, Outcome

# Where lmms-eval's copy of the data has other right answers than Questions.csv.
CORRECTED = {"99": "B", "100": "A", "279": "B", "280": "A"}

_LETTER_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"^\s*\(?([AB])\)?\.?\s*$",
        r"^\s*\(?([AB])\)?[\.\s]",
        r"answer\s+is\s+\(?([AB])\)?",
        r"option\s+\(?([AB])\)?",
        r"\(?([AB])\)?(?:\s|$)",
    )
)


def letter(text: str) -> str | None:
    """A or B, by the first form that fits: alone, at the beginning, "answer is", "option", before a blank, the first
    character (lmms-eval, tasks/mmvp/utils.py). An article counts as a letter: "It is a dog" is A."""
    text = text.strip()
    for form in _LETTER_FORMS:
        if found := form.search(text):
            return found[1].upper()
    return text[0].upper() if text[:1].upper() in ("A", "B") and text else None


def _right_letter(row: dict[str, Any], name: str, corrected: bool) -> str:
    answer = str(get(row, ("Correct Answer", "answer"), f"references: {name!r}")).strip().lower()
    found = next((one for one in "ab" if f"({one})" in answer or answer == one), None)
    if found is None:
        raise ZooError(f"references: the right answer of {name!r} is {answer!r}; it must be (a) or (b)")
    return CORRECTED.get(name, found.upper()) if corrected else found.upper()


def score_by_letter(predictions: Any, references: Any, *, corrected: bool) -> Outcome:
    """Share of pairs with both right, and of single questions, read by ``letter``.

    ``corrected``: with the right answers of four questions as lmms-eval corrected them.
    """
    rows = keyed(references, "references", value_keys=None, id_keys=("Index", "index", "question_id"))
    said = texts(
        predictions,
        "predictions",
        id_keys=("question_id", "Index", "index"),
        value_keys=("response", "prediction", "text", "answer"),
    )
    right = {name: float(letter(text) == _right_letter(row, name, corrected)) for name, text, row in join(said, rows)}
    return _pairs(right)


def score_judged(predictions: Any, references: Any) -> Outcome:
    """The same from a judge's recorded replies: right where the reply is "yes" in any case and nothing else."""
    replies = texts(
        predictions, "predictions", id_keys=("question_id", *ID_KEYS), value_keys=("reply", "judge", "grade")
    )
    if references is not None:
        rows = keyed(references, "references", value_keys=None, id_keys=("Index", "index", "question_id"))
        replies = {name: reply for name, reply, _ in join(replies, rows)}
    return _pairs({name: float(reply.lower() == "yes") for name, reply in replies.items()})


def _pairs(right: dict[str, float]) -> Outcome:
    if bad := [name for name in right if not name.isdigit()]:
        raise ZooError(f"MMVP numbers its questions from 1; {named(bad)} is no number")
    pairs: dict[int, list[float]] = {}
    for name, value in right.items():
        pairs.setdefault((int(name) - 1) // 2, []).append(value)
    if odd := [f"{2 * pair + 1}, {2 * pair + 2}" for pair, values in pairs.items() if len(values) != 2]:
        raise ZooError(
            f"MMVP: half a pair is missing: questions {named(odd)}; questions 1 and 2 are a pair, 3 and 4, ..."
        )
    both = [min(values) for values in pairs.values()]
    return Outcome(
        values={"pair_accuracy": mean(both), "accuracy": mean(list(right.values()))},
        items=right,
        notes=(f"{len(both)} pairs; items are single questions",),
    )


def _mmvp(variant: str, summary: str, source: str, **options: Any) -> Metric:
    return Metric(
        name="mmvp",
        variant=variant,
        summary=summary,
        source=source,
        unit="fraction",
        **{
            "predictions": "{question_id, response} lines (MMVP), [{question_id, prediction or text}], {index: text}",
            "references": "Questions.csv: Index, Question, Options, Correct Answer",
        }
        | options,
    )


SCORERS = (
    _mmvp(
        "rule",
        "the letter by rule, right answers as published",
        "tsb0601/MMVP, Questions.csv; the letter as lmms-eval reads it",
        compute=partial(score_by_letter, corrected=False),
    ),
    _mmvp(
        "lmms_eval",
        "the letter by rule, right answers of questions 99, 100, 279 and 280 corrected",
        "lmms-eval 0.7.3, tasks/mmvp/utils.py",
        compute=partial(score_by_letter, corrected=True),
    ),
    _mmvp(
        "judged",
        "recorded replies of a judge, yes or anything else",
        "tsb0601/MMVP, scripts/gpt_grader.py",
        compute=score_judged,
        predictions="[{question_id, reply}], {index: reply}",
        needs_references=False,
    ),
)
