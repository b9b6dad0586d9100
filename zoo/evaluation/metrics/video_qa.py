"""Open-ended video questions: exact match, and a judge's recorded yes or no with a score.

ActivityNet-QA: Yu et al. (2019) and its evaluation/eval.py. Judged: Maaz et al., "Video-ChatGPT" (2023) and its
quantitative_evaluation. A judged accuracy is no exact match and never shares a column with one.
"""

import ast
from collections.abc import Mapping
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.exact_match import contains_words, score_exact_match, unchanged
from zoo.evaluation.metrics.inputs import get, grouped_mean, join, keyed, mean, named, texts
from zoo.evaluation.metrics.metric import Metric, Outcome
from zoo.evaluation.normalise import normalise_vqa

TYPES = ("motion", "spatial", "temporal", "yes_no", "color", "object", "location", "number", "other")
NUM_NOT_FREE = 3


def score_activitynet_qa(predictions: Any, references: Any, *, as_printed: bool) -> Outcome:
    """Exact match over all questions, by type, and over the free ones (types 3 to 8).

    ``as_printed``: the official script divides the right free answers by the counts of all types but the first three
    *in the file*, so that its Free depends on the order of the questions; otherwise by the number of free questions.
    """
    questions = keyed(references, "references", value_keys=None)
    items, types = {}, {}
    for name, said, question in join(texts(predictions, "predictions"), questions):
        kind = get(question, "type", f"references: {name!r}")
        if not str(kind).isdigit() or int(kind) >= len(TYPES):
            raise ZooError(f"references: type {kind!r} of {name!r} is unknown; ActivityNet-QA numbers them 0 to 8")
        types[name] = int(kind)
        items[name] = float(said == str(get(question, "answer", f"references: {name!r}")))
    by_type = grouped_mean(items, {name: str(kind) for name, kind in types.items()})
    values = {"all": mean(list(items.values()))}
    values |= {TYPES[kind]: by_type[str(kind)] for kind in range(NUM_NOT_FREE) if str(kind) in by_type}
    free = [value for name, value in items.items() if types[name] >= NUM_NOT_FREE]
    notes = ()
    counts: dict[int, int] = {}
    for kind in types.values():
        counts[kind] = counts.get(kind, 0) + 1
    if free:
        values["free"] = mean(free)
        printed = sum(list(counts.values())[NUM_NOT_FREE:])
        if as_printed and len(counts) == len(TYPES):
            values["free"] = sum(free) / printed
            if printed != len(free):
                notes = ("free is divided as the official script does, which depends on the order of the questions",)
    by_answer = {TYPES[kind]: by_type[str(kind)] for kind in range(NUM_NOT_FREE, len(TYPES)) if str(kind) in by_type}
    return Outcome(values=values, items=items, breakdown={"answer_type": by_answer} if by_answer else {}, notes=notes)


def read_reply(reply: Any, name: str) -> dict[str, Any]:
    """A judge's reply as a dictionary: one already, Video-ChatGPT's ``[reply, question]``, or its Python text."""
    if isinstance(reply, list) and reply:
        reply = reply[0]
    if isinstance(reply, Mapping) and "reply" in reply:
        reply = reply["reply"]
    if isinstance(reply, str):
        try:
            reply = ast.literal_eval(reply.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            reply = None
    if not isinstance(reply, Mapping):
        raise ZooError(f"predictions: the judge's reply to {name!r} is no dictionary; ask again or correct the record")
    return dict(reply)


def _score_of(reply: Mapping[str, Any], name: str) -> int:
    try:
        return int(get(reply, "score", f"predictions: the reply to {name!r}"))
    except (TypeError, ValueError) as error:
        raise ZooError(
            f"predictions: the score in the reply to {name!r} is no number: {reply['score']!r:.40}"
        ) from error


def _replies(predictions: Any, references: Any) -> dict[str, dict[str, Any]]:
    found = keyed(predictions, "predictions", value_keys=None)
    if references is not None:
        found = {name: reply for name, reply, _ in join(found, keyed(references, "references", value_keys=None))}
    return {name: read_reply(reply, name) for name, reply in found.items()}


def score_judged(predictions: Any, references: Any) -> Outcome:
    """Share of yes among the replies that say yes or no, and the mean score.

    "yes" is looked for first and anywhere, so that "not yes" is a yes; scores are cut to whole numbers (4.8 is 4).
    """
    replies = _replies(predictions, references)
    verdicts, scores, unclear = {}, [], []
    for name, reply in replies.items():
        said = str(get(reply, "pred", f"predictions: the reply to {name!r}")).lower()
        if "yes" in said or "no" in said:
            verdicts[name] = float("yes" in said)
        else:
            unclear.append(name)
        scores.append(_score_of(reply, name))
    if not verdicts:
        raise ZooError(f"predictions: no reply says yes or no (first: {named(list(replies)[:3])}); check the record")
    notes = (f"{len(unclear)} replies say neither yes nor no and are not in the accuracy",) if unclear else ()
    values = {"accuracy": mean(list(verdicts.values())), "score": mean(scores)}
    return Outcome(values=values, items=verdicts, notes=("judged", *notes), num_items=len(replies))


def score_aspect(predictions: Any, references: Any) -> Outcome:
    """The mean of a judge's scores from 0 to 5, each cut to a whole number."""
    replies = _replies(predictions, references)
    scores = {name: _score_of(reply, name) for name, reply in replies.items()}
    # Items are shares of the scale, as those of the other metrics.
    items = {name: score / 5 for name, score in scores.items()}
    return Outcome(values={"score": mean(list(scores.values()))}, items=items, notes=("judged",))


_ANSWERS = "[{question_id, answer}], {question_id, text} lines, {id: answer}"
_QUESTIONS = "[{question_id or id, answer}] (ActivityNet-QA's answers, MSVD-QA, MSRVTT-QA), {id: answer}"
_REPLIES = (
    "Video-ChatGPT's combined file {id: [reply, question]}, its folder of ID.json, [{question_id, reply}] or {id: "
    "reply}; a reply is {'pred': 'yes', 'score': 4} or its text"
)


def _activitynet(variant: str, summary: str, source: str, as_printed: bool) -> Metric:
    return Metric(
        name="activitynet_qa",
        variant=variant,
        summary=summary,
        source=source,
        unit="fraction",
        predictions=_ANSWERS,
        references="ActivityNet-QA's answers [{question_id, answer, type: 0..8}]",
        compute=partial(score_activitynet_qa, as_printed=as_printed),
    )


def _video_qa(variant: str, summary: str, source: str, **options: Any) -> Metric:
    return Metric(
        name="video_qa",
        variant=variant,
        summary=summary,
        source=source,
        unit="fraction",
        **{"predictions": _ANSWERS, "references": _QUESTIONS} | options,
    )


SCORERS = (
    _video_qa(
        "exact",
        "exact match, both sides normalised as VQA answers",
        "the offline stand-in for a judge on MSVD-QA, MSRVTT-QA and ActivityNet-QA",
        compute=partial(score_exact_match, of_prediction=normalise_vqa, of_reference=normalise_vqa),
    ),
    _video_qa(
        "strict",
        "strings compared as they are",
        "MSVD-QA and MSRVTT-QA accuracy (Xu et al., 2017)",
        compute=partial(score_exact_match, of_prediction=unchanged, of_reference=unchanged),
    ),
    _video_qa(
        "contains",
        "the normalised right answer stands in the normalised prediction as whole words",
        "a lenient offline stand-in for a judge; not comparable with exact match",
        compute=partial(
            score_exact_match, of_prediction=normalise_vqa, of_reference=normalise_vqa, matches=contains_words
        ),
    ),
    _video_qa(
        "judged",
        "share of yes and mean score in a judge's recorded replies",
        "Video-ChatGPT, quantitative_evaluation/evaluate_activitynet_qa.py",
        predictions=_REPLIES,
        references="not needed; questions by id, to check that every one is judged",
        needs_references=False,
        compute=score_judged,
    ),
    _activitynet(
        "official", "exact match; Free divided as the script does", "MILVLG/activitynet-qa, evaluation/eval.py", True
    ),
    _activitynet(
        "robust", "exact match; Free over types 3 to 8", "the official rule without its dependence on order", False
    ),
    Metric(
        name="video_chatgpt",
        variant="judged",
        summary="mean of a judge's scores, 0 to 5, for one of the five aspects",
        source="Video-ChatGPT, quantitative_evaluation/evaluate_benchmark_1_correctness.py to _5_consistency.py",
        unit="points",
        predictions=_REPLIES,
        references="not needed; questions by id, to check that every one is judged",
        needs_references=False,
        compute=score_aspect,
    ),
)
