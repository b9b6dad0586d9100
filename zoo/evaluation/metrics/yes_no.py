"""Yes/no questions about objects: POPE's accuracy, precision, recall, F1 and yes ratio."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import ANSWER_KEYS, ID_KEYS, get, join, keyed, named, records, texts
from zoo.evaluation.metrics.metric import Metric, Outcome
from zoo.evaluation.parsing import normalise_answer, parse_yes_no

FIGURES = ("accuracy", "precision", "recall", "f1", "yes_ratio")
LABEL_KEYS = ("label", "answer")


@dataclass(frozen=True, kw_only=True, slots=True)
class YesNoSummary:
    """Fractions in [0, 1]; yes is the positive class. A fraction whose denominator is zero is 0."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_ratio: float
    num_items: int
    num_unparsed: int


def summarise_yes_no(references: Sequence[str], parsed: Sequence[str | None]) -> YesNoSummary:
    """POPE's figures over a task. Unparsed answers (None) are wrong and count as an answer other than yes."""
    if len(references) != len(parsed):
        raise ZooError(f"{len(references)} references but {len(parsed)} parsed answers; give one for each item")
    pairs = [(normalise_answer(reference), answer) for reference, answer in zip(references, parsed, strict=True)]
    true_positives = pairs.count(("yes", "yes"))
    num_answered_yes = sum(answer == "yes" for _, answer in pairs)
    precision = _ratio(true_positives, num_answered_yes)
    recall = _ratio(true_positives, sum(reference == "yes" for reference, _ in pairs))
    return YesNoSummary(
        accuracy=_ratio(sum(reference == answer for reference, answer in pairs), len(pairs)),
        precision=precision,
        recall=recall,
        f1=_ratio(2 * precision * recall, precision + recall),
        yes_ratio=_ratio(num_answered_yes, len(pairs)),
        num_items=len(pairs),
        num_unparsed=sum(answer is None for _, answer in pairs),
    )


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


def score_pope(
    predictions: Any, references: Any, *, rule: str, scale: float = 1.0, exact_labels: bool = False
) -> Outcome:
    """POPE's figures, and the same by category where the references name one, with the mean over the categories.

    The official script joins by place in the file: so do predictions without ids, checked by their question where they
    carry it. With ids, they are joined by id. Where the script divides by zero (no yes answered, or none true), the
    figure is 0.

    Args:
        predictions: as ``Metric`` documents.
        references: as ``Metric`` documents.
        rule: one of ``zoo.evaluation.parsing.YES_NO_RULES``.
        scale: 100 for percent.
        exact_labels: every label but the exact text "no" is a yes, as in the script.
    """
    entries = records(references, "references")
    joined = _joined(predictions, entries)
    labels = {name: _label(entry, name, exact_labels) for name, _, entry in joined}
    parsed = {name: parse_yes_no(said, rule) for name, said, _ in joined}
    items = {name: float(parsed[name] == label) for name, label in labels.items()}
    counts = {
        title: sum((labels[name], parsed[name] == "yes") == pair for name in labels)
        for title, pair in {"TP": ("yes", True), "FP": ("no", True), "TN": ("no", False), "FN": ("yes", False)}.items()
    }
    values = _figures(labels, parsed, scale) | counts
    categories = {name: str(entry["category"]) for name, _, entry in joined if "category" in entry}
    breakdown = {}
    if len(set(categories.values())) > 1:
        for category in dict.fromkeys(categories.values()):
            inside = {name: label for name, label in labels.items() if categories.get(name) == category}
            breakdown[category] = _figures(inside, parsed, scale)
        breakdown["mean of categories"] = {
            figure: sum(group[figure] for group in breakdown.values()) / len(breakdown) for figure in FIGURES
        }
    notes = []
    if unparsed := sum(answer is None for answer in parsed.values()):
        notes.append(f"{unparsed} answers are neither yes nor no by this rule: wrong, and not a yes")
    if not counts["TP"] + counts["FP"] or not counts["TP"] + counts["FN"] or not counts["TP"]:
        notes.append("a zero denominator: the figure is given as 0, where the official script stops")
    return Outcome(values=values, items=items, breakdown=breakdown, notes=tuple(notes))


def _figures(labels: Mapping[str, str], parsed: Mapping[str, str | None], scale: float) -> dict[str, float]:
    summary = summarise_yes_no(list(labels.values()), [parsed[name] for name in labels])
    return {figure: scale * getattr(summary, figure) for figure in FIGURES}


def _label(entry: Mapping[str, Any], name: str, exact: bool) -> str:
    label = str(get(entry, LABEL_KEYS, f"references: {name!r}"))
    if exact:
        return "no" if label == "no" else "yes"
    if normalise_answer(label) not in ("yes", "no"):
        raise ZooError(f"references: the label of {name!r} is {label!r}; it must be yes or no")
    return normalise_answer(label)


def score_pope_lmms_eval(predictions: Any, references: Any) -> Outcome:
    """lmms-eval's figures: the whole lower-cased answer must be the label, and the yes ratio is that of the labels.

    An answer that is neither yes nor no lowers neither precision nor recall.
    """
    outcome = score_pope(predictions, references, rule="whole")
    joined = _joined(predictions, records(references, "references"))
    labels = [_label(entry, name, False) for name, _, entry in joined]
    parsed = [parse_yes_no(said, "whole") for _, said, _ in joined]
    pairs = list(zip(labels, parsed, strict=True))
    precision = _ratio(pairs.count(("yes", "yes")), parsed.count("yes"))
    recall = _ratio(pairs.count(("yes", "yes")), pairs.count(("yes", "yes")) + pairs.count(("yes", "no")))
    values = {
        "accuracy": outcome.values["accuracy"],
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * precision * recall, precision + recall),
        "yes_ratio": _ratio(labels.count("yes"), len(labels)),
    }
    return Outcome(values=values, items=outcome.items, notes=("yes_ratio is the share of yes among the labels",))


def _joined(predictions: Any, entries: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    ids = [str(get(entry, ID_KEYS, f"references: entry {number}")) for number, entry in enumerate(entries)]
    without_ids = isinstance(predictions, list) and all(
        isinstance(entry, str) or not any(key in entry for key in ("question_id", "questionId", "id", "index"))
        for entry in predictions
    )
    if not without_ids:
        known = keyed(entries, "references", value_keys=None)
        said = texts(predictions, "predictions")
        if not set(said) & set(known):
            raise ZooError(
                f"predictions: none of their ids ({named(list(said)[:3])}) is a reference's "
                f"({named(list(known)[:3])}); give ids of the annotation file, or leave the ids out to join by place"
            )
        return join(said, known)
    if len(predictions) != len(entries):
        raise ZooError(
            f"{len(predictions)} predictions without ids for {len(entries)} references; they are joined by place, so "
            "give one for each"
        )
    occurrences = Counter(ids)
    joined = []
    for number, (said, entry, name) in enumerate(zip(predictions, entries, ids, strict=True)):
        if isinstance(said, Mapping):
            asked, known = said.get("question"), entry.get("text", entry.get("question"))
            if asked is not None and known is not None and str(asked).strip() != str(known).strip():
                raise ZooError(
                    f"predictions: entry {number} answers {asked!r:.60}, the reference at its place asks "
                    f"{known!r:.60}; put them in the same order or give ids"
                )
            said = get(said, ANSWER_KEYS, f"predictions: entry {number}")
        # Ids of annotation files may repeat across categories; the place does not.
        joined.append((name if occurrences[name] == 1 else f"{number}", str(said), entry))
    return joined


_READS = {
    "predictions": "{question, answer} lines in the order of the references (POPE), {question_id, text} lines (LLaVA), "
    "{id: answer}",
    "references": "POPE's {question_id, image, text, label} lines or array; with category: figures by category",
}


def _pope(variant: str, summary: str, source: str, rule: str, unit: str = "fraction", **options: Any) -> Metric:
    return Metric(
        name="pope",
        variant=variant,
        summary=summary,
        source=source,
        unit=unit,
        compute=partial(score_pope, rule=rule, scale=100 if unit == "percent" else 1, **options),
        **_READS,
    )


SCORERS = (
    _pope(
        "official",
        "no where No, no or not is a token of the first sentence, otherwise yes",
        "Li et al., Evaluating Object Hallucination in LVLMs (2023); AoiDragon/POPE, evaluate.py; LLaVA, eval_pope.py",
        "official",
        exact_labels=True,
    ),
    _pope("lower", "the official rule on lower-cased answers", "Otter's POPE benchmark", "lower", exact_labels=True),
    _pope(
        "robust", "yes or no as a word in any case; both or neither is wrong", "the official rule repaired", "strict"
    ),
    _pope(
        "vlmevalkit",
        "yes or no as a word after VQA's punctuation rule; else wrong",
        "VLMEvalKit, dataset/utils/yorn.py",
        "vlmevalkit",
        "percent",
    ),
    _pope(
        "shikra",
        "what stands in 'The answer is X .'",
        "Shikra, dataset/single_image_dataset/pope.py and point_qa.py",
        "shikra",
    ),
    Metric(
        name="pope",
        variant="lmms_eval",
        summary="the whole lower-cased answer must be the label; yes_ratio is that of the labels",
        source="lmms-eval 0.7.3, tasks/pope/utils.py",
        unit="fraction",
        compute=score_pope_lmms_eval,
        **_READS,
    ),
)
