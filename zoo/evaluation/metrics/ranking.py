"""Choosing among candidate answers by their likelihood, under the conventions that published numbers rest on.

A model gives every token of a candidate a log-probability. How these become one score differs between projects and
moves results more than most changes of a model, so that each convention has a name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import get, join, keyed, mean
from zoo.evaluation.metrics.metric import Metric, Outcome

ID_KEYS = ("question_id", "id", "index", "q_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """``tokens``: log-probabilities of the candidate's tokens; ``end``: that of the end of sequence behind them.

    ``unconditional``: log-probabilities of the same tokens without the image, or behind an empty context.
    """

    text: str
    tokens: tuple[float, ...]
    end: float | None = None
    unconditional: tuple[float, ...] | None = None


def total(candidate: Candidate) -> float:
    """Sum over tokens, no end of sequence."""
    return sum(candidate.tokens)


def total_with_end(candidate: Candidate) -> float:
    """Sum over tokens and the end of sequence."""
    if candidate.end is None:
        raise ZooError(f"candidate {candidate.text!r} lacks the log-probability of the end of sequence: eos_log_probs")
    return sum(candidate.tokens) + candidate.end


def per_token(candidate: Candidate) -> float:
    """Mean over tokens, no end of sequence."""
    return sum(candidate.tokens) / len(candidate.tokens)


def per_character(candidate: Candidate) -> float:
    """Sum over tokens, divided by the characters of the text."""
    return sum(candidate.tokens) / len(candidate.text)


def gain(candidate: Candidate) -> float:
    """Sum over tokens minus the same without the condition: pointwise mutual information."""
    if candidate.unconditional is None:
        raise ZooError(f"candidate {candidate.text!r} lacks unconditional_log_probs, which pmi subtracts")
    return sum(candidate.tokens) - sum(candidate.unconditional)


def score_ranking(predictions: Any, references: Any, *, convention: Callable[[Candidate], float]) -> Outcome:
    """Accuracy of the best candidate, and the mean reciprocal rank of the right one; of equal scores the first wins."""
    asked = keyed(predictions, "predictions", id_keys=ID_KEYS, value_keys=None)
    right = keyed(references, "references", id_keys=ID_KEYS, value_keys=("answer", "label"))
    items, reciprocal = {}, []
    for name, entry, answer in join(asked, right):
        candidates = read_candidates(entry, f"predictions: {name!r}")
        scores = [convention(candidate) for candidate in candidates]
        place = _place(answer, [candidate.text for candidate in candidates], name)
        order = sorted(range(len(scores)), key=lambda at: -scores[at])
        items[name] = float(order[0] == place)
        reciprocal.append(1 / (1 + order.index(place)))
    return Outcome(values={"accuracy": mean(list(items.values())), "mrr": mean(reciprocal)}, items=items)


def read_candidates(entry: Any, where: str) -> list[Candidate]:
    """Candidates of ``{candidates, token_log_probs, eos_log_probs?, unconditional_log_probs?}``."""
    names = [str(text) for text in get(entry, "candidates", where)]
    tokens = get(entry, "token_log_probs", where)
    ends = entry.get("eos_log_probs") or [None] * len(names)
    without = entry.get("unconditional_log_probs") or [None] * len(names)
    if not names or not len(names) == len(tokens) == len(ends) == len(without):
        raise ZooError(
            f"{where}: {len(names)} candidates but log-probabilities of {len(tokens)}; give one list for each"
        )
    found = []
    for text, values, end, bare in zip(names, tokens, ends, without, strict=True):
        if not text or not isinstance(values, Sequence) or not values:
            raise ZooError(f"{where}: candidate {text!r} has no tokens; leave empty candidates out")
        found.append(
            Candidate(
                text=text,
                tokens=tuple(map(float, values)),
                end=None if end is None else float(end),
                unconditional=None if bare is None else tuple(map(float, bare)),
            )
        )
    return found


def _place(answer: Any, names: list[str], name: str) -> int:
    if isinstance(answer, Mapping):
        answer = get(answer, ("answer", "label"), f"references: {name!r}")
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(names):
        return answer
    if answer not in names:
        raise ZooError(f"references: {name!r} is {answer!r:.40}, which is no candidate; give its text or place from 0")
    return names.index(answer)


def _ranking(
    variant: str, summary: str, source: str, convention: Callable[[Candidate], float], also: str = ""
) -> Metric:
    return Metric(
        name="ranking",
        variant=variant,
        summary=summary,
        source=source,
        unit="fraction",
        predictions="[{question_id, candidates: [text], token_log_probs: [[log-probability of each token]]"
        + also
        + "}]",
        references="[{question_id, answer: text or place from 0}], {id: answer}",
        compute=partial(score_ranking, convention=convention),
    )


_EOS = ", eos_log_probs: [number]"

SCORERS = (
    _ranking("sum", "sum of the tokens' log-probabilities", "by definition", total),
    _ranking("mean", "mean of the tokens' log-probabilities", "by definition", per_token),
    _ranking("char_mean", "sum over tokens divided by the text's characters", "by definition", per_character),
    _ranking(
        "pmi",
        "sum minus the sum without the image or context",
        "Holtzman et al., Surface Form Competition (2021)",
        gain,
        ", unconditional_log_probs: [[...]]",
    ),
    _ranking(
        "lavis",
        "sum without end of sequence (the loss is divided by a padded length that all candidates share)",
        "LAVIS, models/blip2_models/blip2_vicuna_instruct.py, predict_class with one segment",
        total,
    ),
    _ranking(
        "lavis_t5",
        "sum with the end of sequence",
        "LAVIS, models/blip2_models/blip2_t5_instruct.py; SEED-Bench, eval.py",
        total_with_end,
        _EOS,
    ),
    _ranking("open_flamingo", "mean over the class name's tokens", "open_flamingo, eval/evaluate.py", per_token),
    _ranking("lmms_eval", "smallest mean loss over the answer's tokens", "lmms-eval 0.7.3, multiple_choice", per_token),
)
