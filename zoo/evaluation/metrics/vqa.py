"""VQA soft accuracy: an answer counts min(1, matching annotators / 3), averaged over leaving each annotator out.

Agrawal et al., "VQA: Visual Question Answering" (2015), section 4, and the evaluation code of VQAv2. Six projects score
the same files by six rules that differ on identical inputs; each is a variant here, and none of them is "the" VQA
accuracy without its name. They differ in when and how answers are normalised, and in how the annotator who is left out
is found: the first ones compare whole answer entries, so that equal ones without ``answer_id`` leave one another out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import ANSWER_KEYS, ID_KEYS, get, grouped_mean, join, keyed, records, texts
from zoo.evaluation.metrics.metric import Metric, Outcome
from zoo.evaluation.normalise import (
    COMMA_RUN,
    PERIOD_NOT_BY_DIGIT,
    flatten,
    normalise_m4c,
    normalise_vqa,
    strip_punctuation,
)

NUM_M4C_ANSWERS = 10
GROUPS = ("answer_type", "question_type")
LISTS = ("annotations", "data", "questions")
ANSWER_LISTS = ("answers", "direct_answers")

Normalised = tuple[str, list[str]]
Rule = Callable[[str, list[str]], Normalised]


def soft_accuracy(prediction: str, answers: Sequence[str], entries: Sequence[Any] | None = None) -> float:
    """Mean over the annotators of ``min(1, matches among the others / 3)``, in [0, 1].

    With k matches among ten distinct annotators: 0, 0.3, 0.6, 0.9, 1, 1, ...

    Args:
        prediction: normalised.
        answers: one normalised answer an annotator.
        entries: what two annotators are compared by to be taken for the same one; None: by position.
    """
    matching = [at for at, answer in enumerate(answers) if answer == prediction]
    scores = []
    for at, answer in enumerate(answers):
        num_others = len(matching)
        if answer == prediction:
            num_others -= 1 if entries is None else sum(entries[other] == entries[at] for other in matching)
        scores.append(min(1.0, num_others / 3))
    return sum(scores) / len(scores)


def direct_answer_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """A-OKVQA's ``min(1, matches / 3)`` over all answers as they stand."""
    return min(1.0, sum(answer == prediction for answer in answers) / 3)


def official(prediction: str, answers: list[str]) -> Normalised:
    """Both sides, but only where the annotators do not all say the same: then "Yes" is not "yes"."""
    prediction, answers = flatten(prediction), [flatten(answer) for answer in answers]
    if len(set(answers)) > 1:
        return normalise_vqa(prediction), [normalise_vqa(answer) for answer in answers]
    return prediction, answers


def lavis(prediction: str, answers: list[str]) -> Normalised:
    """The prediction wholly, the annotators' answers only in punctuation: answers as "two" or "the car" never match."""
    if len(set(answers)) > 1:
        answers = [strip_punctuation(answer) for answer in answers]
    return normalise_vqa(prediction), answers


def both_sides(normalise: Callable[[str], str], prediction: str, answers: list[str]) -> Normalised:
    """Both sides, always."""
    return normalise(prediction), [normalise(answer) for answer in answers]


open_flamingo = partial(both_sides, normalise_vqa)
m4c = partial(both_sides, normalise_m4c)
lmms_eval = partial(both_sides, partial(normalise_vqa, comma=COMMA_RUN))
vlmevalkit = partial(both_sides, partial(normalise_vqa, period=PERIOD_NOT_BY_DIGIT))


def score_vqa(
    predictions: Any,
    references: Any,
    *,
    rule: Rule,
    whole_entries: bool = False,
    num_answers: int | None = None,
    decimals: int | None = None,
) -> Outcome:
    """Score by one of the rules above.

    Args:
        predictions: as ``Metric`` documents.
        references: as ``Metric`` documents.
        rule: normalises a prediction and the answers to its question.
        whole_entries: annotators are told apart by their whole entry, not by position.
        num_answers: how many answers every question must have.
        decimals: figures are rounded to so many, as the scorer that is followed does.

    Raises:
        ZooError: see ``inputs``; a question without answers or with another number of them than ``num_answers``.
    """
    asked = keyed(references, "references", value_keys=None, under=LISTS)
    items, num_alike = {}, 0
    for name, prediction, question in join(read_predictions(predictions, asked), asked):
        entries = _answers(question, name)
        if num_answers is not None and len(entries) != num_answers:
            raise ZooError(f"references: {name!r} has {len(entries)} answers; this variant needs exactly {num_answers}")
        said = [str(get(entry, "answer", f"references: an answer of {name!r}")) for entry in entries]
        prediction, said = rule(prediction, said)
        compared = [entry | {"answer": answer} for entry, answer in zip(entries, said)] if whole_entries else None
        items[name] = soft_accuracy(prediction, said, compared)
        num_alike += compared is not None and any(entry in compared[:at] for at, entry in enumerate(compared))
    notes = ()
    if num_alike:
        notes = (
            f"{num_alike} questions have equal answer entries (no answer_id), which leave one another out in this "
            "variant; vqa:robust tells annotators apart by position",
        )
    return _outcome(items, asked, decimals, notes)


def score_direct_answers(predictions: Any, references: Any) -> Outcome:
    """A-OKVQA's direct answers."""
    asked = keyed(references, "references", value_keys=None, under=LISTS)
    items = {}
    for name, prediction, question in join(read_predictions(predictions, asked), asked):
        said = [str(get(entry, "answer", f"references: an answer of {name!r}")) for entry in _answers(question, name)]
        items[name] = direct_answer_accuracy(prediction, said)
    return _outcome(items, asked, None, ())


def _outcome(
    items: dict[str, float], asked: Mapping[str, Any], decimals: int | None, notes: tuple[str, ...]
) -> Outcome:
    def shown(value: float) -> float:
        return value if decimals is None else round(value, decimals)

    breakdown = {}
    for key in GROUPS:
        groups = {
            name: str(question[key])
            for name, question in asked.items()
            if isinstance(question, dict) and key in question
        }
        if groups:
            breakdown[key] = {name: shown(value) for name, value in grouped_mean(items, groups, 100).items()}
    overall = shown(100 * sum(items.values()) / len(items))
    return Outcome(values={"overall": overall}, items=items, breakdown=breakdown, notes=notes)


def _answers(question: Any, name: str) -> list[dict[str, Any]]:
    """The answer entries of a question; plain texts become entries that differ by position."""
    entries = question if isinstance(question, list) else get(question, ANSWER_LISTS, f"references: {name!r}")
    if not isinstance(entries, list) or not entries:
        raise ZooError(f"references: {name!r} has no list of answers; give what the annotators said")
    return [
        dict(entry) if isinstance(entry, Mapping) else {"answer": str(entry), "answer_id": at}
        for at, entry in enumerate(entries, 1)
    ]


def read_predictions(predictions: Any, asked: Mapping[str, Any]) -> dict[str, str]:
    """Answers by question id.

    LLaVA's TextVQA answers carry the image's id in place of the question's, and the prompt: they are joined by image
    and lower-cased question, as its eval_textvqa.py does.
    """
    if isinstance(predictions, list) and predictions and all("prompt" in entry for entry in predictions):
        entries = records(predictions, "predictions")
        if not {str(get(entry, ID_KEYS, "predictions: an entry")) for entry in entries} <= set(asked):
            by_question = {
                (
                    str(get(question, "image_id", f"references: {name!r}")),
                    str(question.get("question", "")).lower(),
                ): name
                for name, question in asked.items()
            }
            found = {}
            for number, entry in enumerate(entries):
                where = f"predictions: entry {number}"
                key = (str(get(entry, ID_KEYS, where)), question_of_prompt(get(entry, "prompt", where), where))
                if key not in by_question:
                    raise ZooError(f"{where}: no reference has image {key[0]!r} and question {key[1]!r}; add it")
                found[by_question[key]] = get(entry, ANSWER_KEYS, where)
            return found
    return texts(predictions, "predictions")


def question_of_prompt(prompt: str, where: str) -> str:
    """The lower-cased question in a TextVQA prompt of LLaVA or InstructBLIP (eval_textvqa.py's prompt_processor)."""
    lines = prompt.split("\n")
    if prompt.startswith("OCR tokens: "):
        found = re.search(r"Question: (.*?) Short answer:", prompt, re.DOTALL)
        if found:
            return found[1].lower()
    elif "Reference OCR token: " in prompt and len(lines) == 3:
        return lines[1 if prompt.startswith("Reference OCR token:") else 0].lower()
    elif len(lines) == 2:
        return lines[0].lower()
    raise ZooError(f"{where}: no question found in the prompt {prompt!r:.60}; give answers with question ids instead")


def _scorer(variant: str, summary: str, source: str, compute: Callable[[Any, Any], Outcome]) -> Metric:
    return Metric(
        name="vqa",
        variant=variant,
        summary=summary,
        source=source,
        unit="percent",
        predictions="[{question_id, answer}], VizWiz's [{image, answer}], LLaVA's {question_id, text} lines, "
        "{id: answer}",
        references="VQA annotations {annotations: [{question_id, answers: [{answer, answer_id}]}]}, TextVQA's {data: "
        "[{question_id, answers: [text]}]}, VizWiz's [{image, answers}], A-OKVQA's [{question_id, direct_answers}]",
        compute=compute,
    )


SCORERS = (
    _scorer(
        "official",
        "normalises both sides unless all annotators agree; rounded to 2 decimals",
        "GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py (master)",
        partial(score_vqa, rule=official, whole_entries=True, decimals=2),
    ),
    _scorer(
        "robust",
        "normalises both sides always; annotators by position, so that answer ids do not matter",
        "the official rule with two quirks removed",
        partial(score_vqa, rule=open_flamingo),
    ),
    _scorer(
        "open_flamingo",
        "normalises both sides always; rounded to 2 decimals",
        "mlfoundations/open_flamingo, eval/vqa_metric.py",
        partial(score_vqa, rule=open_flamingo, whole_entries=True, decimals=2),
    ),
    _scorer(
        "lavis",
        "normalises predictions, but of references only the punctuation; rounded to 2 decimals",
        "salesforce/LAVIS, common/vqa_tools/vqa_eval.py",
        partial(score_vqa, rule=lavis, whole_entries=True, decimals=2),
    ),
    _scorer(
        "m4c",
        "TextVQA's: M4C's answer processor, annotators by position, exactly ten of them",
        "LLaVA, llava/eval/m4c_evaluator.py and eval_textvqa.py (from MMF)",
        partial(score_vqa, rule=m4c, num_answers=NUM_M4C_ANSWERS),
    ),
    _scorer(
        "lmms_eval",
        "lmms-eval's VQAv2: normalises both sides always, any run of commas in a number counts",
        "lmms-eval 0.7.3, tasks/vqav2/utils.py",
        partial(score_vqa, rule=lmms_eval, whole_entries=True),
    ),
    _scorer(
        "lmms_eval_textvqa",
        "lmms-eval's TextVQA, VizWiz and OK-VQA: M4C's answer processor, annotators by position, any number of them",
        "lmms-eval 0.7.3, tasks/textvqa/utils.py, vizwiz_vqa/utils.py, ok_vqa/utils.py",
        partial(score_vqa, rule=m4c),
    ),
    _scorer(
        "vlmevalkit",
        "normalises both sides always, keeps a period behind a digit; annotators by position",
        "VLMEvalKit, dataset/utils/vqa_eval.py and smp/misc.py",
        partial(score_vqa, rule=vlmevalkit),
    ),
    _scorer(
        "aokvqa",
        "A-OKVQA's direct answers: min(1, matches / 3) over all answers as they stand",
        "allenai/aokvqa, evaluation/eval_predictions.py, as in LAVIS tasks/vqa.py",
        score_direct_answers,
    ),
)
