"""Exact match, in the ways in which GQA and open-ended question answering count it.

What counts as equal is the whole difference between the variants: GQA's own script compares strings as they are, LLaVA
lower-cases before it writes the file for that script, LAVIS normalises as VQA does, lmms-eval drops case and marks.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import get, grouped_mean, join, keyed, mean, texts
from zoo.evaluation.metrics.metric import Metric, Outcome
from zoo.evaluation.normalise import normalise_vqa, simplify_words, strip_punctuation
from zoo.evaluation.parsing import normalise_answer, stated_answer

REFERENCE_KEYS = ("answer", "answers", "label", "fullAnswer")
_NO_MARKS = str.maketrans("", "", string.punctuation)

Normalise = Callable[[str], str | None]


def unchanged(text: str) -> str:
    """The text itself."""
    return text


def llava_gqa(text: str) -> str:
    """Trailing periods removed, lower case (LLaVA's scripts/convert_gqa_for_eval.py); blanks at the ends stay."""
    return text.rstrip(".").lower()


def lavis_gqa(text: str) -> str:
    """As VQA answers, but line breaks are not turned into blanks first, so that a mark before one counts as inside."""
    return simplify_words(strip_punctuation(text))


def without_marks(text: str) -> str:
    """Lower case, ASCII punctuation removed, blanks kept (lmms-eval's exact_match with ignore_case and
    ignore_punctuation)."""
    return text.lower().translate(_NO_MARKS)


def state(answer: str) -> str | None:
    """A right answer as Shikra writes it and reads it back: what follows a period in it is lost on both sides."""
    return stated_answer(f"The answer is {answer} .")


def contains_words(answer: str | None, prediction: str | None) -> bool:
    """Whether the words of a normalised answer stand together in a normalised prediction."""
    return bool(answer) and f" {answer} " in f" {prediction} "


def equals(answer: str | None, prediction: str | None) -> bool:
    """Whether they are the same text; None, what could not be read, equals nothing."""
    return answer is not None and answer == prediction


def reference_answers(references: Any) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Accepted answers by id, and the entries they came from."""
    entries = keyed(references, "references", value_keys=None, under=("annotations", "questions", "data"))
    accepted = {}
    for name, entry in entries.items():
        found = get(entry, REFERENCE_KEYS, f"references: {name!r}") if isinstance(entry, Mapping) else entry
        listed = list(found) if isinstance(found, Sequence) and not isinstance(found, str) else [found]
        accepted[name] = [str(get(one, "answer", "references") if isinstance(one, Mapping) else one) for one in listed]
        if not listed:
            raise ZooError(f"references: {name!r} has no answer; give at least one")
    return accepted, entries


def score_exact_match(
    predictions: Any,
    references: Any,
    *,
    of_prediction: Normalise,
    of_reference: Normalise,
    scale: float = 1.0,
    matches: Callable[[str | None, str | None], bool] = equals,
) -> Outcome:
    """1 where the normalised prediction matches one of the normalised accepted answers."""
    accepted, entries = reference_answers(references)
    items = {}
    for name, prediction, answers in join(texts(predictions, "predictions"), accepted):
        said = of_prediction(prediction)
        items[name] = float(any(matches(of_reference(answer), said) for answer in answers))
    accuracy = scale * mean(list(items.values()))
    return Outcome(values={"accuracy": accuracy}, items=items, breakdown=_types(items, entries, scale))


def _types(items: Mapping[str, float], entries: Mapping[str, Any], scale: float) -> dict[str, dict[str, float]]:
    groups = {
        name: str(entry[key])
        for name, entry in entries.items()
        for key in ("type", "answer_type", "category")
        if isinstance(entry, Mapping) and isinstance(entry.get(key), str | int)
    }
    return {"type": grouped_mean(items, groups, scale)} if groups else {}


def score_gqa(
    predictions: Any, references: Any, *, of_prediction: Normalise, of_reference: Normalise, scale: float
) -> Outcome:
    """GQA: accuracy over the balanced questions, and over its binary and open ones.

    A question is open where ``types.structural`` is "query", binary otherwise. Questions with ``isBalanced`` false are
    asked for consistency alone, and do not enter.
    """
    entries = keyed(
        references, "references", value_keys=None, under=("questions",), id_keys=("questionId", "question_id")
    )
    balanced = {
        name: entry
        for name, entry in entries.items()
        if not isinstance(entry, Mapping) or entry.get("isBalanced", True)
    }
    said = texts(predictions, "predictions")
    join(said, entries)
    if not balanced:
        raise ZooError("references: no question has isBalanced true; GQA's accuracy is over the balanced ones")
    outcome = score_exact_match(
        {name: said[name] for name in balanced},
        balanced,
        of_prediction=of_prediction,
        of_reference=of_reference,
        scale=scale,
    )
    values, breakdown = dict(outcome.values), {}
    for key in ("structural", "semantic"):
        groups = {
            name: str(entry["types"][key])
            for name, entry in balanced.items()
            if isinstance(entry, Mapping) and key in (entry.get("types") or {})
        }
        if groups:
            breakdown[key] = grouped_mean(outcome.items, groups, scale)
        if groups and key == "structural":
            kinds = {name: "open" if kind == "query" else "binary" for name, kind in groups.items()}
            values |= grouped_mean(outcome.items, kinds, scale)
    notes = ()
    if len(balanced) < len(entries):
        notes = (f"{len(entries) - len(balanced)} questions with isBalanced false are not counted",)
    return Outcome(values=values, items=outcome.items, breakdown=breakdown, notes=notes)


_PREDICTIONS = "[{questionId, prediction}], [{question_id, answer}], {question_id, text} lines, {id: answer}"


def _gqa(variant: str, summary: str, source: str, prediction: Normalise, reference: Normalise, unit: str) -> Metric:
    return Metric(
        name="gqa",
        variant=variant,
        summary=summary,
        source=source,
        unit=unit,
        predictions=_PREDICTIONS,
        references="GQA's questions {id: {answer, isBalanced, types: {structural}}}",
        compute=partial(
            score_gqa,
            of_prediction=prediction,
            of_reference=reference,
            scale=100 if unit == "percent" else 1,
        ),
    )


def _exact(variant: str, summary: str, source: str, normalise: Normalise, **options: Any) -> Metric:
    return Metric(
        name="exact_match",
        variant=variant,
        summary=summary,
        source=source,
        unit="fraction",
        predictions=_PREDICTIONS,
        references="[{question_id, answer or answers}], {id: answer or [answers]}",
        compute=partial(score_exact_match, of_prediction=normalise, of_reference=normalise, **options),
    )


SCORERS = (
    _gqa("official", "strings compared as they are", "GQA's eval.py (gqadataset.org)", unchanged, unchanged, "percent"),
    _gqa(
        "llava",
        "predictions lose trailing periods and case, then as official",
        "LLaVA, scripts/convert_gqa_for_eval.py and GQA's eval.py",
        llava_gqa,
        unchanged,
        "percent",
    ),
    _gqa("lavis", "both sides normalised as VQA answers", "LAVIS, tasks/vqa.py", lavis_gqa, lavis_gqa, "percent"),
    _gqa(
        "lmms_eval",
        "both sides in lower case without punctuation",
        "lmms-eval 0.7.3, tasks/gqa/gqa.yaml and api/metrics.py",
        without_marks,
        without_marks,
        "fraction",
    ),
    _exact(
        "normalised", "case, outer blanks and one trailing period ignored", "this project's tasks", normalise_answer
    ),
    _exact("strict", "strings compared as they are", "by definition", unchanged),
    _exact("vqa", "both sides normalised as VQA answers", "VQAEval's normalisation, always", normalise_vqa),
    Metric(
        name="pointqa",
        variant="official",
        summary="what stands in 'The answer is X .', compared as it is",
        source="Shikra, dataset/single_image_dataset/point_qa.py",
        unit="fraction",
        predictions="[{id, prediction}] or {id: text}, whole answers",
        references="[{id, answer}], {id: answer}",
        compute=partial(score_exact_match, of_prediction=stated_answer, of_reference=state),
    ),
    _exact(
        "lmms_eval", "both sides in lower case without punctuation", "lmms-eval 0.7.3, api/metrics.py", without_marks
    ),
    _exact(
        "contains",
        "an accepted answer stands in the prediction as whole words, both normalised as VQA answers",
        "a lenient stand-in for a judge; not comparable with exact match",
        normalise_vqa,
        matches=contains_words,
    ),
)
