"""One evaluation question with its accepted answers, independent of the model and of the file it came from."""

from dataclasses import dataclass

from zoo.data.sample import Box, Medium, Sample

BOX_METRICS = ("iou", "pointing")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """``sample`` ends with the user's question. ``task`` groups items into a row of the table (existence, colour, ...).

    ``metric`` names the scorer of ``zoo.evaluation.metrics``: exact_match, yes_no or box_iou for one answer at a time,
    or NAME:VARIANT of its registry for a benchmark's. ``references`` are the accepted answers; ``boxes`` the reference
    boxes of an item that is answered with a box; ``candidates`` the closed answer set, if any (used by likelihood
    scoring and to state the chance level). ``other_media``: what could stand in the place of the sample's one medium;
    the model then chooses which of them the reference belongs to (``zoo.evaluation.image_choice``).
    """

    sample: Sample
    task: str
    metric: str
    references: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    candidates: tuple[str, ...] = ()
    other_media: tuple[Medium, ...] = ()

    @property
    def answers_with_box(self) -> bool:
        """Whether what is scored is a box in the answer."""
        return self.metric == "box_iou" or self.metric.partition(":")[0] in BOX_METRICS
