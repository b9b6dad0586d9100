"""Boxes: overlap, accuracy at an overlap of one half, and choosing among candidate boxes."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from zoo.data.sample import Box
from zoo.errors import ZooError
from zoo.evaluation.metrics.inputs import get, join, keyed, mean, records
from zoo.evaluation.metrics.metric import Metric, Outcome

IOU_THRESHOLD = 0.5
ID_KEYS = ("question_id", "id", "sent_id", "ref_id", "ann_id", "img_id")
BOX_KEYS = ("box", "bbox", "boxes", "prediction", "pred", "answer")

Corners = tuple[float, float, float, float]


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes in continuous pixels (no +1 on widths); 0 for empty or inverted boxes."""
    return overlap((first.x0, first.y0, first.x1, first.y1), (second.x0, second.y0, second.x1, second.y1))


def overlap(first: Corners, second: Corners, *, extra: float = 0.0) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1; 0 where they do not meet, or both are empty.

    ``extra`` is added to every side: 1 counts pixels, as MiniGPT-v2's eval_utils.py does. That makes sense for boxes in
    pixels alone; of boxes between 0 and 1 it makes 0.56 of a true 0.25.
    """
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]) + extra)
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]) + extra)
    both = width * height
    union = _area(first, extra) + _area(second, extra) - both
    return both / union if both > 0 else 0.0


def _area(box: Corners, extra: float) -> float:
    return (box[2] - box[0] + extra) * (box[3] - box[1] + extra)


def score_iou(predictions: Any, references: Any, *, inclusive: bool = False, extra: float = 0.0) -> Outcome:
    """Share of boxes that overlap the right one by more than one half, and the mean overlap.

    A prediction without a box is wrong, and in the denominator.

    Args:
        predictions: as ``Metric`` documents, in the frame of the references (pixels of the image).
        references: as ``Metric`` documents.
        inclusive: an overlap of exactly one half is right too.
        extra: see ``overlap``.
    """
    expected = {
        name: _box(entry, f"references: {name!r}") for name, entry in _entries(references, "references").items()
    }
    found = {
        name: _box(entry, f"predictions: {name!r}") for name, entry in _entries(predictions, "predictions").items()
    }
    items, overlaps, num_failed, looks_normalised = {}, [], 0, bool(extra)
    for name, box, right in join(found, expected):
        if right is None:
            raise ZooError(f"references: {name!r} has no box; give x0, y0, x1, y1")
        num_failed += box is None
        overlaps.append(0.0 if box is None else overlap(box, right, extra=extra))
        items[name] = float(overlaps[-1] >= IOU_THRESHOLD if inclusive else overlaps[-1] > IOU_THRESHOLD)
        looks_normalised &= max(right) <= 1
    if looks_normalised:
        raise ZooError("references: all boxes lie between 0 and 1; this variant counts pixels, give boxes in pixels")
    notes = (f"{num_failed} predictions without a box, counted as wrong",) if num_failed else ()
    return Outcome(
        values={"accuracy": mean(list(items.values())), "mean_iou": mean(overlaps)}, items=items, notes=notes
    )


def _entries(source: Any, what: str) -> dict[str, Any]:
    """Boxes by id; a list of bare boxes, or of objects without ids, is numbered by place."""
    under = ("annotations", "predictions")
    if isinstance(source, list) and source:
        if not any(isinstance(entry, Mapping) for entry in source):
            return {str(number): entry for number, entry in enumerate(source)}
        if all(isinstance(entry, Mapping) and not any(key in entry for key in ID_KEYS) for entry in source):
            return {str(number): entry for number, entry in enumerate(records(source, what))}
    # An annotation of COCO has an id of its own; a sentence of RefCOCO is what is asked about.
    return keyed(source, what, id_keys=ID_KEYS, value_keys=None, under=under)


def _box(entry: Any, where: str) -> Corners | None:
    """x0, y0, x1, y1; None where a prediction holds no box.

    ``bbox`` is x, y, width, height in entries of COCO (with ``category_id`` or ``area``) and of MiniGPT-v2's files
    (with ``img_id``), and corners otherwise, unless ``bbox_format`` (xyxy or xywh) says which.
    """
    form = "xyxy"
    if isinstance(entry, Mapping):
        of_coco = (
            "bbox" in entry and "box" not in entry and any(key in entry for key in ("category_id", "area", "img_id"))
        )
        form = entry.get("bbox_format", "xywh" if of_coco else "xyxy")
        entry = get(entry, BOX_KEYS, where)
    if isinstance(entry, Sequence) and not isinstance(entry, str) and entry and isinstance(entry[0], Sequence):
        entry = entry[0]
    if entry is None or (isinstance(entry, Sequence) and not entry):
        return None
    if (
        isinstance(entry, str)
        or not isinstance(entry, Sequence)
        or len(entry) != 4
        or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in entry)
    ):
        raise ZooError(f"{where}: {entry!r:.60} is not a box of four numbers (or null)")
    if not all(math.isfinite(value) for value in entry):
        return None
    if form not in ("xyxy", "xywh"):
        raise ZooError(f"{where}: bbox_format {form!r} is unknown; use xyxy or xywh")
    x, y, third, fourth = map(float, entry)
    return (x, y, x + third, y + fourth) if form == "xywh" else (x, y, third, fourth)


def choose_by_box(box: Corners, candidates: Sequence[Corners]) -> int:
    """The candidate that overlaps the box most, the first of equal ones."""
    return max(range(len(candidates)), key=lambda at: overlap(box, candidates[at]))


def choose_by_point(point: tuple[float, float], candidates: Sequence[Corners]) -> int:
    """The smallest candidate that holds the point; where none does, the one whose edge is nearest; then the first."""
    x, y = point

    def key(at: int) -> tuple[float, float]:
        x0, y0, x1, y1 = candidates[at]
        distance = math.hypot(max(x0 - x, 0, x - x1), max(y0 - y, 0, y - y1))
        return distance, 0.0 if distance else _area(candidates[at], 0)

    return min(range(len(candidates)), key=key)


def score_pointing(predictions: Any, references: Any, *, by: str) -> Outcome:
    """Share of questions whose right candidate the predicted box or point chooses. No box or point: wrong.

    ``by``: "box" or "point".
    """
    questions = _entries(references, "references")
    found = _entries(predictions, "predictions")
    items, num_failed = {}, 0
    for name, entry, question in join(found, questions):
        where = f"references: {name!r}"
        candidates = [_box(box, where) for box in get(question, "candidates", where)]
        answer = get(question, "answer", where)
        right = answer if isinstance(answer, int) else _place(_box(answer, where), candidates, where)
        if by == "box":
            box = _box(entry, f"predictions: {name!r}")
            chosen = None if box is None else choose_by_box(box, candidates)
            # A box beside all candidates chooses none of them.
            chosen = chosen if chosen is not None and overlap(box, candidates[chosen]) > 0 else None
        else:
            point = _point(entry, f"predictions: {name!r}")
            chosen = None if point is None else choose_by_point(point, candidates)
        num_failed += chosen is None
        items[name] = float(chosen == right)
    notes = (f"{num_failed} predictions choose no candidate, counted as wrong",) if num_failed else ()
    return Outcome(values={"accuracy": mean(list(items.values()))}, items=items, notes=notes)


def _place(box: Corners | None, candidates: list[Corners | None], where: str) -> int:
    if box not in candidates:
        raise ZooError(f"{where}: the answer {box} is not among its candidates; give the box or its place, from 0")
    return candidates.index(box)


def _point(entry: Any, where: str) -> tuple[float, float] | None:
    if isinstance(entry, Mapping):
        entry = get(entry, ("point", "prediction"), where)
    if entry is None:
        return None
    if isinstance(entry, str) or not isinstance(entry, Sequence) or len(entry) != 2:
        raise ZooError(f"{where}: {entry!r:.40} is not a point x, y (or null)")
    return float(entry[0]), float(entry[1])


def _metric(name: str, variant: str, summary: str, source: str, compute: Callable[..., Outcome]) -> Metric:
    predictions = "[{id, box: [x0, y0, x1, y1] or null}], {id: box}, or boxes in the order of the references"
    references = (
        "the same; Shikra's {img_path, expression, bbox} lines, MiniGPT-v2's [{img_id, bbox: x, y, w, h}], COCO's "
        "annotations"
    )
    if name == "pointing":
        predictions = (
            f"[{{id, {variant}}}], {{id: {variant}}}, or in the order of the references; null where there is none"
        )
        references = "{question, candidates: [4 boxes], answer: box or its place from 0} lines, with id where given"
    return Metric(
        name=name,
        variant=variant,
        summary=summary,
        source=source,
        unit="fraction",
        predictions=predictions,
        references=references,
        compute=compute,
    )


SCORERS = (
    _metric(
        "iou",
        "strict",
        "IoU above 0.5 in continuous coordinates",
        "Shikra, dataset/single_image_dataset/rec.py (torchvision's box_iou)",
        partial(score_iou),
    ),
    _metric(
        "iou",
        "inclusive",
        "IoU of 0.5 or more in continuous coordinates",
        "lmms-eval 0.7.3, tasks/refcoco/utils_rec.py; Kosmos-2's evaluation",
        partial(score_iou, inclusive=True),
    ),
    _metric(
        "iou",
        "plus_one",
        "IoU above 0.5 where a side counts its pixels (one more than the difference)",
        "MiniGPT-4, minigpt4/common/eval_utils.py and eval_scripts/eval_ref.py",
        partial(score_iou, extra=1.0),
    ),
    _metric(
        "pointing",
        "box",
        "the candidate that overlaps the predicted box most",
        "Zhu et al., Visual7W (2016): the right one of four boxes",
        partial(score_pointing, by="box"),
    ),
    _metric(
        "pointing",
        "point",
        "the candidate that holds the predicted point, else the nearest",
        "Zhu et al., Visual7W (2016): the right one of four boxes",
        partial(score_pointing, by="point"),
    ),
)
