"""Score one generated answer to an evaluation item: exact match, yes/no, box IoU."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.data.sample import Box
from zoo.errors import ZooError
from zoo.evaluation.items import Item
from zoo.evaluation.metrics.boxes import IOU_THRESHOLD, iou
from zoo.evaluation.metrics.captions.scores import CIDER_SCALE, cider
from zoo.evaluation.metrics.captions.tokens import tokenise
from zoo.evaluation.metrics.registry import get_metric
from zoo.evaluation.parsing import normalise_answer, parse_yes_no

DEFAULT_YES_NO_RULE = "strict"
METRICS = ("exact_match", "yes_no", "box_iou", "cider", "image_choice")

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
        "cider": "cider/1 CIDEr-D as a share of 10, frequencies of the task's references, PTB rules in Python",
        "image_choice": "image_choice/1 lowest loss a token among the images, ties shared",
    }
    if ":" in metric:
        return get_metric(metric).full_name
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
    - ``cider``: CIDEr-D (``metrics.captions.scores``), whose n-grams are weighed by all references of the task:
      ``sample.info`` has them as ``corpus``, and the item's place among them as ``index``.
    - ``image_choice``: the prediction names the images that fit best by number, 0 being the right one.

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
    if item.metric == "cider":
        return _score_caption(item, prediction)
    if item.metric == "image_choice":
        best = prediction.split(",")
        return Score(value=("0" in best) / len(best), parsed=prediction)
    raise ZooError(f"item {item.sample.id!r}: metric {item.metric!r} has no scorer; use one of {', '.join(METRICS)}")


def _references(item: Item) -> tuple[str, ...]:
    if not item.references:
        raise ZooError(f"item {item.sample.id!r}: {item.metric} needs at least one reference answer")
    return item.references


def _score_caption(item: Item, prediction: str) -> Score:
    if "corpus" not in item.sample.info:
        raise ZooError(f"item {item.sample.id!r}: cider needs the references of all items as info['corpus']; give them")
    tokenised = [[" ".join(tokenise(text)) for text in texts] for texts in item.sample.info["corpus"]]
    said = " ".join(tokenise(prediction))
    candidates = [""] * len(tokenised)
    candidates[item.sample.info["index"]] = said
    # The others' candidates do not matter for this one's score, only their references do.
    found = cider(candidates, tokenised)[item.sample.info["index"]]
    return Score(value=found / CIDER_SCALE, parsed=said)


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
