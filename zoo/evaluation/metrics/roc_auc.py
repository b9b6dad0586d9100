"""Area under the ROC curve, as Hateful Memes is scored.

Kiela et al., "The Hateful Memes Challenge" (2020). The area is the probability that a positive item has the higher
score than a negative one, a tie counting one half (Mann and Whitney, 1947): what scikit-learn's roc_auc_score gives.
"""

import math
from collections.abc import Sequence
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import get, join, keyed, mean
from zoo.evaluation.metrics.metric import Metric, Outcome

ID_KEYS = ("id", "question_id", "img")
SCORE_KEYS = ("proba", "score", "probability")


def roc_auc(positive: Sequence[bool], scores: Sequence[float]) -> float:
    """The area, by ranks: (sum of the positives' ranks - n (n + 1) / 2) / (n * m), ties sharing their mean rank.

    Raises ZooError where only one class occurs, or a score is not finite.
    """
    if not all(math.isfinite(score) for score in scores):
        raise ZooError("ROC-AUC needs finite scores; one of them is infinite or not a number")
    num_positive = sum(positive)
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        raise ZooError("ROC-AUC needs items of both classes; the references hold one class only")
    order = sorted(range(len(scores)), key=scores.__getitem__)
    twice_rank_sum, at = 0, 0
    while at < len(order):
        end = at
        while end < len(order) and scores[order[end]] == scores[order[at]]:
            end += 1
        # Ranks at + 1 .. end are shared; twice their mean is a whole number, so nothing is rounded on the way.
        twice_rank_sum += (at + 1 + end) * sum(positive[place] for place in order[at:end])
        at = end
    return (twice_rank_sum - num_positive * (num_positive + 1)) / (2 * num_positive * num_negative)


def score_roc_auc(predictions: Any, references: Any) -> Outcome:
    """The area, and the accuracy of the predicted labels where predictions hold any.

    Of the two labels the larger one is positive (1, "yes"), as scikit-learn sorts them.
    """
    expected = _labels(references)
    scores = keyed(predictions, "predictions", id_keys=ID_KEYS, value_keys=SCORE_KEYS)
    joined = [(name, _number(score, name), label) for name, score, label in join(scores, expected)]
    return _outcome(joined, _predicted_labels(predictions), expected)


def score_class_names(predictions: Any, references: Any) -> Outcome:
    """The area of the probability of the positive class name: softmax over the names' mean token log-probabilities.

    Source: open_flamingo, eval/evaluate.py; the alphabetically larger of two names ("yes") is positive.
    """
    expected = _labels(references)
    found = keyed(predictions, "predictions", id_keys=ID_KEYS, value_keys=("log_probs",))
    joined = []
    for name, log_probs, label in join(found, expected):
        if not isinstance(log_probs, dict) or len(log_probs) != 2 or not all(log_probs.values()):
            raise ZooError(f"predictions: log_probs of {name!r} must hold token log-probabilities of two class names")
        means = {str(title): mean(values) for title, values in log_probs.items()}
        positive, negative = max(means), min(means)
        joined.append((name, 1 / (1 + math.exp(means[negative] - means[positive])), label))
    return _outcome(joined, {}, expected)


def _outcome(joined: list[tuple[str, float, Any]], said: dict[str, Any], expected: dict[str, Any]) -> Outcome:
    kinds = sorted(set(expected.values()))
    if len(kinds) != 2:
        raise ZooError(f"ROC-AUC needs two classes; the references hold {', '.join(map(repr, kinds)) or 'none'}")
    positive = [label == kinds[1] for _, _, label in joined]
    values = {"roc_auc": roc_auc(positive, [score for _, score, _ in joined])}
    if said:
        values["accuracy"] = mean([float(said[name] == label) for name, _, label in joined])
    notes = (f"positive: {kinds[1]!r}; not a mean over items, so intervals need a bootstrap",)
    return Outcome(values=values, num_items=len(joined), notes=notes)


def _labels(references: Any) -> dict[str, Any]:
    return _numbers(keyed(references, "references", id_keys=ID_KEYS, value_keys=("label", "answer")))


def _numbers(labels: dict[str, Any]) -> dict[str, Any]:
    """Labels of tables are texts: digits become numbers, so that they equal those of JSON."""
    texts = {name: str(label).strip() for name, label in labels.items()}
    return {name: int(text) for name, text in texts.items()} if all(map(str.isdigit, texts.values())) else texts


def _predicted_labels(predictions: Any) -> dict[str, Any]:
    if not isinstance(predictions, list) or not all("label" in entry for entry in predictions):
        return {}
    return _numbers(keyed(predictions, "predictions", id_keys=ID_KEYS, value_keys=("label",)))


def _number(score: Any, name: str) -> float:
    score = get(score, SCORE_KEYS, f"predictions: {name!r}") if isinstance(score, dict) else score
    try:
        return float(score)
    except (TypeError, ValueError):
        raise ZooError(f"predictions: the score of {name!r} is {score!r:.40}; it must be a number") from None


_REFERENCES = "{id, label} lines (Hateful Memes), {id: label}; two labels, the larger one is positive"

SCORERS = (
    Metric(
        name="roc_auc",
        variant="official",
        summary="probability that a positive item scores higher than a negative one",
        source="Kiela et al., The Hateful Memes Challenge (2020); sklearn.metrics.roc_auc_score",
        unit="fraction",
        predictions="a table or list of {id, proba, label}, {id: score}",
        references=_REFERENCES,
        compute=score_roc_auc,
    ),
    Metric(
        name="roc_auc",
        variant="open_flamingo",
        summary="of the softmax over two class names of their mean token log-probability",
        source="mlfoundations/open_flamingo, eval/evaluate.py (Hateful Memes)",
        unit="fraction",
        predictions="[{id, log_probs: {yes: [token log-probabilities], no: [...]}}]",
        references=_REFERENCES,
        compute=score_class_names,
    ),
)
