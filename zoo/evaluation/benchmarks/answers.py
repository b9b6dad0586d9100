"""What is read out of an answer to a benchmark's question, before its metric sees all of them."""

from collections.abc import Callable, Sequence
from typing import Any

from zoo.data.sample import Box
from zoo.evaluation.benchmarks.processing import PROCESSINGS
from zoo.evaluation.items import Item

# What a row of predictions says about its benchmark travels under this key of ``Sample.info``.
INFO_KEY = "benchmark"


def read_answer(
    item: Item, prediction: str, *, parse_box: Callable[[str], Box | Sequence[Box] | None] | None
) -> dict[str, Any]:
    """The part of a row that the answer decides: ``parsed``, ``box`` where one is asked for, no score yet."""
    about = item.sample.info[INFO_KEY]
    shown = dict(about)
    if item.answers_with_box:
        assert parse_box is not None, item.metric
        found = parse_box(prediction)
        box = found if isinstance(found, Box) or found is None else next(iter(found), None)
        shown["box"] = None if box is None else [box.x0, box.y0, box.x1, box.y1]
        parsed = None if box is None else " ".join(f"{value:g}" for value in shown["box"])
    else:
        parsed = PROCESSINGS[about["processing"]](prediction)
    return {**shown, "parsed": parsed, "score": None}
