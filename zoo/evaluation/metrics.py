"""Score one answer (exact match, yes/no, box IoU) and summarise yes/no answers the way POPE does."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.data.sample import Box
from zoo.errors import ZooError
from zoo.evaluation.items import Item
from zoo.evaluation.parsing import normalise_answer, parse_yes_no

IOU_THRESHOLD = 0.5
DEFAULT_YES_NO_RULE = "strict"
METRICS = ("exact_match", "yes_no", "box_iou")

BoxParser = Callable[[str], Box | Sequence[Box] | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """``value`` lies in [0, 1]; ``parsed`` is what was read out of the prediction, None where nothing could be read."""

    value: float
    parsed: str | None
    extra: Mapping[str, Any] = field(default_factory=dict)


def metric_version(metric: str, *, yes_no_rule: str = DEFAULT_YES_NO_RULE) -> str:
    """The name of the exact scoring rule, stored with every prediction: scores of two versions are never compared."""
    versions = {
        "exact_match": "exact_match/1 lower-case, trailing full stop removed",
        "yes_no": f"yes_no/1 {yes_no_rule}",
        "box_iou": f"box_iou/1 first box, IoU >= {IOU_THRESHOLD}",
    }
    if metric not in versions:
        raise ZooError(f"metric {metric!r} has no scorer; use one of {', '.join(METRICS)}")
    return versions[metric]


def score(
    item: Item, prediction: str, *, parse_box: BoxParser | None = None, yes_no_rule: str = DEFAULT_YES_NO_RULE
) -> Score:
    """Score ``prediction``, the generated text without special tokens, by the metric that ``item`` names.

    - ``exact_match``: 1 if the normalised prediction equals a normalised reference (``normalise_answer``: lower case,
      no trailing full stop, articles kept).
    - ``yes_no``: 1 if the parsed word equals the reference; text with neither yes nor no is wrong.
    - ``box_iou``: 1 if the first predicted box overlaps a reference box with IoU >= 0.5; text without a box is wrong.
      ``parse_box`` comes from the method's box codec, bound to this item's image size, and returns pixels of the
      original image. The overlap itself is in ``extra["iou"]``.

    Raises ZooError for an item without references, without a parser it needs, or with an unknown metric.
    """
    if item.metric == "exact_match":
        parsed = normalise_answer(prediction)
        return Score(value=float(parsed in {normalise_answer(text) for text in _references(item)}), parsed=parsed)
    if item.metric == "yes_no":
        expected = {normalise_answer(text) for text in _references(item)}
        if len(expected) != 1 or not expected <= {"yes", "no"}:
            raise ZooError(
                f"item {item.sample.id!r}: a yes_no item needs the reference yes or no, not {item.references}"
            )
        answer = parse_yes_no(prediction, yes_no_rule)
        return Score(value=float(answer in expected), parsed=answer)
    if item.metric == "box_iou":
        return _score_box(item, prediction, parse_box)
    raise ZooError(f"item {item.sample.id!r}: metric {item.metric!r} has no scorer; use one of {', '.join(METRICS)}")


def _references(item: Item) -> tuple[str, ...]:
    if not item.references:
        raise ZooError(f"item {item.sample.id!r}: {item.metric} needs at least one reference answer")
    return item.references


def _score_box(item: Item, prediction: str, parse_box: BoxParser | None) -> Score:
    if parse_box is None:
        raise ZooError(f"item {item.sample.id!r}: box_iou needs parse_box; pass the one of the method's box codec")
    if not item.boxes:
        raise ZooError(f"item {item.sample.id!r}: box_iou needs at least one reference box")
    found = parse_box(prediction)
    box = found if isinstance(found, Box) or found is None else next(iter(found), None)
    if box is None or not all(math.isfinite(value) for value in (box.x0, box.y0, box.x1, box.y1)):
        return Score(value=0.0, parsed=None, extra={"iou": 0.0})
    overlap = max(iou(box, reference) for reference in item.boxes)
    parsed = f"{box.x0:g} {box.y0:g} {box.x1:g} {box.y1:g}"
    return Score(value=float(overlap >= IOU_THRESHOLD), parsed=parsed, extra={"iou": overlap})


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes in continuous pixels (no +1 on widths); 0 for empty or inverted boxes."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return intersection / (_area(first) + _area(second) - intersection)


def _area(box: Box) -> float:
    return (box.x1 - box.x0) * (box.y1 - box.y0)


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
