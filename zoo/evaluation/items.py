"""One evaluation question with its accepted answers, independent of the model and of the file it came from."""

from dataclasses import dataclass

from zoo.data.sample import Box, Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """``sample`` ends with the user's question. ``task`` groups items into a row of the table (existence, colour, ...).

    ``metric`` names the scorer of ``zoo.evaluation.metrics`` (exact_match, yes_no, box_iou). ``references`` are the
    accepted answers; ``boxes`` the reference boxes of a box_iou item; ``candidates`` the closed answer set, if any
    (used by likelihood scoring and to state the chance level).
    """

    sample: Sample
    task: str
    metric: str
    references: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    candidates: tuple[str, ...] = ()
